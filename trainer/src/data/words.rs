//! Words in objects: a list of words and a list of their labels.
use super::columns::{Column, Columns};
use super::name::Name;
use super::object::{Object, kind};
use super::objects::{self, Form, each_object};
use super::record::{Chosen, Content, Input, Label, Record, Want};
use crate::error::{Error, Result};
use serde_json::Value;
use std::path::Path;

/// What is read of objects, a row of the registry.
pub(super) const FORM: Form = Form {
    contents: &[Content::Words],
    open: |objects, columns, want| {
        each_object(objects, columns, |path, names| Fields::find(path, names, columns, want))
    },
};

/// The usual names of the words' field, and of their labels'.
const WORDS: [&str; 2] = ["tokens", "words"];
const LABELS: [&str; 6] = ["ner_tags", "pos_tags", "chunk_tags", "tags", "ner", "labels"];

/// Names of the fields that are read.
struct Fields {
    words: String,
    labels: Option<String>,
}

impl Fields {
    fn find(path: &Path, names: &[String], columns: &Columns, want: Want) -> Result<Fields> {
        let label = || field(path, names, &columns.label, &LABELS, "--label-column");
        let words = field(path, names, &columns.text, &WORDS, "--text-column")?;
        let labels = want.labels || columns.label.is_some();
        Ok(Fields { words, labels: labels.then(label).transpose()? })
    }
}

impl objects::Fields for Fields {
    fn chosen(&self) -> Chosen {
        let label = self.labels.as_ref().map(|name| format!("`{name}`"));
        Chosen { text: format!("`{}`", self.words), pair: None, label, classes: None }
    }
    fn label(&self) -> Option<&str> {
        self.labels.as_deref()
    }
    fn inputs(&self) -> Vec<&str> {
        vec![&self.words]
    }
    fn record(&self, object: &Object) -> Result<Record> {
        sentence(self, object)
    }
}

fn sentence(Fields { words, labels }: &Fields, object: &Object) -> Result<Record> {
    let line = object.line();
    let word = |(i, v): (usize, Value)| match v {
        Value::String(word) if word.trim().is_empty() => {
            Err(object.bad(format!("word {i} of `{words}` is empty")))
        }
        Value::String(word) => Ok(word),
        other => Err(object.bad(format!("word {i} of `{words}` must be a string, not {}", kind(&other)))),
    };
    let found: Vec<String> = object.list(words)?.into_iter().enumerate().map(word).collect::<Result<_>>()?;
    if found.is_empty() {
        return Err(object.bad(format!("`{words}` is empty")));
    }
    let Some(labels) = labels else {
        return Ok(Record::new(Input::Words(found), Label::None, line));
    };
    let label = |(i, v): (usize, &Value)| match v {
        Value::Null => Ok(None),
        Value::String(label) if !label.trim().is_empty() => Ok(Some(Name::of_text(label))),
        Value::Number(_) => Err(object.bad(format!(
            "label {i} of `{labels}` is a number, and nothing says which label it stands for: write names"
        ))),
        other => Err(object.bad(format!("label {i} of `{labels}` must be a name, not {}", kind(other)))),
    };
    let each: Vec<_> = object.list(labels)?.iter().enumerate().map(label).collect::<Result<_>>()?;
    if each.len() != found.len() {
        let why = format!("{} labels in `{labels}` for {} words", each.len(), found.len());
        return Err(object.bad(why));
    }
    Ok(Record::new(Input::Words(found), Label::Each(each), line))
}

/// The field that is named, or the only one with a usual name.
fn field(
    path: &Path,
    names: &[String],
    named: &Option<Column>,
    usual: &[&str],
    option: &'static str,
) -> Result<String> {
    let has = |name: &str| names.iter().any(|have| have == name);
    let found: Vec<String> = match named {
        Some(column) => vec![column.to_string()],
        None => usual.iter().filter(|name| has(name)).map(|n| n.to_string()).collect(),
    };
    match found.as_slice() {
        [one] if has(one) => Ok(one.clone()),
        [] | [_] => {
            let wanted = match named {
                Some(column) => format!("field `{column}`"),
                None => format!(
                    "field {}",
                    crate::error::list(&usual.iter().map(|n| n.to_string()).collect::<Vec<_>>())
                ),
            };
            Err(Error::Column { path: path.into(), wanted, columns: names.to_vec(), option })
        }
        several => {
            let why = format!(
                "several fields could be meant: {}; choose with {option}",
                crate::error::list(several)
            );
            Err(Error::file(path, why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{parse_words, sentences};
    use super::*;

    fn refused(text: &str) -> String {
        parse_words("a.jsonl", text, &Columns::default(), true).unwrap_err().to_string()
    }

    #[test]
    fn words_and_labels_are_lists() {
        let text = "{\"id\":1,\"tokens\":[\"EU\",\"says\"],\"ner_tags\":[\"B-ORG\",\"O\"]}\n\n\
                    {\"tokens\":[\"no\"],\"ner_tags\":[null]}\n";
        let data = parse_words("a.jsonl", text, &Columns::default(), true).unwrap();
        assert_eq!(sentences(&data)[0], (vec!["EU", "says"], vec!["B-ORG", "O"]));
        assert_eq!(data.records[1].label, Label::Each(vec![None]));
        let named = Columns { text: Some("w".parse().unwrap()), ..Columns::default() };
        let data = parse_words("a.jsonl", "{\"w\":[\"a\"]}", &named, false).unwrap();
        assert_eq!((data.records[0].words(), &data.records[0].label), (&["a".to_string()][..], &Label::None));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        assert!(refused("{\"tokens\":[\"a\"]}").contains("a.jsonl has no field `ner_tags`, `pos_tags`"));
        let two = "{\"tokens\":[\"a\"],\"ner_tags\":[\"O\"],\"pos_tags\":[\"X\"]}";
        assert!(refused(two).contains("several fields could be meant: `ner_tags` and `pos_tags`"));
        assert!(
            refused("{\"words\":[\"a\"],\"tags\":[3]}")
                .starts_with("a.jsonl:1: label 0 of `tags` is a number")
        );
        assert_eq!(refused("{\"words\":[\"a\"],\"tags\":[]}"), "a.jsonl:1: 0 labels in `tags` for 1 words");
        assert_eq!(refused("{\"words\":[],\"tags\":[]}"), "a.jsonl:1: `words` is empty");
        assert_eq!(refused("{\"words\":[\" \"],\"tags\":[\"O\"]}"), "a.jsonl:1: word 0 of `words` is empty");
        assert_eq!(
            refused("{\"words\":\"a\",\"tags\":[]}"),
            "a.jsonl:1: field `words` must be a list, not a string"
        );
    }
}
