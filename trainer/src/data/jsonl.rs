//! JSONL: one object a line.

use std::path::Path;

use serde_json::{Map, Value};

use super::columns::{Columns, LABEL, TEXTS};
use super::format::Format;
use super::record::{Chosen, Content, Record, Want};
use crate::error::{Error, Result, list};

/// Names of the fields that are read, found in the first object and needed in every one.
struct Fields {
    text: String,
    pair: Option<String>,
    label: Option<String>,
}

/// The format's row in the registry.
pub(super) const FORMAT: Format =
    Format { extensions: &["jsonl"], contents: &[Content::Texts, Content::Documents], read };

/// The objects of a file, each with its line.
pub(super) fn objects<'a>(
    path: &'a Path,
    text: &'a str,
) -> impl Iterator<Item = Result<(usize, Map<String, Value>)>> + 'a {
    let lines = text.split('\n').enumerate().filter(|(_, source)| !source.trim().is_empty());
    lines.map(move |(i, source)| {
        let object = serde_json::from_str(source).map_err(|error| {
            let why = error.to_string();
            let why = why.split(" at line ").next().unwrap_or_default();
            Error::line(path, i + 1, format!("not a JSON object: {why}, at byte {}", error.column()))
        })?;
        Ok((i + 1, object))
    })
}

fn read(path: &Path, text: &str, columns: &Columns, want: Want) -> Result<(Vec<Record>, Chosen)> {
    let mut rows = Vec::new();
    let mut fields: Option<Fields> = None;
    for object in objects(path, text) {
        let (line, object) = object?;
        let fields = match &mut fields {
            Some(fields) => fields,
            none => none.insert(Fields::find(path, &object, columns, want)?),
        };
        let pair = fields.pair.as_ref().map(|name| string(path, line, &object, name)).transpose()?;
        let label = fields.label.as_ref().map(|name| label(path, line, &object, name)).transpose()?;
        let text = string(path, line, &object, &fields.text)?;
        rows.push(Record::row(path, line, text, pair, label.as_deref())?);
    }
    let Some(Fields { text, pair, label }) = fields else {
        return Err(Error::file(path, "the file is empty"));
    };
    let quoted = |name: String| format!("`{name}`");
    Ok((rows, Chosen { text: quoted(text), pair: pair.map(quoted), label: label.map(quoted) }))
}

impl Fields {
    fn find(path: &Path, object: &Map<String, Value>, columns: &Columns, want: Want) -> Result<Self> {
        let names: Vec<String> = object.keys().cloned().collect();
        let missing = |wanted: String, option| Error::Column {
            path: path.into(),
            wanted,
            columns: names.clone(),
            option,
        };
        let named = |name: String, option| {
            if object.contains_key(&name) {
                Ok(name)
            } else {
                Err(missing(format!("field `{name}`"), option))
            }
        };
        let mut usual = TEXTS.iter().filter(|(text, _)| object.contains_key(*text));
        let (text, beside) = match (&columns.text, usual.next(), usual.next()) {
            (Some(column), ..) => (named(column.to_string(), "--text-column")?, None),
            (None, Some((text, pair)), None) => (text.to_string(), *pair),
            (None, None, _) => {
                return Err(missing("field `text`, `sentence` or `sentence1`".into(), "--text-column"));
            }
            (None, Some((one, _)), Some((other, _))) => {
                let both = list(&[one.to_string(), other.to_string()]);
                let why = format!("several fields could be meant: {both}; choose with --text-column");
                return Err(Error::file(path, why));
            }
        };
        let pair = match &columns.pair {
            Some(column) => Some(named(column.to_string(), "--text-pair-column")?),
            None => beside.filter(|pair| object.contains_key(*pair)).map(Into::into),
        };
        let label = match (&columns.label, want.labels) {
            (Some(column), _) => Some(named(column.to_string(), "--label-column")?),
            (None, true) => Some(named(LABEL.into(), "--label-column")?),
            (None, false) => None,
        };
        Ok(Self { text, pair, label })
    }
}

pub(super) fn get<'a>(
    path: &Path,
    line: usize,
    object: &'a Map<String, Value>,
    name: &str,
) -> Result<&'a Value> {
    object.get(name).ok_or_else(|| {
        let have: Vec<String> = object.keys().cloned().collect();
        Error::line(path, line, format!("no field `{name}`; there are {}", list(&have)))
    })
}

fn string<'a>(path: &Path, line: usize, object: &'a Map<String, Value>, name: &str) -> Result<&'a str> {
    let value = get(path, line, object, name)?;
    let why = || format!("field `{name}` must be a string, not {}", kind(value));
    value.as_str().ok_or_else(|| Error::line(path, line, why()))
}

/// A label's name: the string, or the JSON text of a number or boolean.
fn label(path: &Path, line: usize, object: &Map<String, Value>, name: &str) -> Result<String> {
    match get(path, line, object, name)? {
        Value::String(label) => Ok(label.clone()),
        value @ (Value::Number(_) | Value::Bool(_)) => Ok(value.to_string()),
        value => {
            let why = format!("label `{name}` must be a string, a number or a boolean, not {}", kind(value));
            Err(Error::line(path, line, why))
        }
    }
}

pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
