//! Names that tensors have in AdapterHub's files of one model alone: on DistilBERT the prefixes of an
//! attention are called `self`, on all others `self_prefix`.
const MODEL: &str = "distilbert";
const COLLECTION: &str = ".prefix_tunings.";

/// The name with one key for another behind that of the adapter, if it has it.
fn keyed(name: &str, from: &str, to: &str) -> Option<String> {
    let (place, rest) = name.split_once(COLLECTION)?;
    let (adapter, key) = rest.split_once('.')?;
    let tensor = key.strip_prefix(from)?.strip_prefix('.')?;
    Some(format!("{place}{COLLECTION}{adapter}.{to}.{tensor}"))
}
/// What a tensor is called elsewhere, if that is something else.
pub(crate) fn usual(name: &str) -> Option<String> {
    keyed(name, "self", "self_prefix")
}
/// What it is called in files for this `model_type`.
pub(crate) fn of_model(model: &str, name: String) -> String {
    let own = (model == MODEL).then(|| keyed(&name, "self_prefix", "self")).flatten();
    own.unwrap_or(name)
}
