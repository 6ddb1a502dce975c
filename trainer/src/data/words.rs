//! JSONL with words: one object a line, with a list of words and a list of their labels.
use super::columns::{Column, Columns};
use super::format::Format;
use super::jsonl::{get, kind, objects};
use super::record::{Chosen, Content, Input, Label, Record, Want};
use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::path::Path;

/// The format's row in the registry.
pub(super) const FORMAT: Format = Format { extensions: &["jsonl"], contents: &[Content::Words], read };

/// The usual names of the words' field, and of their labels'.
const WORDS: [&str; 2] = ["tokens", "words"];
const LABELS: [&str; 6] = ["ner_tags", "pos_tags", "chunk_tags", "tags", "ner", "labels"];

fn read(path: &Path, text: &str, columns: &Columns, want: Want) -> Result<(Vec<Record>, Chosen)> {
    let mut records = vec![];
    let mut names: Option<(String, Option<String>)> = None;
    for object in objects(path, text) {
        let (line, object) = object?;
        let (words, labels) = match &mut names {
            Some(names) => names,
            none => none.insert((
                field(path, &object, &columns.text, &WORDS, "--text-column")?,
                match want.labels || columns.label.is_some() {
                    true => Some(field(path, &object, &columns.label, &LABELS, "--label-column")?),
                    false => None,
                },
            )),
        };
        let bad = |why: String| Error::line(path, line, why);
        let word = |(i, v): (usize, &Value)| match v {
            Value::String(word) if word.trim().is_empty() => {
                Err(bad(format!("word {i} of `{words}` is empty")))
            }
            Value::String(word) => Ok(word.clone()),
            other => Err(bad(format!("word {i} of `{words}` must be a string, not {}", kind(other)))),
        };
        let found =
            list(path, line, &object, words)?.iter().enumerate().map(word).collect::<Result<Vec<_>>>()?;
        if found.is_empty() {
            return Err(bad(format!("`{words}` is empty")));
        }
        let label = match labels {
            None => Label::None,
            Some(labels) => {
                let label = |(i, v): (usize, &Value)| match v {
                    Value::Null => Ok(None),
                    Value::String(label) if !label.trim().is_empty() => Ok(Some(label.trim().to_string())),
                    Value::Number(_) => Err(bad(format!(
                        "label {i} of `{labels}` is a number, and nothing says which label it stands for: write names"
                    ))),
                    other => Err(bad(format!("label {i} of `{labels}` must be a name, not {}", kind(other)))),
                };
                let each = list(path, line, &object, labels)?.iter().enumerate().map(label);
                let each = each.collect::<Result<Vec<_>>>()?;
                if each.len() != found.len() {
                    return Err(bad(format!(
                        "{} labels in `{labels}` for {} words",
                        each.len(),
                        found.len()
                    )));
                }
                Label::Each(each)
            }
        };
        records.push(Record { input: Input::Words(found), label, line });
    }
    let Some((words, labels)) = names else { return Err(Error::file(path, "the file is empty")) };
    let quoted = |name: String| format!("`{name}`");
    Ok((records, Chosen { text: quoted(words), pair: None, label: labels.map(quoted) }))
}

/// The field that is named, or the only one with a usual name.
fn field(
    path: &Path,
    object: &Map<String, Value>,
    named: &Option<Column>,
    usual: &[&str],
    option: &'static str,
) -> Result<String> {
    let found: Vec<String> = match named {
        Some(column) => vec![column.to_string()],
        None => usual.iter().filter(|name| object.contains_key(**name)).map(|n| n.to_string()).collect(),
    };
    match found.as_slice() {
        [one] if object.contains_key(one) => Ok(one.clone()),
        [] | [_] => {
            let wanted = match named {
                Some(column) => format!("field `{column}`"),
                None => format!(
                    "field {}",
                    crate::error::list(&usual.iter().map(|n| n.to_string()).collect::<Vec<_>>())
                ),
            };
            let columns = object.keys().cloned().collect();
            Err(Error::Column { path: path.into(), wanted, columns, option })
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

fn list<'a>(path: &Path, line: usize, object: &'a Map<String, Value>, name: &str) -> Result<&'a Vec<Value>> {
    let value = get(path, line, object, name)?;
    let why = || format!("field `{name}` must be a list, not {}", kind(value));
    value.as_array().ok_or_else(|| Error::line(path, line, why()))
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
