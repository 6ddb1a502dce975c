//! Tokenizers without a `tokenizer.json`, made of the vocabulary files of transformers' slow
//! tokenizers.
//!
//! transformers builds the slow tokenizer, converts it (`convert_slow_tokenizer.py` of 4.57) and
//! hands the result to the fast class as if it had come from a `tokenizer.json`. The converters are
//! the functions of [`word_piece`], [`byte_level`] and [`sentence_piece`]; which one a class has is
//! said in `tokenizer_class.rs`.

pub(super) mod byte_level;
mod model;
mod recipe;
pub(super) mod sentence_piece;
mod slow;
mod wire;
pub(super) mod word_piece;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use super::added::Added;
use super::fields::{Fields, Special};
use super::source::{Files, PREFERRED, TEKKEN, TOKENIZER};
use super::template::plain;
use crate::error::{Error, Result};
use recipe::Recipe;

/// How a class makes its tokenizer of vocabulary files.
pub(super) struct Vocabulary {
    /// The files, the vocabulary first.
    pub files: &'static [&'static str],
    /// What its slow tokenizer makes of the special tokens that are given by their names alone.
    pub named: fn(&mut Fields),
    /// Its converter.
    convert: fn(&Given<'_>) -> Result<Recipe>,
}

/// What a converter is given.
pub(super) struct Given<'a> {
    /// The content of the files.
    pub files: &'a Files,
    /// The fields of the files.
    pub fields: &'a Fields,
    /// The tokens that the slow tokenizer is told to add, by id.
    pub added: &'a BTreeMap<i64, Added>,
    /// The special tokens by name.
    pub special: &'a Special,
    /// The file that the vocabulary is in.
    pub name: &'static str,
}

impl Vocabulary {
    /// Makes the tokenizer; gives the path of the vocabulary as well.
    pub fn build(
        &self,
        files: &Files,
        fields: &Fields,
        added: &BTreeMap<i64, Added>,
        special: &Special,
    ) -> Result<(PathBuf, tokenizers::Tokenizer)> {
        let name = self.source(files)?;
        for field in ["vocab_file", "merges_file"] {
            if fields.get(field).is_some() {
                return Err(fields.error(field, "makes transformers read a file of another place"));
            }
        }
        let given = Given { files, fields, added, special, name };
        let recipe = (self.convert)(&given)?;
        let path = files.path(name);
        let tokenizer = recipe.make().map_err(|why| Error::file(&path, why))?;
        Ok((path, tokenizer))
    }

    /// The file that transformers reads the vocabulary from.
    fn source(&self, files: &Files) -> Result<&'static str> {
        let own = self.files.first().copied().unwrap_or_default();
        if files.has(TOKENIZER) {
            return Ok(own);
        }
        if files.has(PREFERRED) {
            return Ok(PREFERRED);
        }
        match files.has(TEKKEN) {
            true => Err(Error::file(&files.path(TEKKEN), "is not supported, and transformers would read it")),
            false => Ok(own),
        }
    }
}

impl<'a> Given<'a> {
    /// The content of the vocabulary.
    pub fn vocabulary(&self) -> Result<&'a [u8]> {
        self.content(self.name)
    }

    /// The content of a file that must be there.
    pub fn content(&self, name: &str) -> Result<&'a [u8]> {
        if !self.files.has(name) {
            let source = std::io::ErrorKind::NotFound.into();
            return Err(Error::Read { path: self.files.path(name), source });
        }
        Ok(self.files.content(name))
    }

    /// A file of text, with the ends of lines that Python reads as `\n`.
    pub fn text(&self, name: &str) -> Result<String> {
        let text = std::str::from_utf8(self.content(name)?);
        let text = text.map_err(|e| self.wrong(name, format!("not UTF-8 at byte {}", e.valid_up_to())))?;
        Ok(text.replace("\r\n", "\n").replace('\r', "\n"))
    }

    /// An error about a file.
    pub fn wrong(&self, name: &str, why: impl Into<String>) -> Error {
        Error::file(&self.files.path(name), why)
    }

    /// A special token that stands in a template, and so must be there.
    pub fn token(&self, field: &str) -> Result<&'a str> {
        let token = self.special.iter().find(|(name, _)| name == field).and_then(|(_, t)| t.first());
        let token = token.ok_or_else(|| self.fields.error(field, "is missing"))?.content();
        plain(token).map_err(|why| self.fields.error(field, why))
    }

    /// A field that is true or false, and that transformers takes for the default if it is null.
    pub fn flag(&self, field: &str, default: bool) -> Result<bool> {
        match self.fields.given(field) {
            None => Ok(default),
            Some(_) => self.fields.flag(field, default),
        }
    }

    /// A field that is true or false, and that transformers takes for false if it is null.
    pub fn flag_or_null(&self, field: &str, default: bool) -> Result<bool> {
        match self.fields.get(field) {
            Some(Value::Null) => Ok(false),
            _ => self.fields.flag(field, default),
        }
    }
}

/// Special tokens of these fields, where they are names alone, with settings; `special` ones are
/// looked for before a text is normalised.
pub(super) fn with_settings(fields: &mut Fields, names: &[&str], special: bool) {
    for name in names {
        if let Some(token) = fields.get(name).and_then(Value::as_str) {
            let token = Added { normalized: Some(!special), ..Added::new(token, special) };
            fields.set(name, token.json());
        }
    }
}

#[cfg(test)]
mod tests;
