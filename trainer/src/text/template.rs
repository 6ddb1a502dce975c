//! Special tokens around texts: `TemplateProcessing` of the `tokenizers` crate.

use serde_json::{Value, json};

/// A part of a template, with its type.
#[derive(Clone, Copy)]
pub(super) enum Part<'a> {
    /// The first text, `A`, or the second, `B`.
    Text(&'static str, u32),
    /// A special token.
    Token(&'a str, u32),
}

/// A `TemplateProcessing` of texts and special tokens, these with their ids.
pub(super) fn template(single: &[Part<'_>], pair: &[Part<'_>], ids: &[(&str, u32)]) -> Value {
    let part = |part: &Part<'_>| match part {
        Part::Text(id, kind) => json!({ "Sequence": { "id": id, "type_id": kind } }),
        Part::Token(id, kind) => json!({ "SpecialToken": { "id": id, "type_id": kind } }),
    };
    let token = |&(token, id): &(&str, u32)| {
        (token.to_string(), json!({ "id": token, "ids": [id], "tokens": [token] }))
    };
    json!({
        "type": "TemplateProcessing",
        "single": single.iter().map(part).collect::<Vec<_>>(),
        "pair": pair.iter().map(part).collect::<Vec<_>>(),
        "special_tokens": Value::Object(ids.iter().map(token).collect()),
    })
}

/// A special token as Python's short form of a template takes it.
pub(super) fn plain(token: &str) -> Result<&str, String> {
    match token.is_empty()
        || token.starts_with('$')
        || token.contains(|c: char| c == ':' || c.is_whitespace())
    {
        true => Err(format!("is `{token}`, which cannot stand in a template")),
        false => Ok(token),
    }
}
