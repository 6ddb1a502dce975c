//! Evaluation and prediction, in the order of the data.
use crate::{
    Error, Result,
    data::Dataset,
    learner::Learner,
    reports::progress::{Mode, Progress},
    tasks::{Answer, Evaluated, Prediction, Purpose},
    text::{
        batch::{Batches, Order, Size, put_back},
        example::Example,
        tokenizer::Tokenizer,
    },
};

/// A data set, and the examples that a task makes of it.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// Its records.
    pub data: Dataset,
    /// Sequences of tokens.
    pub examples: Vec<Example>,
}
impl Encoded {
    /// Makes the examples.
    pub fn new(data: Dataset, learner: &Learner, tokenizer: &Tokenizer, purpose: Purpose) -> Result<Encoded> {
        let examples = learner.task().encode(&data, tokenizer, purpose)?;
        Ok(Encoded { data, examples })
    }
}

/// What the task computes for every example, in the order of the data. Long work shows its progress as `mode` says.
pub fn answers(l: &Learner, examples: &[Example], size: impl Into<Size>, mode: Mode) -> Result<Vec<Answer>> {
    let mut found = vec![];
    let batches = Batches::new(examples, size, Order::Longest);
    let mut progress = Progress::new(mode, "evaluate", batches.len() as u64);
    for batch in batches {
        found.extend(batch.items.iter().copied().zip(l.answers(&batch)?));
        progress.step(None, batch.tokens() as u64);
    }
    progress.finish();
    Ok(put_back(found))
}

/// How good a learner is on data with labels; an error where there are none.
pub fn evaluate(l: &Learner, on: &Encoded, size: impl Into<Size>, mode: Mode) -> Result<Evaluated> {
    if !on.examples.iter().any(Example::is_labelled) {
        return Err(Error::file(&on.data.path, "there are no labels to compare predictions with"));
    }
    let answers = answers(l, &on.examples, size, mode)?;
    Ok(l.task().evaluate(&on.data, &on.examples, &answers))
}

/// What a learner says of every record.
pub fn predict(l: &Learner, on: &Encoded, size: impl Into<Size>, mode: Mode) -> Result<Vec<Prediction>> {
    let answers = answers(l, &on.examples, size, mode)?;
    Ok(l.task().predictions(&on.data, &on.examples, &answers))
}
