//! `run.toml`: the options of a run.
use crate::program::options::{Options, Settings};

/// A `run.toml`: checked, and what is written of it is read again and is the same.
pub fn options(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let Ok(options) = Options::parse("run.toml", text) else { return false };
    let Ok(settings) = options.resolve() else { return false };
    let _ = (settings.recipe(), settings.columns());
    let written = settings.to_toml();
    let again = Options::parse("run.toml", &written).and_then(Options::resolve);
    let again: Settings = again.unwrap_or_else(|e| panic!("{e} in what was written:\n{written}"));
    assert_eq!(again.to_toml(), written);
    true
}
