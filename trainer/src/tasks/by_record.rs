//! The records of an evaluation as examples of it, before anything is said of them.
use crate::{
    data::{Dataset, Input, Label, Name, Record},
    reports::by_example::ExamplePrediction,
};
use serde_json::{Value, json};

/// For each record its number as id, or what a question is called, its line, what is read, and what is true; nothing of a data
/// set whose records are not all there.
pub fn by_record(data: &Dataset) -> Vec<ExamplePrediction> {
    if data.records.len() != data.count {
        return vec![];
    }
    let one = |(number, record): (usize, &Record)| ExamplePrediction {
        id: match &record.input {
            Input::Question { id, .. } => id.clone(),
            _ => (number + 1).to_string(),
        },
        line: Some(record.line),
        input: input(record),
        truth: truth(&record.label),
        ..ExamplePrediction::default()
    };
    data.records.iter().enumerate().map(one).collect()
}

fn input(record: &Record) -> Value {
    match &record.input {
        Input::Text { text, pair: None } => text.as_str().into(),
        Input::Text { text, pair: Some(pair) } => json!({"text": text, "text_pair": pair}),
        Input::Words(words) => json!(words),
        Input::Question { question, context, .. } => json!({"question": question, "context": context}),
        Input::Choices { text, choices, .. } => json!({"text": text, "choices": choices}),
    }
}
fn truth(label: &Label) -> Value {
    match label {
        Label::None => Value::Null,
        Label::One(name) => name.taken().into(),
        Label::Set(names) => names.iter().map(Name::taken).collect(),
        Label::Value(value) => json!(value),
        Label::Texts(texts) => match &texts[..] {
            [one] => one.as_str().into(),
            several => json!(several),
        },
        Label::Each(names) => names.iter().map(|name| name.as_ref().map(Name::taken)).collect(),
        Label::Numbers(numbers) => json!(numbers),
        Label::Spans(answers) => answers.iter().map(|answer| answer.text.as_str()).collect(),
        Label::Choice(number) => json!(number),
    }
}
