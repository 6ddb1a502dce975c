//! What a task is.
use super::{by_record::by_record, outputs::Outputs, top::Top};
use crate::{
    Error, Result,
    data::{Content, Dataset, LabelNames},
    reports::{
        by_example::{ExamplePrediction, Statistic},
        metrics::{Metric, Metrics},
    },
    text::{batch::Batch, example::Example, examples::Examples, tokenizer::Tokenizer},
};
use engraft_adapters::HeadConfig;
use engraft_engine::{Act, Cx};
use engraft_models::ModelInfo;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::{collections::BTreeSet, path::Path};

pub use crate::data::Purpose;

/// What goes from one part of a data set to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carry {
    /// Tokens that fill no example yet.
    pub ids: Vec<u32>,
    /// How many texts were cut so far.
    pub cut: usize,
    /// What else there is to say about the data, once for all of it.
    pub notes: BTreeSet<String>,
    /// How many texts are behind, if the task counts them.
    pub texts: usize,
}

/// What was computed for one example without dropout.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The sum of the losses of its labelled rows, in nats.
    pub loss: f64,
    /// How many it is a sum of.
    pub count: f64,
    /// The class of each row that is read, if the task keeps them.
    pub chosen: Vec<u32>,
    /// Numbers of each class, if the task keeps them.
    pub scores: Vec<f32>,
    /// Labelled rows on which the label was the most probable class, if the task counts them.
    pub right: f64,
    /// What was generated, if something was.
    pub said: Option<Said>,
}

/// A text that was generated as an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The text, without special tokens and white space around it.
    pub text: String,
    /// Its tokens, with the one that ends it and without padding.
    pub tokens: usize,
}

impl Answer {
    /// The sum of the losses of all labelled rows, and how many they are.
    pub(super) fn total(all: &[Answer]) -> (f64, f64) {
        all.iter().fold((0.0, 0.0), |(loss, n), a| (loss + a.loss, n + a.count))
    }
    /// For each record what is read, what is true and the loss of its examples: what
    /// [`Task::by_example`] begins with. Nothing of a data set whose records are not all there.
    pub fn by_record(data: &Dataset, examples: &Examples, answers: &[Answer]) -> Vec<ExamplePrediction> {
        let (all, mut sums) = (by_record(data), vec![(0.0, 0.0); data.count]);
        for (e, a) in examples.iter().zip(answers) {
            if let Some((loss, count)) = sums.get_mut(e.record) {
                (*loss, *count) = (*loss + a.loss, *count + a.count);
            }
        }
        let with_loss = |(e, (loss, count)): (ExamplePrediction, (f64, f64))| {
            let mean = Some(loss / count).filter(|loss| loss.is_finite());
            ExamplePrediction { loss: mean, ..e }.adding("loss", Statistic::mean(loss, count))
        };
        all.into_iter().zip(sums).map(with_loss).collect()
    }
}

/// An evaluation: the numbers, and lines for people.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluated {
    /// The numbers.
    pub metrics: Metrics,
    /// What the program prints below its first line.
    pub lines: Vec<String>,
}

/// What is said of one record.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// An object.
    pub json: serde_json::Value,
    /// The same for people: one line, for words one for each and an empty one. What it shows of the
    /// data is put on one line by [`one_line`](super::one_line).
    pub text: String,
}

/// The label of a sequence of tokens that is given without text: a number, or a list of numbers. A
/// negative number of a class is no label.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Given {
    /// That of the whole sequence.
    One(i64),
    /// One for each token, or for each label.
    Each(Vec<i64>),
    /// The same as [`Given::One`], and no whole number.
    Value(f32),
    /// The same as [`Given::Each`], and not all of them whole numbers.
    Values(Vec<f32>),
}

/// What makes the examples of an epoch of those that were encoded, where each epoch has its own.
pub trait Anew: Send + Sync {
    /// What one of them becomes; `draw(n)` gives a number below n that the run's seed, the epoch and
    /// the place of the example decide.
    fn example(&self, example: Example, draw: &mut dyn FnMut(u64) -> u64) -> Example;
}

/// Something to learn.
pub trait Task: Send + Sync {
    /// Its name, in options and reports.
    fn name(&self) -> &str;
    /// What it reads of a data file.
    fn content(&self) -> Content;
    /// Names of the classes it tells apart, by number; none if it tells no classes apart.
    fn labels(&self) -> &[String] {
        &[]
    }
    /// The scores that it computes; the first is what the best checkpoint is best at unless
    /// something else is asked for.
    fn metrics(&self) -> &[Metric];
    /// What is wrong with a model for it, if anything is.
    fn suits(&self, model: &ModelInfo) -> Result<(), String> {
        let _ = model;
        Ok(())
    }
    /// To what texts are cut, where they are at most so long, and by which options.
    fn limits(&self, max_length: usize) -> String {
        format!("to {max_length} tokens (--max-length)")
    }
    /// The head of a new run on this model, none if the model's own language-modelling head serves.
    /// `linear` asks for one layer, as the model's library has it on its own.
    fn head(&self, model: &ModelInfo, linear: bool) -> Option<Box<dyn HeadConfig>>;
    /// The examples of a part of a data set, whose numbers of records are those of the part. One
    /// record may make several, and several records one: what fills no example yet is left in
    /// `carry` for the next part.
    fn encode(
        &self,
        data: &Dataset,
        tokenizer: &Tokenizer,
        purpose: Purpose,
        carry: &mut Carry,
    ) -> Result<Vec<Example>>;
    /// What makes the examples of an epoch of those that were encoded to learn from; none where they
    /// are the same in every one.
    fn anew(&self, tokenizer: &Tokenizer) -> Result<Option<Box<dyn Anew>>> {
        let _ = tokenizer;
        Ok(None)
    }
    /// Whether it says which tokens are hidden, as the head of a masked language model does.
    fn fills(&self) -> bool {
        false
    }
    /// Whether every record to learn from makes one example and no more, so that they are counted
    /// without a tokenizer.
    fn is_one_to_one(&self) -> bool {
        false
    }
    /// The example of what is left behind the last part, if there is one.
    fn rest(&self, _: Carry) -> Option<Example> {
        None
    }
    /// A sequence of tokens as an example, with its labels if it is to have some. The error says
    /// what is wrong with them.
    fn example(&self, ids: Vec<u32>, labels: Option<&Given>) -> Result<Example, String>;
    /// A sequence of tokens with labels drawn at random, where `draw(n)` gives a number below n.
    fn sample(&self, ids: Vec<u32>, draw: &mut dyn FnMut(usize) -> u32) -> Example;
    /// The sum of the losses of the rows of a batch that have a label, [`Batch::labelled`] of them,
    /// in nats. `x` are the last hidden states of the rows that are read, (rows, C).
    fn loss<'m>(&self, cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Act>;
    /// What its outputs are, where they can be learned from those of a teacher.
    fn outputs(&self) -> Option<Outputs> {
        None
    }
    /// What is computed for each example of a batch, without dropout.
    fn answers<'m>(&self, cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Vec<Answer>>;
    /// The most tokens of a text that answers an example, where texts are cut at `max_length`
    /// tokens; none if the answers are no texts that are generated.
    fn generates(&self, max_length: usize) -> Option<usize> {
        let _ = max_length;
        None
    }
    /// What the answer to each example is generated from: what a decoder goes on from, or what an
    /// encoder reads; none where nothing is generated.
    fn prompts(&self, data: &Dataset, examples: &Examples) -> Vec<Option<Vec<u32>>> {
        let _ = data;
        vec![None; examples.len()]
    }
    /// Whether an evaluation looks into the records themselves, which are held in memory for it.
    fn needs_records(&self) -> bool {
        false
    }
    /// How good the answers to the examples of a data set are. Unless the task
    /// [needs records](Self::needs_records), only those are there that have labels of words, with
    /// the numbers of these labels alone: texts are not kept for an evaluation.
    fn evaluate(&self, data: &Dataset, examples: &Examples, answers: &[Answer]) -> Evaluated;
    /// The same one by one: for each record, or whatever else this task scores, what is true, what
    /// was predicted, and what it adds to the scores. All records are there, with their texts.
    fn by_example(&self, data: &Dataset, examples: &Examples, answers: &[Answer]) -> Vec<ExamplePrediction> {
        let mut all = Answer::by_record(data, examples, answers);
        let predictions = self.predictions(data, examples, answers);
        all.iter_mut().zip(predictions).for_each(|(e, p)| e.prediction = p.json);
        all
    }
    /// What the answers say of each record.
    fn predictions(&self, data: &Dataset, examples: &Examples, answers: &[Answer]) -> Vec<Prediction>;
}

/// Makes the task of training data: from the path that errors name, the names of all labels in it,
/// and what the task is told.
pub type Learn = fn(&Path, LabelNames, &Told) -> Result<Box<dyn Task>>;

/// What a task is told besides its data: the values of its own options, by their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told(Map<String, Value>);
impl Told {
    /// Options by name. What is null was not said.
    pub fn new(mut options: Map<String, Value>) -> Told {
        options.retain(|_, value| !value.is_null());
        Told(options)
    }
    /// The same, and these.
    pub fn and(mut self, more: &Map<String, Value>) -> Told {
        self.0.extend(more.clone());
        self
    }
    /// Whether it is told how a prompt is made of a source: then it reads sources with targets,
    /// whatever it reads else.
    pub fn reads_answers(&self) -> bool {
        self.0.contains_key("prompt-template")
    }
    /// What a task can be told. An error names an option that is none of the task's.
    pub fn read<T: DeserializeOwned>(&self, task: &str) -> Result<T> {
        let wrong = |e: serde_json::Error| Error::Model(format!("task {task}: {e}"));
        serde_json::from_value(self.0.clone().into()).map_err(wrong)
    }
    /// Refuses whatever is told to a task that has no options.
    pub fn nothing(&self, task: &str) -> Result<()> {
        match self.0.iter().next() {
            None => Ok(()),
            Some((name, value)) => {
                let (value, why) = (value.to_string(), format!("the task {task} has no `{name}`"));
                Err(Error::Option { option: "task", value, why })
            }
        }
    }
}

/// Makes the task of a head that has these labels, from them and from what the task is told.
pub type Known = fn(Vec<String>, &Told) -> Result<Box<dyn Task>>;

impl TaskType {
    /// What it reads of a data file, being told this.
    pub fn content_for(&self, told: &Told) -> Content {
        if told.reads_answers() { Content::Answers } else { self.content }
    }
}

/// A row of the registry.
#[derive(Debug)]
pub struct TaskType {
    /// The name of the task.
    pub name: &'static str,
    /// What it is, as a line of help.
    pub help: &'static str,
    /// What it reads of a data file.
    pub content: Content,
    /// Whether its data has labels.
    pub labelled: bool,
    /// Whether these are names of classes, for which all training data is looked through.
    pub classes: bool,
    /// Whether a head does it.
    pub does: fn(&dyn HeadConfig) -> bool,
    /// Whether it can do without, with the model's own language-modelling head.
    pub headless: bool,
    /// The task that training data sets.
    pub learn: Learn,
    /// The task of a head that has these labels.
    pub known: Known,
}
