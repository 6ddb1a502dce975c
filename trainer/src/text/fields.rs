//! The fields of a tokenizer's files, each with the file that it comes from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use super::added::Named;
use crate::error::{Error, Result};

/// The file that has most of the fields.
pub(super) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// Special tokens by the name of their field, in transformers' order.
pub(super) const SPECIAL: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
/// The list of those that have no field of their own.
pub(super) const ADDITIONAL: &str = "additional_special_tokens";

/// Special tokens by the name of their field; a list of them has one name.
pub(super) type Special = Vec<(String, Vec<Named>)>;

/// The value of a field.
pub(super) struct Field {
    /// The file that it comes from.
    pub file: &'static str,
    /// What it is there.
    pub value: Value,
}

/// Fields by name, each with the file that it comes from.
pub(super) struct Fields {
    /// Where the files are.
    pub directory: PathBuf,
    /// The fields.
    pub values: BTreeMap<String, Field>,
}

impl Fields {
    /// The value of a field.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).map(|field| &field.value)
    }

    /// A field that counts as missing if it is null.
    pub fn given(&self, key: &str) -> Option<&Value> {
        self.get(key).filter(|value| !value.is_null())
    }

    /// Another value for a field.
    pub fn set(&mut self, key: &str, value: Value) {
        let file = self.values.get(key).map_or(TOKENIZER_CONFIG, |field| field.file);
        self.values.insert(key.into(), Field { file, value });
    }

    /// A value for a field that no file has.
    pub fn set_default(&mut self, key: &str, value: impl Into<Value>) {
        if !self.values.contains_key(key) {
            self.set(key, value.into());
        }
    }

    /// An error that names a field and its file.
    pub fn error(&self, key: &str, why: impl AsRef<str>) -> Error {
        let file = self.values.get(key).map_or(TOKENIZER_CONFIG, |field| field.file);
        self.wrong(file, key, why.as_ref())
    }

    /// An error that names a field of this file.
    pub fn wrong(&self, file: &str, key: &str, why: &str) -> Error {
        Error::file(&self.directory.join(file), format!("field `{key}` {why}"))
    }

    /// A field that is true or false.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.error(key, format!("is {value}, neither true nor false")))
    }

    /// A field that is `left` or `right`.
    pub fn side(&self, key: &str) -> Result<Option<Side>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match value.as_str() {
                Some("left") => Ok(Some(Side::Left)),
                Some("right") => Ok(Some(Side::Right)),
                _ => Err(self.error(key, format!("is {value}, neither \"left\" nor \"right\""))),
            },
        }
    }

    /// The most tokens that a text is cut to if nothing else is said; transformers writes 1e30 for
    /// no limit.
    pub fn model_max_length(&self) -> Result<Option<usize>> {
        let key = ["model_max_length", "max_len"].into_iter().find(|key| self.get(key).is_some());
        let Some((key, value)) = key.and_then(|key| Some((key, self.given(key)?))) else { return Ok(None) };
        match value.as_u64().filter(|length| *length > 0) {
            Some(length) => Ok(usize::try_from(length).ok()),
            None if value.as_f64().is_some_and(|length| length > 1e20) => Ok(None),
            None => Err(self.error(key, format!("is {value}, not a number of tokens"))),
        }
    }

    /// The special tokens that have a name, by name.
    pub fn special(&self) -> Result<Special> {
        let read = |key: &str, value: &Value| Named::of(value).map_err(|why| self.error(key, why));
        let mut found: Special = vec![];
        for key in SPECIAL {
            let token = self.given(key).map(|value| read(key, value)).transpose()?;
            let token = token.filter(|t| !matches!(t, Named::Name(name) if name.is_empty()));
            found.push((key.into(), token.into_iter().collect()));
        }
        let listed = match self.given(ADDITIONAL) {
            None => vec![],
            Some(Value::Array(tokens)) => {
                tokens.iter().map(|t| read(ADDITIONAL, t)).collect::<Result<_>>()?
            }
            Some(_) => return Err(self.error(ADDITIONAL, "is not a list")),
        };
        found.push((ADDITIONAL.into(), listed));
        const EXTRA: &str = "extra_special_tokens";
        match self.get(EXTRA) {
            None => {}
            Some(Value::Object(more)) => {
                for (name, value) in more {
                    let token = vec![read(EXTRA, value)?];
                    match found.iter_mut().find(|(n, _)| n == name) {
                        Some((_, before)) => *before = token,
                        None => found.push((name.clone(), token)),
                    }
                }
            }
            Some(_) => return Err(self.error(EXTRA, "is not an object")),
        }
        Ok(found)
    }
}

/// A side of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}
