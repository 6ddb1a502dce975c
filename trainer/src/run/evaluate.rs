//! Evaluation and prediction, in the order of the data.
use crate::{
    Error, Result,
    data::{Dataset, Files},
    learner::Learner,
    reports::progress::{Mode, Progress},
    tasks::{Answer, Carry, Evaluated, Prediction, Purpose, Task},
    text::{
        batch::{Batches, Order, Size, put_back},
        examples::Examples,
        tokenizer::Tokenizer,
    },
};

/// A data set, and the examples that a task makes of it.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// Its records, as far as they are needed.
    pub data: Dataset,
    /// Sequences of tokens.
    pub examples: Examples,
    /// Texts that have more tokens than were kept.
    pub cut: usize,
}
impl Encoded {
    /// Makes the examples.
    pub fn new(data: Dataset, learner: &Learner, tokenizer: &Tokenizer, purpose: Purpose) -> Result<Encoded> {
        let mut encoding = Encoding::new(learner.task(), tokenizer, purpose);
        encoding.add(&data)?;
        encoding.end(data)
    }
    /// Reads files and makes the examples, one small part after the other. Records are kept for
    /// predictions; for an evaluation labels of words are; for training nothing is.
    pub fn read(
        files: &Files,
        learner: &Learner,
        tokenizer: &Tokenizer,
        purpose: Purpose,
    ) -> Result<Encoded> {
        let mut encoding = Encoding::new(learner.task(), tokenizer, purpose);
        let mut all: Option<Dataset> = None;
        for part in files.parts() {
            let mut part = part?;
            encoding.add(&part)?;
            match purpose {
                Purpose::Train => part.records = vec![],
                Purpose::Evaluate => part.keep_labels(),
                Purpose::Predict => {}
            }
            match &mut all {
                Some(all) => all.append(part),
                none => *none = Some(part),
            }
        }
        let mut data = all.ok_or_else(|| Error::file(&files.name(), "the file is empty"))?;
        data.path = files.name();
        encoding.end(data)
    }
    /// Bytes that examples and records take.
    pub fn bytes(&self) -> usize {
        self.examples.bytes() + self.data.memory()
    }
}

/// Examples in the making.
struct Encoding<'a> {
    task: &'a dyn Task,
    tokenizer: &'a Tokenizer,
    purpose: Purpose,
    carry: Carry,
    examples: Examples,
    /// Records so far.
    records: usize,
}
impl<'a> Encoding<'a> {
    fn new(task: &'a dyn Task, tokenizer: &'a Tokenizer, purpose: Purpose) -> Encoding<'a> {
        let (carry, examples) = (Carry::default(), Examples::default());
        Encoding { task, tokenizer, purpose, carry, examples, records: 0 }
    }
    fn add(&mut self, part: &Dataset) -> Result<()> {
        for mut example in self.task.encode(part, self.tokenizer, self.purpose, &mut self.carry)? {
            example.record += self.records;
            if self.purpose == Purpose::Train {
                example.parts = vec![]; // they say where an answer belongs, and nobody answers
            }
            self.examples.push(example);
        }
        self.records += part.count;
        Ok(())
    }
    fn end(mut self, data: Dataset) -> Result<Encoded> {
        let cut = self.carry.cut;
        self.examples.extend(self.task.rest(self.carry));
        self.examples.shrink();
        if self.purpose != Purpose::Predict && !self.examples.iter().any(|e| e.is_labelled()) {
            return Err(Error::file(&data.path, "there is no label in it that belongs to a token"));
        }
        Ok(Encoded { data, examples: self.examples, cut })
    }
}

/// What the task computes for every example, in the order of the data. Long work shows its progress as `mode` says.
pub fn answers(l: &Learner, examples: &Examples, size: impl Into<Size>, mode: Mode) -> Result<Vec<Answer>> {
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
    if !on.examples.iter().any(|e| e.is_labelled()) {
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
