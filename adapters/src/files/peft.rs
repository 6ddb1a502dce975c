//! PEFT's checkpoints: `base_model.model.{module}.{tensor}`, and heads among the modules that were
//! saved whole.
use super::{CONFIG, Format, Host, json};
use crate::{Fields, Result};
use engraft_engine::{
    Load,
    checkpoint::{TensorData, serialize_with},
};

/// PEFT's files do not say an adapter's name; it calls one `default` unless it is told otherwise.
pub(crate) const NAME: &str = "default";
/// What stands in front of the heads of models that read a prompt or a prefix, whose adapter is no
/// part of the model.
pub(crate) const OUTER: &str = "base_model.";
/// What stands in front of every other name.
pub(crate) const ROOT: &str = "base_model.model.";
/// The heads of transformers' models for tasks, which PEFT saves with an adapter
/// (`modules_to_save`).
const HEADS: [&str; 3] = ["classifier", "qa_outputs", "score"];

/// The files of a configuration and its tensors, with what is said of the model they are for.
pub(crate) fn files(
    fields: &Fields,
    tensors: &[(String, TensorData<'_>)],
    host: &Host,
) -> Result<Vec<(String, Vec<u8>)>> {
    let data = serialize_with(tensors, host.note().as_deref())?;
    Ok(vec![(CONFIG.into(), json(fields)?), (Format::Peft.tensors().into(), data)])
}
/// The tensors of a head among those of an adapter have their place: [`crate::Head::load`] reads
/// them.
pub(crate) fn mark_heads(load: &mut Load<'_>) {
    let names: Vec<String> = load.unused();
    names.iter().filter(|n| head_of(n).is_some()).for_each(|n| load.mark(n));
}
/// (head with what stands in front, its own name, tensor) of a tensor's name.
pub(crate) fn head_of(name: &str) -> Option<(String, &'static str, &str)> {
    let (root, rest) = [ROOT, OUTER].iter().find_map(|root| Some((root, name.strip_prefix(root)?)))?;
    HEADS.iter().find_map(|h| Some((format!("{root}{h}"), *h, rest.strip_prefix(h)?.strip_prefix('.')?)))
}
