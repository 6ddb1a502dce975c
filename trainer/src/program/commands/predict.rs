//! `engraft predict`.
use super::load;
use crate::program::{args::Predict, print::say};
use anyhow::Result;
use engraft::{
    data::{Dataset, Want},
    reports::{progress::Mode, report::json_line},
    run::evaluate::{best, logits, probabilities},
    text::batch::Example,
};
use serde::Serialize;
use std::collections::BTreeMap;

/// What is said of one text.
#[derive(Serialize)]
struct Prediction<'a> {
    text: &'a str,
    label: &'a str,
    probability: f64,
    probabilities: BTreeMap<&'a str, f64>,
}

pub fn run(p: &Predict) -> Result<()> {
    let (classifier, tokenizer) = load(&p.grafted, &p.reading, &p.run)?;
    let data = match &p.input {
        Some(file) => Dataset::read(file, &p.reading.columns(None), Want::TextsOnly)?,
        None => Dataset::of_texts("--text", &p.text)?,
    };
    let examples = Example::join(tokenizer.encode_all(&data)?, &[]);
    let rows = logits(&classifier, &examples, p.reading.batch(), Mode::detect(p.run.quiet))?;
    let labels = classifier.labels();
    let predictions: Vec<Prediction> = data
        .rows
        .iter()
        .zip(&rows)
        .map(|(row, z)| {
            let (b, probs) = (best(z), probabilities(z));
            let probabilities = labels.iter().map(String::as_str).zip(probs.iter().copied()).collect();
            Prediction { text: &row.text, label: &labels[b], probability: probs[b], probabilities }
        })
        .collect();
    if p.run.json {
        return say(&json_line(&serde_json::json!({"task": "classification", "predictions": predictions})));
    }
    for x in &predictions {
        say(&format!("{}\t{:.4}\t{}", x.label, x.probability, x.text))?;
    }
    Ok(())
}
