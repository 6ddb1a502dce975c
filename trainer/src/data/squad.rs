//! SQuAD's own form, 1.1 and 2.0: a list of articles in `data`, with paragraphs, each a text with
//! questions. The list may as well hold the questions themselves, an object for each, and the file
//! may be that list. One article is in memory at a time.
//!
//! A question that is impossible (`is_impossible`), or that has no answers, has none in its text;
//! `plausible_answers` are none.
use super::columns::{Column, Columns};
use super::elements::Elements;
use super::format::{Format, Records, records};
use super::lines::Lines;
use super::object::{Object, why};
use super::questions::{Checks, Fields};
use super::record::{Chosen, Content, Record, Want};
use super::source::Source;
use crate::error::{Error, Result};
use serde::Deserialize;
use serde_json::Value;
use std::collections::VecDeque;

/// The format's row in the registry.
pub(super) const FORMAT: Format = Format { extensions: &["json"], contents: &[Content::Questions], open };

const DATA: &str = "data";
const PARAGRAPHS: &str = "paragraphs";

#[derive(Deserialize)]
struct Paragraph {
    context: String,
    qas: Vec<Question>,
}
#[derive(Deserialize)]
struct Question {
    #[serde(default)]
    id: Value,
    question: String,
    answers: Option<Vec<Answer>>,
    #[serde(default)]
    is_impossible: bool,
}
#[derive(Deserialize)]
struct Answer {
    text: String,
    answer_start: usize,
}

fn open(source: Source, columns: &Columns, want: Want) -> Result<(Chosen, Records)> {
    let (fields, checks) = (Fields::of(columns, want), Checks::of(source.path(), source.notes()));
    let all = [
        ("text-column", &columns.text),
        ("text-pair-column", &columns.pair),
        ("label-column", &columns.label),
    ];
    let named = all.into_iter().find_map(|(option, column)| Some((option, column.clone()?)));
    let mut list = Elements::begin(Lines::of(source)?, DATA)?;
    let group = columns.group.as_ref().map(Column::to_string);
    let (chosen, counted, mut ready) = (fields.chosen(), checks.clone(), VecDeque::new());
    let next = move || loop {
        if let Some(record) = ready.pop_front() {
            return Ok(Some(record));
        }
        let Some((line, text)) = list.next()? else { return Ok(None) };
        let object = Object::parse(list.path(), line, &text)?;
        let mut found = vec![];
        if !object.has(PARAGRAPHS) {
            found.push(fields.record(&object, &counted)?);
        } else if let Some((option, column)) = &named {
            let why = "the fields of SQuAD's articles have names of their own".into();
            return Err(Error::Option { option, value: format!("`{column}`"), why });
        } else {
            found = article(&object, want.labels, &counted)?;
        }
        for record in found {
            ready.push_back(match &group {
                Some(name) => record.of_group(object.path(), object.label(name)?.taken())?,
                None => record,
            });
        }
    };
    Ok((chosen, checks.noted(records(next))))
}

/// The questions of an article.
fn article(object: &Object, labels: bool, checks: &Checks) -> Result<Vec<Record>> {
    let paragraphs: Vec<Paragraph> = serde_json::from_str(&object.raw(PARAGRAPHS)?)
        .map_err(|e| object.bad(format!("`{PARAGRAPHS}` are not SQuAD's: {}", why(&e))))?;
    let mut all = vec![];
    for Paragraph { context, qas } in paragraphs {
        for Question { id, question, answers, is_impossible } in qas {
            let answers = match (labels, answers) {
                (false, _) => None,
                (true, _) if is_impossible => Some(vec![]),
                (true, Some(all)) => Some(all.into_iter().map(|a| (a.text, a.answer_start)).collect()),
                (true, None) => return Err(object.bad(format!("the question {id} has no `answers`"))),
            };
            all.push(checks.record(object.path(), object.line(), id, question, context.clone(), answers)?);
        }
    }
    Ok(all)
}
