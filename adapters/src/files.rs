//! AdapterHub's files: what they say about the model, and tensors by name.
use crate::{Error, Result};
use engraft_engine::{Tensor, checkpoint::TensorData};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::path::Path;

/// The version of the library whose format is written.
const VERSION: &str = "adapters.1.3.0";

/// The model an adapter or head was made for, as its files say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Channels of the residual stream.
    pub hidden_size: usize,
    /// The library's class of the model.
    pub model_class: String,
    /// A name to remember the backbone by; may be empty.
    pub model_name: String,
    /// `model_type` of its configuration.
    pub model_type: String,
}

/// `adapter_config.json` and `head_config.json`: a configuration and whom it is for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Card<C> {
    pub config: C,
    hidden_size: Option<usize>,
    model_class: Option<String>,
    model_name: Option<String>,
    model_type: Option<String>,
    pub name: Option<String>,
    pub version: Option<String>,
}
impl<C: Serialize + DeserializeOwned> Card<C> {
    pub fn new(config: C, host: &Host, name: &str) -> Card<C> {
        Card {
            config,
            hidden_size: Some(host.hidden_size),
            model_class: Some(host.model_class.clone()),
            model_name: Some(host.model_name.clone()),
            model_type: Some(host.model_type.clone()),
            name: Some(name.into()),
            version: Some(VERSION.into()),
        }
    }
    /// Reads a card and refuses one for another model.
    pub fn read(path: &Path, host: &Host) -> Result<Card<C>> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| engraft_engine::Error::Io { path: path.to_path_buf(), source })?;
        let bad = |what: String| Error::File { path: path.to_path_buf(), what };
        let card: Card<C> = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
        if let Some(n) = card.hidden_size.filter(|n| *n != host.hidden_size) {
            return Err(bad(format!("made for a model of {n} channels; this one has {}", host.hidden_size)));
        }
        if let Some(t) = card.model_type.as_ref().filter(|t| **t != host.model_type) {
            return Err(bad(format!("made for a model of type `{t}`; this one is `{}`", host.model_type)));
        }
        Ok(card)
    }
    pub fn bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec_pretty(self).map_err(|e| Error::Config(e.to_string()))
    }
}

/// Weights under their checkpoint names, in f32, as a safetensors file.
pub(crate) fn tensors(named: &[(String, &Tensor)]) -> Result<Vec<u8>> {
    let data = named.iter().map(|(n, t)| Ok((n.clone(), TensorData::f32(&t.to_f32()?, t.shape()))));
    Ok(engraft_engine::checkpoint::serialize(&data.collect::<Result<Vec<_>>>()?)?)
}
/// Writes files into a directory: all of them, or none.
pub(crate) fn write(directory: &Path, files: &[(String, Vec<u8>)]) -> Result<()> {
    let files: Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect();
    Ok(engraft_engine::output::write_directory(directory, &files)?)
}
