//! The files that a tokenizer is made of, and the fields that transformers' fast tokenizers merge
//! from them.
//!
//! `tokenizer.json` is not the whole tokenizer: `PreTrainedTokenizerBase._from_pretrained`
//! (transformers 4.57) makes keyword arguments of `tokenizer_config.json`, lets
//! `special_tokens_map.json` overwrite them and adds the tokens of `added_tokens.json`, unless the
//! configuration lists all added tokens itself. Which class then reads them is said by
//! `tokenizer_config.json` or else by `config.json`. Where there is no `tokenizer.json` the class
//! makes the tokenizer of its vocabulary ([`VOCABULARIES`]).

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::added::{Added, Named};
use super::fields::{ADDITIONAL, Field, Fields, SPECIAL, TOKENIZER_CONFIG};
pub use super::source::{Files, TOKENIZER, VOCABULARIES};
use super::tokenizer_class::{self, Class};
use super::vocabulary::Vocabulary;
use crate::error::{Error, Result};

const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";
const ADDED_TOKENS: &str = "added_tokens.json";
const CONFIG: &str = "config.json";
/// The files beside `tokenizer.json` that make a difference to it.
pub const COMPANIONS: [&str; 4] = [TOKENIZER_CONFIG, SPECIAL_TOKENS_MAP, ADDED_TOKENS, CONFIG];

/// Marks tokens with settings that come from `special_tokens_map.json`, which are known by name
/// earlier than others.
const OF_MAP: &str = "__of_map";

impl Files {
    /// Reads them in a model's directory. An error if there is neither a `tokenizer.json` nor a
    /// vocabulary.
    pub fn read(directory: impl AsRef<Path>) -> Result<Files> {
        let mut files = Files::of(directory.as_ref(), []);
        [TOKENIZER].into_iter().chain(COMPANIONS).try_for_each(|name| files.take(name))?;
        if !files.has(TOKENIZER) {
            VOCABULARIES.into_iter().try_for_each(|name| files.take(name))?;
            if !VOCABULARIES.into_iter().any(|name| files.has(name)) {
                let path = files.path(TOKENIZER);
                std::fs::read(&path).map_err(|source| Error::Read { path, source })?; // as it said before
            }
        } else if let Ok(Some(merged)) = files.merge()
            && let Some(vocabulary) = merged.vocabulary(&files)
        {
            vocabulary.files.iter().try_for_each(|name| files.take(name))?;
        }
        Ok(files)
    }

    /// Where texts are cut if nothing else is said: `model_max_length`.
    pub fn model_max_length(&self) -> Result<Option<usize>> {
        self.merge()?.map_or(Ok(None), |merged| merged.fields.model_max_length())
    }

    fn object(&self, name: &str) -> Result<Option<Map<String, Value>>> {
        let Some(bytes) = self.contents.get(name) else { return Ok(None) };
        let wrong = |why: String| Error::file(&self.path(name), why);
        match serde_json::from_slice(bytes).map_err(|e| wrong(format!("not JSON: {e}")))? {
            Value::Object(object) => Ok(Some(object)),
            _ => Err(wrong("not an object".into())),
        }
    }

    /// The end of a text that `config.json` names.
    pub(super) fn end_of_model(&self) -> Option<u32> {
        let config = self.object(CONFIG).ok()??;
        u32::try_from(config.get("eos_token_id")?.as_u64()?).ok()
    }

    /// The fields of all files, and the class that reads them; none for a `tokenizer.json` that
    /// stands alone.
    pub(super) fn merge(&self) -> Result<Option<Merged>> {
        if COMPANIONS.iter().all(|name| !self.contents.contains_key(name)) {
            return Ok(None);
        }
        let config = self.object(TOKENIZER_CONFIG)?;
        let class = self.class(config.as_ref())?;
        let mut fields = Fields { directory: self.directory.clone(), values: BTreeMap::new() };
        for (key, value) in config.into_iter().flatten().filter(|(key, _)| key != "tokenizer_class") {
            fields.values.insert(key, Field { file: TOKENIZER_CONFIG, value });
        }
        let mut added = BTreeMap::new();
        let mut by_content = BTreeMap::new();
        if let Some(listed) = fields.values.get("added_tokens_decoder") {
            let wrong = |why: String| fields.error("added_tokens_decoder", why);
            let tokens = listed.value.as_object().ok_or_else(|| wrong("is not an object".into()))?;
            for (id, token) in tokens {
                let number = id.trim().parse::<i64>().map_err(|_| wrong(format!("has the id `{id}`")))?;
                let token =
                    token.as_object().ok_or_else(|| wrong(format!("has a {id} that is not an object")))?;
                let token = Added::read(token).map_err(|why| wrong(format!("at {id}: {why}")))?;
                by_content.insert(token.content.clone(), token.clone());
                added.insert(number, token);
            }
        } else {
            let stray = self.overwrite(&mut fields)?;
            self.add_to(&fields, &stray, &mut added, &mut by_content)?;
        }
        // a special token that is also an added one is what is said of the added one
        for key in SPECIAL {
            let Some(field) = fields.values.get_mut(key) else { continue };
            if let Some(token) = Named::of(&field.value).ok().and_then(|t| by_content.get(t.content())) {
                field.value = token.json();
            }
        }
        Ok(Some(Merged { class, fields, added }))
    }

    /// As `AutoTokenizer` finds it.
    fn class(&self, tokenizer_config: Option<&Map<String, Value>>) -> Result<&'static Class> {
        let named = |object: &Map<String, Value>, file: &'static str| {
            let Some(name) = object.get("tokenizer_class").filter(|v| !v.is_null()) else { return Ok(None) };
            let found = name.as_str().and_then(tokenizer_class::named);
            let why = || format!("field `tokenizer_class`: {name} is not a tokenizer that is supported");
            found.map(Some).ok_or_else(|| Error::file(&self.path(file), why()))
        };
        if let Some(class) = tokenizer_config.map_or(Ok(None), |o| named(o, TOKENIZER_CONFIG))? {
            return Ok(class);
        }
        let config = self.object(CONFIG)?.unwrap_or_default();
        if let Some(class) = named(&config, CONFIG)? {
            return Ok(class);
        }
        let kind = config.get("model_type").and_then(Value::as_str).unwrap_or_default();
        let why = || {
            format!("no file names a `tokenizer_class`, and `model_type` `{kind}` has none that is supported")
        };
        tokenizer_class::of_model(kind).ok_or_else(|| Error::file(&self.path(CONFIG), why()))
    }

    /// Fields of `special_tokens_map.json` in place of those of the configuration; its additional
    /// special tokens come after those. Gives the name under which transformers then files tokens
    /// of `added_tokens.json`: that of the last additional one, through a variable that is used
    /// twice.
    fn overwrite(&self, fields: &mut Fields) -> Result<String> {
        let mut stray = "None".to_string();
        for (key, mut value) in self.object(SPECIAL_TOKENS_MAP)?.into_iter().flatten() {
            let special = |token: &mut Map<String, Value>| {
                token.insert("special".into(), true.into());
                token.insert("__type".into(), "AddedToken".into());
                token.insert(OF_MAP.into(), true.into());
            };
            match &mut value {
                Value::Object(token) => special(token),
                Value::Array(tokens) if key == ADDITIONAL => {
                    let before = fields.values.remove(ADDITIONAL).map(|field| field.value);
                    let before = match before {
                        Some(Value::Array(before)) => before,
                        None | Some(Value::Null) => vec![],
                        Some(_) => return Err(fields.wrong(TOKENIZER_CONFIG, ADDITIONAL, "is not a list")),
                    };
                    let configured = before.len();
                    let mut all = before;
                    for mut token in tokens.drain(..) {
                        if let Value::Object(token) = &mut token {
                            special(token);
                        }
                        // tokens with settings are not yet equal to those of the configuration
                        let from = if token.is_string() { 0 } else { configured };
                        let same = |other: &Value| match (Named::of(other), Named::of(&token)) {
                            (Ok(a), Ok(b)) => a.same(&b),
                            _ => false,
                        };
                        if let Ok(named) = Named::of(&token) {
                            stray = named.content().into();
                        }
                        if !all[from..].iter().any(same) {
                            all.push(token);
                        }
                    }
                    value = all.into();
                }
                _ => {}
            }
            fields.values.insert(key, Field { file: SPECIAL_TOKENS_MAP, value });
        }
        Ok(stray)
    }

    /// The tokens of `added_tokens.json`, and those of `tokenizer.json`, which come later.
    fn add_to(
        &self,
        fields: &Fields,
        stray: &str,
        added: &mut BTreeMap<i64, Added>,
        by_content: &mut BTreeMap<String, Added>,
    ) -> Result<()> {
        let wrong = |file: &str, why: String| Error::file(&self.path(file), why);
        if let Some(tokens) = self.object(ADDED_TOKENS)? {
            let early = |value: &&Value| value.is_string() || value.get(OF_MAP).is_some();
            let content = |value: &Value| Named::of(value).map(|t| t.content().to_string()).ok();
            let listed = fields.get(ADDITIONAL).and_then(Value::as_array).into_iter().flatten();
            let values = SPECIAL.iter().filter_map(|key| fields.get(key)).chain(listed);
            let special: Vec<String> = values.filter(early).filter_map(content).collect();
            for (token, id) in tokens {
                let id =
                    id.as_i64().ok_or_else(|| wrong(ADDED_TOKENS, format!("`{token}` has the id {id}")))?;
                let special = special.contains(&token);
                let token = Added { normalized: Some(!special), ..Added::new(token, special) };
                by_content.insert(stray.into(), token.clone());
                added.insert(id, token);
            }
        }
        if !self.has(TOKENIZER) {
            return Ok(());
        }
        let own: Own = serde_json::from_slice(self.content(TOKENIZER))
            .map_err(|e| wrong(TOKENIZER, format!("not a tokenizer: {e}")))?;
        for token in &own.added_tokens {
            let id = token["id"].as_i64();
            let read = token.as_object().ok_or("not an object".to_string()).and_then(Added::read);
            let (Some(id), Ok(token)) = (id, read) else {
                return Err(wrong(TOKENIZER, format!("`added_tokens` has {token}")));
            };
            by_content.insert(token.content.clone(), token.clone());
            added.insert(id, token);
        }
        Ok(())
    }
}

/// Of `tokenizer.json` the tokens that are added to its vocabulary.
#[derive(Deserialize)]
struct Own {
    #[serde(default)]
    added_tokens: Vec<Value>,
}

/// What the files say together.
pub(super) struct Merged {
    /// The class that reads it.
    pub class: &'static Class,
    /// Its keyword arguments.
    pub fields: Fields,
    /// Tokens to add, by the ids that are written beside them, which say no more than their order.
    pub added: BTreeMap<i64, Added>,
}

impl Merged {
    /// The vocabulary that the tokenizer is made of, if it is not made of `tokenizer.json`.
    pub fn vocabulary(&self, files: &Files) -> Option<&'static Vocabulary> {
        let space = self.class.space_from_vocabulary && self.fields.given("add_prefix_space").is_some();
        self.class.vocabulary.filter(|_| space || !files.has(TOKENIZER))
    }
}
