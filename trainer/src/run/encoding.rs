//! From the parts of a data set to examples.
use crate::{
    Result,
    data::Dataset,
    tasks::{Carry, Purpose, Task},
    text::{example::Example, tokenizer::Tokenizer},
};

/// A data set that is encoded part by part.
pub(super) struct Encoding<'a> {
    task: &'a dyn Task,
    tokenizer: &'a Tokenizer,
    purpose: Purpose,
    carry: Carry,
    /// Records so far.
    records: usize,
}

impl<'a> Encoding<'a> {
    pub fn new(task: &'a dyn Task, tokenizer: &'a Tokenizer, purpose: Purpose) -> Encoding<'a> {
        Encoding { task, tokenizer, purpose, carry: Carry::default(), records: 0 }
    }
    /// The examples of the next part, with the numbers of their records in the whole.
    pub fn examples(&mut self, part: &Dataset) -> Result<Vec<Example>> {
        let mut examples = self.task.encode(part, self.tokenizer, self.purpose, &mut self.carry)?;
        for example in &mut examples {
            example.record += self.records;
            if self.purpose == Purpose::Train {
                example.parts = vec![]; // they say where an answer belongs, and nobody answers
            }
        }
        self.records += part.count;
        Ok(examples)
    }
    /// How many texts were cut so far, of how many.
    pub fn cut(&self) -> (usize, usize) {
        (self.carry.cut, self.records)
    }
    /// What else there is to say so far.
    pub fn notes(&self) -> Vec<String> {
        self.carry.notes.iter().cloned().collect()
    }
    /// What is left behind the last part.
    pub fn rest(self) -> Option<Example> {
        self.task.rest(self.carry)
    }
}
