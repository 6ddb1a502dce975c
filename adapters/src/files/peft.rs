//! PEFT's checkpoints: `base_model.model.{module}.{tensor}`, and heads among the modules that were
//! saved whole.
use super::{CONFIG, Format, Host, json};
use crate::{Fields, Result};
use engraft_engine::checkpoint::{TensorData, serialize_with};

/// PEFT's files do not say an adapter's name; it calls one `default` unless it is told otherwise.
pub(crate) const NAME: &str = "default";
/// What stands in front of the heads of models that read a prompt or a prefix, whose adapter is no
/// part of the model.
pub(crate) const OUTER: &str = "base_model.";
/// What stands in front of every other name.
pub(crate) const ROOT: &str = "base_model.model.";
/// The field that says what the model is called.
const BASE: &str = "base_model_name_or_path";

/// The files of a configuration and its tensors, with what is said of the model they are for.
pub(crate) fn files(
    fields: &Fields,
    tensors: &[(String, TensorData<'_>)],
    host: &Host,
) -> Result<Vec<(String, Vec<u8>)>> {
    let (data, mut fields) = (serialize_with(tensors, host.note().as_deref())?, fields.clone());
    let is_named = fields.get(BASE).is_some_and(|name| !name.is_null());
    if !(is_named || host.model_name.is_empty()) {
        fields.insert(BASE.into(), host.model_name.as_str().into());
    }
    Ok(vec![(CONFIG.into(), json(&fields)?), (Format::Peft.tensors().into(), data)])
}
