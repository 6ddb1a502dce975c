//! How the command line takes a value out of a short list.
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use engraft::choice::Choice;

/// Takes the names of a choice, lists them in the help, and suggests one for a name that is nearly
/// right.
pub fn one_of<T: Choice + Send + Sync>() -> impl TypedValueParser<Value = T> {
    let value = |n: &engraft::choice::Named<T>| {
        PossibleValue::new(n.names[0]).aliases(n.names[1..].iter().copied()).help(n.help.trim())
    };
    PossibleValuesParser::new(T::ALL.iter().map(value)).try_map(|name| T::of(&name))
}
