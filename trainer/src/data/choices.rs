//! Texts with choices, of which one is right: in objects and tables, in the forms in which such data sets
//! come.
//!
//! | fields | the text | beside it, for each choice |
//! |---|---|---|
//! | `sent1`, `sent2`, `ending0`, `ending1`, .. (SWAG) | `sent1` | `sent2` and the ending |
//! | `article`, `question`, `options` (RACE) | `article` | the question with the option in the place of `_`, or behind it |
//! | `premise`, `question` of `cause` or `effect`, `choice1`, `choice2`, .. (COPA) | `premise`, and the question in words | the choice |
//! | a text, perhaps `question`, and `choices`, `options` or `endings` | the text; the question if there is no other | the question, if it is not the text, and the choice |
//!
//! The text of the last form is `context`, `ctx`, `passage` or `text`. Choices are a list, or an object
//! of the lists `text` and `label`. The right choice (`label`, `answer` or `answerKey`) is a number
//! counted from 0; or the name that the list `label` gives it, its text, its letter, or such a number
//! as text, whichever there is first.
use super::columns::Columns;
use super::object::{Object, kind};
use super::objects::{self, each_object};
use super::record::{Chosen, Content, Input, Label, Record, Want};
use crate::error::{Error, Result, list};
use serde_json::Value;
use std::path::Path;

/// What is read of objects, a row of the registry.
pub(super) const FORM: objects::Form = objects::Form {
    contents: &[Content::Choices],
    open: |objects, columns, want| {
        each_object(objects, columns, |path, names| Form::find(path, names, columns, want))
    },
};

const TEXTS: [&str; 4] = ["context", "ctx", "passage", "text"];
const LISTS: [&str; 3] = ["choices", "options", "endings"];
const LABELS: [&str; 3] = ["label", "answer", "answerKey"];
const QUESTION: &str = "question";

/// What stands beside the text in front of a choice.
#[derive(Clone, Copy, PartialEq)]
enum Lead {
    /// The field's text.
    Plain,
    /// The same, where a gap may be for the choice.
    Gap,
    /// Whether the cause or the effect is asked for, which is said behind the text.
    Cause,
}

/// Where choices stand.
enum Offered {
    List(String),
    Each(Vec<String>),
}

/// Which fields are read, and how.
pub(super) struct Form {
    text: String,
    lead: Option<(String, Lead)>,
    offered: Offered,
    label: Option<String>,
}

impl Form {
    /// The form that fits the names of the fields; an error if there is none, or several.
    pub fn find(path: &Path, names: &[String], columns: &Columns, want: Want) -> Result<Form> {
        let has = |name: &str| names.iter().any(|have| have == name);
        let missing = |wanted: &str, option| Error::Column {
            path: path.into(),
            wanted: wanted.into(),
            columns: names.to_vec(),
            option,
        };
        let one = |usual: &[&str], choose: &str| {
            let found: Vec<String> = usual.iter().filter(|n| has(n)).map(|n| n.to_string()).collect();
            match found.len() {
                0 | 1 => Ok(found.into_iter().next()),
                _ => {
                    let why = format!("several fields could be meant: {}; {choose}", list(&found));
                    Err(Error::file(path, why))
                }
            }
        };
        let named = |column: &Option<super::columns::Column>, option| match column {
            Some(column) if has(&column.to_string()) => Ok(Some(column.to_string())),
            Some(column) => Err(missing(&format!("field `{column}`"), option)),
            None => Ok(None),
        };
        let numbered = |name: &str, first: usize| -> Vec<String> {
            (first..).map(|i| format!("{name}{i}")).take_while(|name| has(name)).collect()
        };
        let label = match named(&columns.label, "--label-column")? {
            None if want.labels => {
                let found = one(&LABELS, "choose with --label-column")?;
                let wanted = "field `label`, `answer` or `answerKey`";
                Some(found.ok_or_else(|| missing(wanted, "--label-column"))?)
            }
            found => found,
        };
        let (endings, choices) = (numbered("ending", 0), numbered("choice", 1));
        let own = named(&columns.text, "--text-column")?;
        let asked = named(&columns.pair, "--text-pair-column")?;
        let is_free = own.is_none() && asked.is_none();
        if is_free && has("sent1") && has("sent2") && !endings.is_empty() {
            let lead = Some(("sent2".into(), Lead::Plain));
            return Ok(Form { text: "sent1".into(), lead, offered: Offered::Each(endings), label });
        }
        if is_free && has("premise") && has(QUESTION) && !choices.is_empty() {
            let lead = Some((QUESTION.into(), Lead::Cause));
            return Ok(Form { text: "premise".into(), lead, offered: Offered::Each(choices), label });
        }
        let offered = one(&LISTS, "one list of choices is read")?;
        let wanted = || format!("list `choices`, `options` or `endings`; it has {}", list(names));
        let offered = offered.ok_or_else(|| Error::file(path, format!("there is no {}", wanted())))?;
        let offered = Offered::List(offered);
        if is_free && has("article") && has(QUESTION) {
            let lead = Some((QUESTION.into(), Lead::Gap));
            return Ok(Form { text: "article".into(), lead, offered, label });
        }
        let text = match own {
            Some(text) => Some(text),
            None => one(&TEXTS, "choose with --text-column")?,
        };
        let question = asked.or_else(|| has(QUESTION).then(|| QUESTION.into()));
        let (text, lead) = match (text, question) {
            (Some(text), question) => {
                let question = question.filter(|question| *question != text);
                (text, question.map(|name| (name, Lead::Plain)))
            }
            (None, Some(question)) => (question, None),
            (None, None) => return Err(missing("field `context` or `question`", "--text-column")),
        };
        Ok(Form { text, lead, offered, label })
    }

    pub fn chosen(&self) -> Chosen {
        let quoted = |name: &String| format!("`{name}`");
        let offered = match &self.offered {
            Offered::List(name) => quoted(name),
            Offered::Each(names) => list(names),
        };
        let label = self.label.as_ref().map(quoted);
        Chosen { text: quoted(&self.text), pair: Some(offered), label, classes: None }
    }

    /// What one place of a file says, whose fields `value` gives.
    pub fn record(&self, path: &Path, line: usize, value: &dyn Fn(&str) -> Result<Value>) -> Result<Record> {
        let bad = |why: String| Error::line(path, line, why);
        let as_text = |name: &str, value: Value| match value {
            Value::String(text) => Ok(text),
            other => Err(bad(format!("`{name}` must be a string, not {}", kind(&other)))),
        };
        let text_of = |name: &str| as_text(name, value(name)?);
        let texts = |name: &str, value: Value| match value {
            Value::Array(all) => all.into_iter().map(|one| as_text(name, one)).collect::<Result<Vec<_>>>(),
            other => Err(bad(format!("`{name}` must be a list, not {}", kind(&other)))),
        };
        let (choices, names) = match &self.offered {
            Offered::Each(each) => (each.iter().map(|n| text_of(n)).collect::<Result<Vec<_>>>()?, vec![]),
            Offered::List(name) => match value(name)? {
                Value::Object(mut lists) => {
                    let mut take = |part: &str| lists.remove(part).map(|v| texts(part, v)).transpose();
                    let found = take("text")?.ok_or_else(|| bad(format!("`{name}` has no list `text`")))?;
                    (found, take("label")?.unwrap_or_default())
                }
                other => (texts(name, other)?, vec![]),
            },
        };
        let mut text = text_of(&self.text)?;
        let lead =
            self.lead.as_ref().map(|(name, how)| Ok::<_, Error>((text_of(name)?, *how))).transpose()?;
        if choices.is_empty() || choices.iter().any(|choice| choice.trim().is_empty()) {
            return Err(bad("there are no choices, or one of them is empty".into()));
        }
        if text.trim().is_empty() {
            return Err(bad(format!("`{}` is empty", self.text)));
        }
        let second = |choice: &String| match &lead {
            Some((lead, Lead::Gap)) if lead.contains('_') => lead.replace('_', choice),
            Some((lead, Lead::Plain | Lead::Gap)) if !lead.trim().is_empty() => format!("{lead} {choice}"),
            _ => choice.clone(),
        };
        let seconds = choices.iter().map(second).collect();
        if let Some((asked, Lead::Cause)) = &lead {
            text += match asked.trim() {
                "cause" => " What was the CAUSE of this?",
                "effect" => " What happened as a RESULT?",
                other => return Err(bad(format!("`{QUESTION}` is `{other}`, expected `cause` or `effect`"))),
            };
        }
        let label = match &self.label {
            None => Label::None,
            Some(name) => {
                let found = value(name)?;
                let right = right(&found, &choices, &names);
                Label::Choice(right.map_err(|why| bad(format!("`{name}` is {found}, {why}")))?)
            }
        };
        Ok(Record::new(Input::Choices { text, choices, seconds }, label, line))
    }
}

impl objects::Fields for Form {
    fn chosen(&self) -> Chosen {
        Form::chosen(self)
    }
    fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }
    fn inputs(&self) -> Vec<&str> {
        let offered = match &self.offered {
            Offered::List(name) => std::slice::from_ref(name),
            Offered::Each(names) => names,
        };
        let lead = self.lead.as_ref().map(|(name, _)| name);
        lead.into_iter().chain([&self.text]).chain(offered).map(|name| &**name).collect()
    }
    fn record(&self, object: &Object) -> Result<Record> {
        Form::record(self, object.path(), object.line(), &|name| object.value(name))
    }
}

/// The number of the right choice, as a file says it. The error says what is wrong with it.
fn right(label: &Value, choices: &[String], names: &[String]) -> Result<usize, String> {
    let count = choices.len();
    let within = |number: Option<u64>| {
        let number = number.and_then(|n| usize::try_from(n).ok()).filter(|n| *n < count);
        number.ok_or_else(|| format!("which is none of {count} choices"))
    };
    let only = |all: &[String], text: &str| {
        let mut found = (0..all.len().min(count)).filter(|i| all[*i].trim() == text);
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => Err("which stands for several choices".to_string()),
            (one, _) => Ok(one),
        }
    };
    let Value::String(text) = label else {
        return match label {
            Value::Number(number) => within(number.as_u64()),
            other => Err(format!("expected a number or a text, not {}", kind(other))),
        };
    };
    let text = text.trim();
    if let Some(found) = only(names, text)? {
        return Ok(found);
    }
    if let Some(found) = only(choices, text)? {
        return Ok(found);
    }
    match text.as_bytes() {
        [letter] if letter.is_ascii_alphabetic() => {
            within(Some(u64::from(letter.to_ascii_uppercase() - b'A')))
        }
        digits if digits.iter().all(u8::is_ascii_digit) => within(text.parse().ok()),
        _ => Err("which is none of the choices".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_right_choice_is_a_number_a_name_a_text_or_a_letter() {
        let of = |label: Value, choices: &[&str], names: &[&str]| {
            let owned = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
            right(&label, &owned(choices), &owned(names))
        };
        let three = ["x", "y", "B"];
        assert_eq!([of(json!(0), &three, &[]), of(json!(2), &three, &[])], [Ok(0), Ok(2)]);
        assert_eq!([of(json!("y"), &three, &[]), of(json!(" x "), &three, &[])], [Ok(1), Ok(0)]);
        assert_eq!(of(json!("B"), &three, &[]), Ok(2), "its text comes before its letter");
        assert_eq!([of(json!("a"), &three, &[]), of(json!("C"), &three, &[])], [Ok(0), Ok(2)]);
        assert_eq!([of(json!("2"), &three, &[]), of(json!("2"), &["1", "2"], &[])], [Ok(2), Ok(1)]);
        assert_eq!(of(json!("1"), &three, &["1", "2", "3"]), Ok(0), "the list of labels says");
        for bad in
            [json!(3), json!(-1), json!(0.5), json!("D"), json!("9"), json!(""), json!(null), json!("xy")]
        {
            assert!(of(bad.clone(), &three, &[]).is_err(), "{bad}");
        }
        assert!(of(json!("x"), &["x", "x"], &[]).unwrap_err().contains("several"));
    }
}
