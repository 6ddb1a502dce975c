//! Questions about texts, an object for each, and what SQuAD's own form shares with it.
//!
//! An answer is a text and `answer_start`, the code point at which it begins in the context. One that
//! does not stand there, with or without the blanks around it, is still a right answer to compare
//! with, and nothing is learned from it; how many there are is said at the end of the file.
use super::columns::{Column, Columns};
use super::format::Records;
use super::object::{Object, kind};
use super::objects::{self, Form, Objects, each_object};
use super::record::{Chosen, Content, Input, Label, Record, Span, Want};
use super::source::Notes;
use crate::error::{Error, Result};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// What is read of objects, a row of the registry.
pub(super) const FORM: Form = Form { contents: &[Content::Questions], open };

const QUESTION: &str = "question";
const CONTEXT: &str = "context";
const ANSWERS: &str = "answers";
const ID: &str = "id";

fn open(objects: Box<dyn Objects>, columns: &Columns, want: Want) -> Result<(Chosen, Records)> {
    let checks = Checks::of(objects.path(), objects.notes());
    let (chosen, records) = each_object(objects, columns, |path, names| {
        let fields = Fields::of(columns, want);
        fields.check(path, names)?;
        Ok(Checked { fields, checks: checks.clone() })
    })?;
    Ok((chosen, checks.noted(records)))
}

/// Fields of questions that are looked at as those of one file.
struct Checked {
    fields: Fields,
    checks: Checks,
}

impl objects::Fields for Checked {
    fn chosen(&self) -> Chosen {
        self.fields.chosen()
    }
    fn label(&self) -> Option<&str> {
        self.fields.answers.as_deref()
    }
    fn inputs(&self) -> Vec<&str> {
        vec![ID, &self.fields.question, &self.fields.context]
    }
    fn record(&self, object: &Object) -> Result<Record> {
        self.fields.record(object, &self.checks)
    }
}

/// Names of the fields that are read.
pub(super) struct Fields {
    question: String,
    context: String,
    answers: Option<String>,
}

impl Fields {
    pub fn of(columns: &Columns, want: Want) -> Fields {
        let name = |column: &Option<Column>, usual: &str| {
            column.as_ref().map_or_else(|| usual.to_string(), ToString::to_string)
        };
        let answers = want.labels || columns.label.is_some();
        Fields {
            question: name(&columns.text, QUESTION),
            context: name(&columns.pair, CONTEXT),
            answers: answers.then(|| name(&columns.label, ANSWERS)),
        }
    }
    pub fn chosen(&self) -> Chosen {
        let quoted = |name: &String| format!("`{name}`");
        Chosen {
            text: quoted(&self.question),
            pair: Some(quoted(&self.context)),
            label: self.answers.as_ref().map(quoted),
            classes: None,
        }
    }
    /// An error that names the option if a field is not there.
    fn check(&self, path: &Path, names: &[String]) -> Result<()> {
        let has = |name: &String| names.contains(name);
        let all = [
            (Some(&self.question), "--text-column"),
            (Some(&self.context), "--text-pair-column"),
            (self.answers.as_ref(), "--label-column"),
        ];
        let missing = all.into_iter().find(|(name, _)| name.is_some_and(|name| !has(name)));
        missing.map_or(Ok(()), |(name, option)| {
            let wanted = format!("field `{}`", name.map_or("", String::as_str));
            Err(Error::Column { path: path.into(), wanted, columns: names.to_vec(), option })
        })
    }
    /// The question that an object is.
    pub fn record(&self, object: &Object, checks: &Checks) -> Result<Record> {
        let id = if object.has(ID) { object.value(ID)? } else { Value::Null };
        let answers = match &self.answers {
            Some(name) => {
                Some(answers(object.value(name)?).map_err(|why| object.bad(format!("`{name}`: {why}")))?)
            }
            None => None,
        };
        let (question, context) = (object.string(&self.question)?, object.string(&self.context)?);
        checks.record(object.path(), object.line(), id, question, context, answers)
    }
}

/// An answer as it is written: its text, and where it begins.
pub(super) type Written = (String, usize);

/// Answers as a list of objects, or as an object of lists.
fn answers(value: Value) -> Result<Vec<Written>, String> {
    let one = |(text, start): (Value, Value)| match (text, start.as_u64()) {
        (Value::String(text), Some(start)) => Ok((text, usize::try_from(start).unwrap_or(usize::MAX))),
        (Value::String(_), None) => Err(format!("`answer_start` is {start}, expected a number from 0")),
        (other, _) => Err(format!("the `text` of an answer must be a string, not {}", kind(&other))),
    };
    let take = |object: &mut Map<String, Value>, name: &str| {
        object.remove(name).ok_or_else(|| format!("an answer has no `{name}`"))
    };
    match value {
        Value::Array(all) => {
            let each = all.into_iter().map(|value| match value {
                Value::Object(mut fields) => {
                    one((take(&mut fields, "text")?, take(&mut fields, "answer_start")?))
                }
                other => Err(format!("an answer must be an object, not {}", kind(&other))),
            });
            each.collect()
        }
        Value::Object(mut fields) => match (take(&mut fields, "text")?, take(&mut fields, "answer_start")?) {
            (Value::Array(texts), Value::Array(starts)) if texts.len() == starts.len() => {
                texts.into_iter().zip(starts).map(one).collect()
            }
            _ => Err("`text` and `answer_start` must be lists of one length".into()),
        },
        other => Err(format!("must be a list or an object of lists, not {}", kind(&other))),
    }
}

/// What is looked at in every question of a file.
#[derive(Clone)]
pub(super) struct Checks(Rc<RefCell<Seen>>);

struct Seen {
    path: PathBuf,
    notes: Notes,
    /// A part of the hash of every id.
    ids: HashSet<[u8; 16]>,
    questions: usize,
    /// Answers that do not stand where they should, and the first of their questions.
    misplaced: usize,
    first: String,
}

impl Checks {
    pub fn of(path: &Path, notes: &Notes) -> Checks {
        let (path, notes) = (path.to_path_buf(), notes.clone());
        let (ids, first) = (HashSet::new(), String::new());
        Checks(Rc::new(RefCell::new(Seen { path, notes, ids, questions: 0, misplaced: 0, first })))
    }
    /// A question with its answers, if they are read. One without an id is called by its number in
    /// the file.
    pub fn record(
        &self,
        path: &Path,
        line: usize,
        id: Value,
        question: String,
        context: String,
        answers: Option<Vec<Written>>,
    ) -> Result<Record> {
        let mut seen = self.0.borrow_mut();
        let bad = |why: String| Err(Error::line(path, line, why));
        seen.questions += 1;
        let id = match id {
            Value::Null => (seen.questions - 1).to_string(),
            Value::String(id) => id,
            Value::Number(id) => id.to_string(),
            other => return bad(format!("`{ID}` must be a string, not {}", kind(&other))),
        };
        let mut short = [0; 16];
        short.copy_from_slice(&Sha256::digest(&id)[..16]);
        if !seen.ids.insert(short) {
            return bad(format!("a second question with the id `{id}`"));
        }
        if question.trim().is_empty() || context.trim().is_empty() {
            let what = if context.trim().is_empty() { "text of the question" } else { "question" };
            return bad(format!("the {what} `{id}` is empty"));
        }
        let spans = |answers: Vec<Written>| {
            let ranges = ranges(&context, &answers);
            answers.into_iter().zip(ranges).map(|((text, _), range)| Span { text, range }).collect::<Vec<_>>()
        };
        let spans = answers.map(spans);
        let misplaced = spans.iter().flatten().filter(|span| span.range.is_none()).count();
        if misplaced > 0 && seen.misplaced == 0 {
            seen.first = id.clone();
        }
        seen.misplaced += misplaced;
        let label = spans.map_or(Label::None, Label::Spans);
        Ok(Record::new(Input::Question { id, question, context }, label, line))
    }
    /// Says at the end of the records how many answers do not stand where they should.
    pub fn noted(self, records: Records) -> Records {
        let end = std::iter::from_fn(move || {
            let seen = self.0.borrow();
            if seen.misplaced > 0 {
                let (path, n, first) = (seen.path.display(), seen.misplaced, &seen.first);
                let note = format!(
                    "{path}: {n} answers to {} questions do not stand where `answer_start` says, the first \
                     of them to `{first}`: nothing is learned from them",
                    seen.questions
                );
                let mut notes = seen.notes.borrow_mut();
                if !notes.contains(&note) {
                    notes.push(note);
                }
            }
            None
        });
        Box::new(records.chain(end))
    }
}

/// Where answers stand in a text, in code points; none for one that does not stand where it says.
fn ranges(context: &str, answers: &[Written]) -> Vec<Option<(usize, usize)>> {
    let standing = |text: &str, start: usize| {
        let from = context.char_indices().map(|(at, _)| at).nth(start)?;
        let is_there = !text.is_empty() && context[from..].starts_with(text);
        is_there.then(|| (start, start + text.chars().count()))
    };
    let one = |(text, start): &Written| {
        let bare = text.trim();
        let blanks = text.chars().take_while(|c| c.is_whitespace()).count();
        standing(text, *start)
            .filter(|_| !bare.is_empty())
            .or_else(|| standing(bare, start.saturating_add(blanks)))
            .or_else(|| standing(bare, *start))
    };
    answers.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_count_code_points() {
        let of = |text: &str, start: usize| ranges("Élan é Björk ", &[(text.into(), start)])[0];
        assert_eq!(of("é", 5), Some((5, 6)));
        assert_eq!(of("Björk", 7), Some((7, 12)));
        assert_eq!(of("Björk", 9), None, "not bytes");
        assert_eq!(of(" Björk", 7), Some((7, 12)));
        assert_eq!(of(" Björk ", 6), Some((6, 13)), "as it stands there");
        assert_eq!(of("  Björk", 5), Some((7, 12)));
        assert_eq!([of("x", 5), of("Élan", 99), of("", 0), of(" ", 6), of("Élan", usize::MAX)], [None; 5]);
    }

    #[test]
    fn both_forms_of_answers() {
        let read = |json: &str| answers(serde_json::from_str(json).unwrap());
        let one = Ok(vec![("a".to_string(), 3)]);
        assert_eq!(read(r#"[{"text": "a", "answer_start": 3}]"#), one);
        assert_eq!(read(r#"{"text": ["a"], "answer_start": [3]}"#), one);
        assert_eq!([read("[]"), read(r#"{"text": [], "answer_start": []}"#)], [Ok(vec![]), Ok(vec![])]);
        for bad in [
            "3",
            "[3]",
            r#"[{"text": "a"}]"#,
            r#"[{"text": 1, "answer_start": 3}]"#,
            r#"[{"text": "a", "answer_start": -1}]"#,
            r#"{"text": ["a"], "answer_start": []}"#,
            r#"{"text": "a", "answer_start": 3}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
