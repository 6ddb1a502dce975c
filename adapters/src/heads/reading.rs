//! What a `head_config.json` says.
use super::{HeadConfig, HeadType, fields};
use crate::{
    Error, Host, Result,
    files::{CONFIG as ADAPTER_CONFIG, object},
};
use serde_json::Value;
use std::path::Path;

/// The name of the adapter in a directory.
pub(super) fn adapter_name(directory: &Path) -> Option<String> {
    object(&directory.join(ADAPTER_CONFIG)).ok()?.get("name")?.as_str().map(String::from)
}

/// The `config` of a `head_config.json`.
pub(super) fn read(types: &[&HeadType], config: Value, host: &Host) -> Result<Box<dyn HeadConfig>> {
    let Value::Object(mut fields) = config else {
        return Err(Error::Config("`config` is not an object".into()));
    };
    let name = match fields.remove("head_type") {
        Some(Value::String(name)) => name,
        other => return Err(Error::Config(format!("`head_type` is {other:?}, expected a text"))),
    };
    let known: Vec<_> = types.iter().map(|t| t.name).collect();
    let Some(t) = types.iter().find(|t| t.name == name) else {
        return Err(Error::Config(format!("`head_type` is `{name}`; supported: {}", known.join(", "))));
    };
    fields::turned(&mut fields)?;
    (t.read)(fields, host)
}
