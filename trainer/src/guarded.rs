//! Crates that read files take some of what these say for granted, and panic where it does not hold. The
//! files are a stranger's, so that a panic is an error about them, like any other.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a crate gives, or why it gives nothing: its error, or what its panic says. What it had in its
/// hands when it panicked is asked for nothing again, unless only caches of it can have changed.
pub(crate) fn guarded<T, E: Display>(name: &str, ask: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    let panic = match catch_unwind(AssertUnwindSafe(ask)) {
        Ok(given) => return given.map_err(|error| error.to_string()),
        Err(panic) => panic,
    };
    let text = panic.downcast_ref::<&str>().map(|said| said.to_string());
    let said = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    Err(format!("it is damaged, or asks for what the `{name}` crate cannot do ({said})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_that_says_the_same() {
        assert_eq!(guarded::<_, String>("a", || Ok(3)), Ok(3));
        assert_eq!(guarded::<(), &str>("a", || Err("no")), Err("no".into()));
        let one = [1];
        let said = guarded::<_, String>("a", || Ok(one[one.len()])).unwrap_err();
        assert!(said.contains("index out of bounds"), "{said}");
        let said = guarded::<(), &str>("a", || panic!("bad split")).unwrap_err();
        assert!(said.ends_with("(bad split)"), "{said}");
    }
}
