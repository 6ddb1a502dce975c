//! `adapter_config.json` and `head_config.json` of AdapterHub: a configuration, and the model that
//! it is for.
use super::{json, object};
use crate::{Error, Result, grammar::Fields};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// The version of the library whose format is written.
pub(crate) const VERSION: &str = "adapters.1.3.0";

/// The model an adapter or head was made for, as its files say.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// Channels of the residual stream.
    pub hidden_size: usize,
    /// Channels of the embeddings of words.
    pub embedding_size: usize,
    /// The library's class of the model.
    pub model_class: String,
    /// Tokens of its vocabulary.
    pub vocabulary: usize,
    /// A name to remember the backbone by; may be empty.
    pub model_name: String,
    /// `model_type` of its configuration.
    pub model_type: String,
    /// The last layer of a language model shares the table of embeddings.
    pub tied: bool,
    /// `layer_norm_eps` of its configuration, which heads with norms use: 1e-12 where there is no
    /// such field.
    pub norm_eps: f32,
    /// What its weights are ([`engraft_engine::Checkpoint::fingerprint`]), if adapters are to
    /// record it.
    pub fingerprint: Option<String>,
}

/// A configuration and whom it is for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Card {
    pub config: Value,
    hidden_size: Option<usize>,
    /// The labels of a head that is not AdapterHub's own: {label: number}.
    #[serde(skip_serializing)]
    pub label2id: Option<Value>,
    pub model_class: Option<String>,
    model_name: Option<String>,
    model_type: Option<String>,
    pub name: Option<String>,
    /// How many labels a head has that is not AdapterHub's own.
    #[serde(skip_serializing)]
    pub num_labels: Option<usize>,
    /// What an adapter was for, before there was a `version`: `text_task` or `text_lang`.
    #[serde(rename = "type", skip_serializing)]
    pub kind: Option<String>,
    pub version: Option<String>,
}
impl Card {
    pub fn new(config: Fields, host: &Host, name: &str) -> Card {
        Card {
            config: Value::Object(config),
            hidden_size: Some(host.hidden_size),
            label2id: None,
            model_class: Some(host.model_class.clone()),
            model_name: Some(host.model_name.clone()),
            model_type: Some(host.model_type.clone()),
            name: Some(name.into()),
            num_labels: None,
            kind: None,
            version: Some(VERSION.into()),
        }
    }
    /// Reads a card and refuses one for another model.
    pub fn read(path: &Path, host: &Host) -> Result<Card> {
        Card::of(object(path)?, path, host)
    }
    pub fn of(fields: Fields, path: &Path, host: &Host) -> Result<Card> {
        let bad = |what: String| Error::File { path: path.to_path_buf(), what };
        let card: Card = serde_json::from_value(Value::Object(fields)).map_err(|e| bad(e.to_string()))?;
        if let Some(n) = card.hidden_size.filter(|n| *n != host.hidden_size) {
            return Err(bad(format!("made for a model of {n} channels; this one has {}", host.hidden_size)));
        }
        if let Some(t) = card.model_type.as_ref().filter(|t| **t != host.model_type) {
            return Err(bad(format!("made for a model of type `{t}`; this one is `{}`", host.model_type)));
        }
        Ok(card)
    }
    pub fn bytes(&self) -> Result<Vec<u8>> {
        json(self)
    }
}
