//! The `tokenizers` crate takes what its files say for granted, and panics where it does not hold.
//! The files are a stranger's, so that a panic is an error about them, like any other.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What the crate gives, or why it gives nothing: its error, or what its panic says.
pub(super) fn guarded<T>(ask: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    // of what it had in its hands when it panicked nothing but caches was changed
    let panic = match catch_unwind(AssertUnwindSafe(ask)) {
        Ok(given) => return given.map_err(|error| error.to_string()),
        Err(panic) => panic,
    };
    let text = panic.downcast_ref::<&str>().map(|said| said.to_string());
    let said = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    Err(format!("it is damaged, or asks for what the `tokenizers` crate cannot do ({said})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_that_says_the_same() {
        assert_eq!(guarded(|| Ok(3)), Ok(3));
        assert_eq!(guarded::<()>(|| Err("no".into())), Err("no".into()));
        let one = [1];
        let said = guarded(|| Ok(one[one.len()])).unwrap_err();
        assert!(said.contains("index out of bounds"), "{said}");
        let said = guarded::<()>(|| panic!("bad split")).unwrap_err();
        assert!(said.ends_with("(bad split)"), "{said}");
    }
}
