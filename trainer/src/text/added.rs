//! Tokens that stand beside a vocabulary, as the files of a tokenizer describe them.

use serde_json::{Map, Value, json};
use tokenizers::AddedToken;

/// `tokenizers.AddedToken` of Python: whether a token is normalised may be open until it is known
/// whether it is special.
#[derive(Debug, Clone)]
pub(super) struct Added {
    /// The token.
    pub content: String,
    /// Whether it stands for itself only as a whole word.
    pub single_word: bool,
    /// Whether it takes the white space on its left in.
    pub lstrip: bool,
    /// Whether it takes the white space on its right in.
    pub rstrip: bool,
    /// Whether it is looked for in the normalised text; if that is not said, special tokens are
    /// not.
    pub normalized: Option<bool>,
    /// Whether it is special.
    pub special: bool,
}

impl Added {
    /// A token without settings.
    pub fn new(content: impl Into<String>, special: bool) -> Added {
        let (single_word, lstrip, rstrip) = (false, false, false);
        Added { content: content.into(), single_word, lstrip, rstrip, normalized: None, special }
    }

    /// Reads a token with its settings; what is no setting is passed over.
    pub fn read(token: &Map<String, Value>) -> Result<Added, String> {
        let flag = |key: &str| match token.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(format!("`{key}` is {other}, neither true nor false")),
        };
        let content = match token.get("content") {
            None | Some(Value::Null) => "",
            Some(Value::String(content)) => content,
            Some(other) => return Err(format!("`content` is {other}, not a text")),
        };
        Ok(Added {
            content: content.into(),
            single_word: flag("single_word")?.unwrap_or(false),
            lstrip: flag("lstrip")?.unwrap_or(false),
            rstrip: flag("rstrip")?.unwrap_or(false),
            normalized: flag("normalized")?,
            special: flag("special")?.unwrap_or(false),
        })
    }

    /// As a value that [`Named::of`] reads.
    pub fn json(&self) -> Value {
        let mut token = json!({
            "__type": "AddedToken", "content": self.content, "single_word": self.single_word,
            "lstrip": self.lstrip, "rstrip": self.rstrip, "special": self.special,
        });
        if let Some(normalized) = self.normalized {
            token["normalized"] = normalized.into();
        }
        token
    }

    /// As the `tokenizers` crate has it.
    pub fn token(&self) -> AddedToken {
        AddedToken::from(self.content.clone(), self.special)
            .single_word(self.single_word)
            .lstrip(self.lstrip)
            .rstrip(self.rstrip)
            .normalized(self.normalized.unwrap_or(!self.special))
    }
}

/// A special token: its name alone, or with settings.
#[derive(Debug, Clone)]
pub(super) enum Named {
    /// The name alone.
    Name(String),
    /// With settings.
    Token(Added),
}

impl Named {
    /// Reads a text, or an object that says that it is a token.
    pub fn of(value: &Value) -> Result<Named, String> {
        match value {
            Value::String(name) => Ok(Named::Name(name.clone())),
            Value::Object(token) if token.get("__type").is_some_and(|t| t == "AddedToken") => {
                Ok(Named::Token(Added::read(token)?))
            }
            other => Err(format!("has {other}, neither a text nor an object of type AddedToken")),
        }
    }

    /// The token.
    pub fn content(&self) -> &str {
        match self {
            Named::Name(name) => name,
            Named::Token(token) => &token.content,
        }
    }

    /// Whether it is normalised is not open any longer.
    pub fn settle(&mut self) {
        if let Named::Token(token) = self {
            token.normalized.get_or_insert(!token.special);
        }
    }

    /// Whether they are equal; a name never equals a token with settings.
    pub fn same(&self, other: &Named) -> bool {
        match (self, other) {
            (Named::Name(a), Named::Name(b)) => a == b,
            (Named::Token(a), Named::Token(b)) => a.token() == b.token(),
            _ => false,
        }
    }
}
