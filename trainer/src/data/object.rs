//! An object of a JSONL file or a row of a table, of which only the fields that are asked for are looked
//! into. A cell of a row is what it would be in JSON, so that both are read in one way.
//!
//! Python's `json.dumps` writes two things that JSON does not know: NaN, Infinity and -Infinity,
//! and halves of surrogate pairs. They stand in the way of nobody who does not read their field.
use super::name::Name;
use super::record::{Content, Label};
use crate::error::{Error, Result, list};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// What takes the place of a number that is not finite, so that the rest of its line can be read.
const NOT_FINITE: &str = "{\"not finite\":0}";

/// Rows of a table with columns that have names.
pub(super) trait Rows {
    /// The names of the columns.
    fn names(&self) -> &[String];
    /// What stands in a row and a column, both counted from zero. The error says what is wrong with it.
    fn value(&self, row: usize, column: usize) -> Result<Value, String>;
}

/// An object, its fields not yet looked into, and where it stands.
pub(super) struct Object {
    fields: Fields,
    path: Arc<Path>,
    line: usize,
}

enum Fields {
    /// Of a JSON object, with the texts of their values.
    Json(Vec<(String, Box<RawValue>)>),
    /// The cells of a row.
    Row(Rc<dyn Rows>, usize),
}

impl Object {
    /// The object in a line of JSON.
    pub fn parse(path: &Arc<Path>, line: usize, source: &str) -> Result<Object> {
        let read = |source: &str| serde_json::from_str::<JsonFields>(source);
        let found = read(source).or_else(|error| match without_infinities(source) {
            Cow::Owned(other) if source.trim_start().starts_with('{') => read(&other).map_err(|_| error),
            _ => Err(error),
        });
        let JsonFields(fields) = found.map_err(|error| {
            let (why, at) = (why(&error), error.column());
            Error::line(path, line, format!("not a JSON object: {why}, at byte {at}"))
        })?;
        Ok(Object { fields: Fields::Json(fields), path: path.clone(), line })
    }

    /// The object that a row of some is, by its number among them; `line` says where it stands in the
    /// file.
    pub fn of_row(path: &Arc<Path>, line: usize, rows: &Rc<dyn Rows>, row: usize) -> Object {
        Object { fields: Fields::Row(rows.clone(), row), path: path.clone(), line }
    }

    /// The names of its fields, in their order.
    pub fn names(&self) -> Vec<String> {
        match &self.fields {
            Fields::Json(fields) => fields.iter().map(|(name, _)| name.clone()).collect(),
            Fields::Row(rows, _) => rows.names().to_vec(),
        }
    }

    pub fn has(&self, name: &str) -> bool {
        match &self.fields {
            Fields::Json(fields) => fields.iter().any(|(have, _)| have == name),
            Fields::Row(rows, _) => rows.names().iter().any(|have| have == name),
        }
    }

    /// An error about this object.
    pub fn bad(&self, why: impl Into<String>) -> Error {
        Error::line(&self.path, self.line, why)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it stands.
    pub fn line(&self) -> usize {
        self.line
    }

    fn missing(&self, name: &str) -> Error {
        self.bad(format!("no field `{name}`; there are {}", list(&self.names())))
    }

    /// The JSON text of a field's value: of a name that stands twice the last one, as Python takes it.
    pub fn raw(&self, name: &str) -> Result<Cow<'_, str>> {
        match &self.fields {
            Fields::Json(fields) => {
                let found = fields.iter().rev().find(|(have, _)| have == name);
                found.map(|(_, value)| value.get().into()).ok_or_else(|| self.missing(name))
            }
            Fields::Row(..) => Ok(self.value(name)?.to_string().into()),
        }
    }

    /// A field's value.
    pub fn value(&self, name: &str) -> Result<Value> {
        match &self.fields {
            Fields::Json(_) => self.parsed(name, &self.raw(name)?),
            Fields::Row(rows, row) => {
                let column = rows.names().iter().rposition(|have| have == name);
                let value = rows.value(*row, column.ok_or_else(|| self.missing(name))?);
                value.map_err(|why| self.bad(format!("`{name}`: {why}")))
            }
        }
    }

    /// A value in a field, from its text.
    fn parsed(&self, name: &str, raw: &str) -> Result<Value> {
        serde_json::from_str(raw).map_err(|e| self.bad(format!("field `{name}` is not JSON: {}", why(&e))))
    }

    /// A field that is a string.
    pub fn string(&self, name: &str) -> Result<String> {
        match self.value(name)? {
            Value::String(text) => Ok(text),
            other => Err(self.bad(format!("field `{name}` must be a string, not {}", kind(&other)))),
        }
    }

    /// A field that is a string or a list of strings.
    pub fn strings(&self, name: &str) -> Result<Vec<String>> {
        let one = |value| match value {
            Value::String(text) => Ok(text),
            other => Err(self.bad(format!(
                "field `{name}` must be a list of strings, and there is {} in it",
                kind(&other)
            ))),
        };
        match self.value(name)? {
            Value::String(text) => Ok(vec![text]),
            Value::Array(all) => all.into_iter().map(one).collect(),
            other => {
                let what = kind(&other);
                Err(self.bad(format!("field `{name}` must be a string or a list of strings, not {what}")))
            }
        }
    }

    /// A field that is a list.
    pub fn list(&self, name: &str) -> Result<Vec<Value>> {
        match self.value(name)? {
            Value::Array(values) => Ok(values),
            other => Err(self.bad(format!("field `{name}` must be a list, not {}", kind(&other)))),
        }
    }

    /// What a field says as a label where this is read; none where it is null or an empty string.
    pub fn label_of(&self, content: Content, name: &str) -> Result<Label> {
        match (content, &*self.raw(name)?) {
            (_, "null") => Ok(Label::None),
            (Content::LabelSets, raw) => {
                let all: Vec<Box<RawValue>> = match serde_json::from_str(raw) {
                    Ok(all) => all,
                    Err(_) => self.list(name).map(|_| vec![])?, // which says what is wrong
                };
                let one = |raw: &str| match self.name(name, raw)? {
                    label if label.taken().is_empty() => {
                        Err(self.bad(format!("a label in `{name}` is empty")))
                    }
                    label => Ok(label),
                };
                Ok(Label::Set(all.iter().map(|raw| one(raw.get())).collect::<Result<_>>()?))
            }
            (Content::Values, _) => {
                let label = self.label(name)?;
                match label.taken() {
                    "" => Ok(Label::None),
                    text => Label::of_number(text).map_err(|why| self.bad(why)),
                }
            }
            _ => match self.label(name)? {
                label if label.taken().is_empty() => Ok(Label::None),
                label => Ok(Label::One(label)),
            },
        }
    }

    /// A label's name: a string, or the value of a number or a boolean.
    pub fn label(&self, name: &str) -> Result<Name> {
        self.name(name, &self.raw(name)?)
    }

    /// The same of a value in a field, from its text.
    fn name(&self, name: &str, raw: &str) -> Result<Name> {
        if raw.starts_with(|c: char| c == '-' || c.is_ascii_digit() || c == 't' || c == 'f') {
            let why = || self.bad(format!("label `{name}` is out of every range: {raw}"));
            return Name::of_value(raw).ok_or_else(why);
        }
        match self.parsed(name, raw)? {
            Value::String(label) => Ok(Name::of_text(&label)),
            other => {
                let why = "must be a string, a number or a boolean, not";
                Err(self.bad(format!("label `{name}` {why} {}", kind(&other))))
            }
        }
    }
}

/// What takes the place of a number that is not finite.
pub(super) fn not_finite() -> Value {
    serde_json::json!({"not finite": 0})
}

pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(o) if o.len() == 1 && o.contains_key("not finite") => {
            "NaN or Infinity, which JSON does not know"
        }
        Value::Object(_) => "an object",
    }
}

/// What serde_json says, without the place, which is said otherwise.
pub(super) fn why(error: &serde_json::Error) -> String {
    error.to_string().split(" at line ").next().unwrap_or_default().into()
}

struct JsonFields(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for JsonFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = JsonFields;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a map")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonFields, A::Error> {
                let mut fields = vec![];
                while let Some(entry) = map.next_entry()? {
                    fields.push(entry);
                }
                Ok(JsonFields(fields))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

/// The same text with something else in the place of NaN, Infinity and -Infinity outside of
/// strings.
fn without_infinities(source: &str) -> Cow<'_, str> {
    let (mut out, mut from) = (String::new(), 0);
    let (mut at, mut in_string) = (0, false);
    let bytes = source.as_bytes();
    while at < bytes.len() {
        let word =
            ["NaN", "-Infinity", "Infinity"].into_iter().find(|w| bytes[at..].starts_with(w.as_bytes()));
        match (bytes[at], in_string, word) {
            (b'"', ..) => in_string = !in_string,
            (b'\\', true, _) => at += 1,
            (_, false, Some(word)) => {
                out.push_str(&source[from..at]);
                out.push_str(NOT_FINITE);
                at += word.len();
                from = at;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    match from {
        0 => source.into(),
        _ => (out + &source[from..]).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(source: &str) -> Result<Object> {
        Object::parse(&Path::new("a.jsonl").into(), 3, source)
    }
    fn object(source: &str) -> Object {
        parse(source).unwrap()
    }
    fn refused(source: &str) -> String {
        parse(source).err().unwrap().to_string()
    }

    #[test]
    fn fields_that_nobody_reads_may_hold_what_python_writes() {
        let o = object(
            r#"{"a": NaN, "b": [-Infinity, {"c": Infinity}], "d\"": "NaN \" NaN", "e": "\ud83d", "f": 1}"#,
        );
        assert_eq!(o.names(), ["a", "b", "d\"", "e", "f"]);
        assert_eq!((o.string("d\"").unwrap(), o.label("f").unwrap().taken()), ("NaN \" NaN".into(), "1"));
        let says = |error: Error, why: &str| assert_eq!(error.to_string(), format!("a.jsonl:3: {why}"));
        let not = "NaN or Infinity, which JSON does not know";
        says(o.string("a").unwrap_err(), &format!("field `a` must be a string, not {not}"));
        says(
            o.label("a").unwrap_err(),
            &format!("label `a` must be a string, a number or a boolean, not {not}"),
        );
        let surrogate = o.string("e").unwrap_err().to_string();
        assert!(surrogate.starts_with("a.jsonl:3: field `e` is not JSON: "), "{surrogate}");
        assert!(o.label("e").is_err());
        says(o.string("g").unwrap_err(), "no field `g`; there are `a`, `b`, `d\"`, `e` and `f`");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for bad in [
            "NaN",
            "[]",
            "{\"a\": nan}",
            "{\"a\": NaNa}",
            "{\"a\": 1,}",
            "{\"a\": +Infinity}",
            "{'a': 1}",
            "{\"a\": 1} 2",
        ] {
            assert!(refused(bad).starts_with("a.jsonl:3: not a JSON object: "), "{bad}");
        }
        assert_eq!(object(r#"{"a": "x", "a": "y"}"#).string("a").unwrap(), "y", "the last one counts");
    }

    #[test]
    fn labels_are_numbers_by_value() {
        let o = object(r#"{"a": 1.0, "b": 18446744073709551617, "c": false, "d": " x", "e": 1e99999999999}"#);
        let label = |name: &str| o.label(name).unwrap();
        assert_eq!((label("a").taken(), label("a").exact()), ("1", "1.0"));
        assert_eq!(label("b").taken(), "18446744073709551617");
        assert_eq!((label("c").taken(), label("d").taken(), label("d").exact()), ("false", "x", " x"));
        assert!(o.label("e").is_err());
    }
}
