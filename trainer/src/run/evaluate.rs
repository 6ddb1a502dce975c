//! Evaluation and prediction, in the order of the data.
use super::{encoding::Encoding, generating::Generating, mixture::evaluated, step::upwards};
use crate::{
    Error, Result,
    data::{Dataset, Files, Labels},
    learner::{Below, Learner, answers_of_each, numbered},
    reports::{
        by_example::ExamplePrediction,
        history::Evaluation,
        metrics::Metrics,
        progress::{Mode, Progress},
    },
    tasks::{Answer, Evaluated, Prediction, Purpose, Task},
    text::{
        batch::{Batch, BatchSize, Batches, Order, put_back},
        examples::Examples,
        tokenizer::Tokenizer,
    },
};
use engraft_adapters::Shares;
use serde_json::{Map, json};
use std::{sync::Arc, time::Instant};

/// A data set, and the examples that a task makes of it.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// Its records, as far as they are needed.
    pub data: Dataset,
    /// Sequences of tokens.
    pub examples: Examples,
    /// Texts that have more tokens than were kept.
    pub cut: usize,
    /// What else there is to say about how they were read.
    pub notes: Vec<String>,
    /// Whether an evaluation says something of each example: then all records are there.
    pub by_example: bool,
    /// How texts are generated that answer it; none: they are not.
    pub generating: Option<Arc<Generating>>,
    /// Its name among several data sets.
    pub name: Option<String>,
    /// Others that are evaluated beside it.
    pub others: Vec<Encoded>,
}
impl Encoded {
    /// Makes the examples.
    pub fn new(data: Dataset, learner: &Learner, tokenizer: &Tokenizer, purpose: Purpose) -> Result<Encoded> {
        let mut encoding = Encoding::new(learner.task(), tokenizer, purpose);
        let examples = encoding.examples(&data)?.into_iter().collect();
        Encoded::of(data, examples, encoding, purpose)
    }
    /// Reads files and makes the examples, one small part after the other. Records are kept for
    /// predictions, and for an evaluation if the task needs them; else the numbers of words' labels
    /// are. For training nothing is.
    pub fn read(
        files: &Files,
        learner: &Learner,
        tokenizer: &Tokenizer,
        purpose: Purpose,
    ) -> Result<Encoded> {
        Encoded::read_for(files, learner.task(), tokenizer, purpose)
    }
    /// The same for a task by itself.
    pub fn read_for(
        files: &Files,
        task: &dyn Task,
        tokenizer: &Tokenizer,
        purpose: Purpose,
    ) -> Result<Encoded> {
        Growing::new(task, tokenizer, purpose).all(files)
    }
    /// Reads files for an evaluation that says something of each example: all records are kept.
    pub fn read_by_example(files: &Files, learner: &Learner, tokenizer: &Tokenizer) -> Result<Encoded> {
        let growing = Growing::new(learner.task(), tokenizer, Purpose::Evaluate);
        let read = Growing { needs_records: true, ..growing }.all(files)?;
        Ok(Encoded { by_example: true, ..read })
    }
    fn of(
        data: Dataset,
        mut examples: Examples,
        encoding: Encoding<'_>,
        purpose: Purpose,
    ) -> Result<Encoded> {
        let ((cut, _), notes) = (encoding.cut(), encoding.notes());
        examples.extend(encoding.rest());
        examples.shrink();
        if purpose != Purpose::Predict && !examples.iter().any(|e| e.is_labelled()) {
            return Err(Error::file(&data.path, "there is no label in it that belongs to a token"));
        }
        let (by_example, generating, name, others) = (false, None, None, vec![]);
        Ok(Encoded { data, examples, cut, notes, by_example, generating, name, others })
    }
    /// Itself, and the data sets beside it.
    pub fn sets(&self) -> impl Iterator<Item = &Encoded> {
        std::iter::once(self).chain(&self.others)
    }
    /// Bytes that examples and records take.
    pub fn bytes(&self) -> usize {
        let others: usize = self.others.iter().map(Encoded::bytes).sum();
        self.examples.bytes() + self.data.memory() + others
    }
}

/// A data set of which one part comes after the other.
pub(super) struct Growing<'a> {
    encoding: Encoding<'a>,
    purpose: Purpose,
    needs_records: bool,
    /// A task may have none.
    labels: Option<Labels>,
    examples: Examples,
    data: Option<Dataset>,
    records: usize,
}
impl<'a> Growing<'a> {
    pub fn new(task: &'a dyn Task, tokenizer: &'a Tokenizer, purpose: Purpose) -> Growing<'a> {
        let labels = Labels::from_names(task.labels().to_vec()).ok();
        let (encoding, examples) = (Encoding::new(task, tokenizer, purpose), Examples::default());
        let needs_records = task.needs_records();
        Growing { encoding, purpose, needs_records, labels, examples, data: None, records: 0 }
    }
    /// Makes the examples of the next part, and keeps of its records what is needed. The number of
    /// the record of each example, within the part.
    pub fn add(&mut self, mut part: Dataset) -> Result<Vec<usize>> {
        let examples = self.encoding.examples(&part)?;
        let records = examples.iter().map(|e| e.record.saturating_sub(self.records)).collect();
        self.examples.extend(examples);
        self.records += part.count;
        match self.purpose {
            Purpose::Train => part.records = vec![],
            Purpose::Evaluate if !self.needs_records => {
                part.keep_labels(|label| self.labels.as_ref()?.find(label));
            }
            Purpose::Evaluate | Purpose::Predict => {}
        }
        match &mut self.data {
            Some(data) => data.append(part),
            none => *none = Some(part),
        }
        Ok(records)
    }
    fn all(mut self, files: &Files) -> Result<Encoded> {
        for part in files.parts() {
            self.add(part?)?;
        }
        self.end(files)?.ok_or_else(|| Error::file(&files.name(), "the file is empty"))
    }
    /// All of it, with the name of the files; none if nothing came.
    pub fn end(self, files: &Files) -> Result<Option<Encoded>> {
        let Some(data) = self.data else { return Ok(None) };
        let data = Dataset { path: files.name(), ..data };
        Encoded::of(data, self.examples, self.encoding, self.purpose).map(Some)
    }
}

/// What the task of each of some learners on one model computes for every example, in the order of
/// the data: what lies below their first adapted layers is computed once. Long work shows its
/// progress as `mode` says.
pub fn answers(
    of: &[&Learner],
    examples: &Examples,
    size: impl Into<BatchSize>,
    mode: Mode,
) -> Result<Vec<Vec<Answer>>> {
    let mut found = vec![vec![]; of.len()];
    let batches = Batches::new(examples, size, Order::Longest);
    let mut progress = Progress::new(mode, "evaluate", batches.len() as u64);
    for batch in batches {
        for (found, answers) in found.iter_mut().zip(answers_together(of, &batch)?) {
            found.extend(batch.items.iter().copied().zip(answers));
        }
        progress.step(None, batch.tokens() as u64);
    }
    progress.finish();
    Ok(found.into_iter().map(put_back).collect())
}

/// What is generated for a data set is added to the answers of a learner.
fn with_texts(
    l: &Learner,
    on: &Encoded,
    mut answers: Vec<Answer>,
    size: BatchSize,
    mode: Mode,
) -> Result<Vec<Answer>> {
    if let Some(generating) = &on.generating {
        generating.answer(l, (&on.data, &on.examples), size, mode, &mut answers)?;
    }
    Ok(answers)
}

/// The same of one batch.
pub(super) fn answers_together(of: &[&Learner], batch: &Batch) -> Result<Vec<Vec<Answer>>> {
    let (order, mut below) = (upwards(of)?, Below::default());
    let mut found = vec![vec![]; of.len()];
    for (k, i) in order.iter().enumerate() {
        found[*i] = of[*i].answers_from(batch, (&mut below, k + 1 < order.len()))?;
    }
    Ok(found)
}

/// Adds to `shares` what the fusions of a learner mix, token by token of these examples.
pub fn look_at_shares(
    l: &Learner,
    examples: &Examples,
    size: impl Into<BatchSize>,
    mode: Mode,
    shares: &Shares,
) -> Result<()> {
    let batches = Batches::new(examples, size, Order::Longest);
    let mut progress = Progress::new(mode, "look", batches.len() as u64);
    for batch in batches {
        l.look_at_shares(&batch, shares)?;
        progress.step(None, batch.tokens() as u64);
    }
    progress.finish();
    Ok(())
}

/// An evaluation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The numbers.
    pub metrics: Metrics,
    /// What the program prints below its first line.
    pub lines: Vec<String>,
    /// What is said of each example, if that was asked for ([`Encoded::by_example`]).
    pub examples: Vec<ExamplePrediction>,
    /// Batches.
    pub batches: u64,
    /// Seconds of computing.
    pub seconds: f64,
}
impl Found {
    fn of(task: &dyn Task, on: &Encoded, answers: &[Answer], (size, began): (BatchSize, Instant)) -> Found {
        let Evaluated { metrics, lines } = task.evaluate(&on.data, &on.examples, answers);
        let by_example = || task.by_example(&on.data, &on.examples, answers);
        let examples = if on.by_example { by_example() } else { vec![] };
        let batches = Batches::new(&on.examples, size, Order::Longest).len() as u64;
        Found { metrics, lines, examples, batches, seconds: began.elapsed().as_secs_f64() }
    }
    /// What is noted of it.
    pub fn evaluation(&self) -> Evaluation {
        let Metrics { scores, examples, .. } = &self.metrics;
        let (scores, examples) = (scores.clone(), *examples);
        Evaluation { scores, examples, batches: self.batches, seconds: self.seconds }
    }
}

/// Where all scores of each data set are, by its name, among what else an evaluation says.
pub const SETS: &str = "sets";

/// What was found on a data set, with what was found on the others beside it: their scores under their
/// names with the name of the data set behind them, as `accuracy_NAME`.
fn together(first: Found, on: &Encoded, others: Vec<Found>) -> Found {
    if on.others.is_empty() {
        return first;
    }
    let own = on.name.clone().unwrap_or_default();
    let mut sets = Map::from_iter([(own, json!(first.metrics))]);
    let mut all = first;
    for (set, found) in on.others.iter().zip(others) {
        let name = set.name.clone().unwrap_or_default();
        let scores = found.metrics.scores.0.iter().map(|(score, value)| (format!("{score}_{name}"), *value));
        all.metrics.scores.0.extend(scores);
        all.batches += found.batches;
        all.seconds += found.seconds;
        sets.insert(name, json!(found.metrics));
    }
    all.metrics.details.insert(SETS.into(), sets.into());
    all
}

/// How good a learner is on data with labels; an error where there are none.
pub fn evaluate(l: &Learner, on: &Encoded, size: impl Into<BatchSize>, mode: Mode) -> Result<Found> {
    let mut all = evaluate_together(&[l], on, size, mode)?;
    Ok(all.pop().unwrap_or_else(|| unreachable!("one for each learner")))
}

/// The same of several learners on one model. Data sets beside are evaluated too.
pub fn evaluate_together(
    of: &[&Learner],
    on: &Encoded,
    size: impl Into<BatchSize>,
    mode: Mode,
) -> Result<Vec<Found>> {
    if !on.examples.iter().any(|e| e.is_labelled()) {
        return Err(Error::file(&on.data.path, "there are no labels to compare predictions with"));
    }
    let (size, began) = (size.into(), Instant::now());
    let answers = answers(of, &on.examples, size, mode)?;
    let one = |(l, answers): (&&Learner, Vec<Answer>)| {
        let answers = with_texts(l, on, answers, size, mode)?;
        Ok(Found::of(l.task(), on, &answers, (size, began)))
    };
    let found = of.iter().zip(answers).map(one).collect::<Result<Vec<_>>>()?;
    let beside = on.others.iter().map(|other| evaluate_together(of, other, size, mode));
    let mut beside: Vec<_> = beside.collect::<Result<Vec<_>>>()?.into_iter().map(Vec::into_iter).collect();
    let mut next = || beside.iter_mut().filter_map(Iterator::next).collect();
    Ok(found.into_iter().map(|found| together(found, on, next())).collect())
}

/// What a learner says of every record; an error if that is to be generated and nothing says how.
pub fn predict(l: &Learner, on: &Encoded, size: impl Into<BatchSize>, mode: Mode) -> Result<Vec<Prediction>> {
    let (task, size) = (l.task(), size.into());
    let found = match (task.generates(usize::MAX), &on.generating) {
        (None, _) => answers(&[l], &on.examples, size, mode)?.pop().unwrap_or_default(),
        (Some(_), Some(_)) => with_texts(l, on, vec![Answer::default(); on.examples.len()], size, mode)?,
        (Some(_), None) => return Err(cannot_say(task)),
    };
    Ok(task.predictions(&on.data, &on.examples, &found))
}
/// Where texts are not generated.
pub(crate) fn cannot_say(task: &dyn Task) -> Error {
    Error::Model(format!("what {} answers is generated, and nothing says how", task.name()))
}

/// What is computed for data sets each of which has a number in mixed batches: in the order of each
/// data set.
fn answers_mixed(of: &[&Learner], on: &[&Examples], size: BatchSize, mode: Mode) -> Result<Vec<Vec<Answer>>> {
    let all: usize = on.iter().map(|e| e.len()).sum();
    let (mut found, mut progress) = (vec![vec![]; on.len()], Progress::new(mode, "predict", all as u64));
    for batch in evaluated(on, size) {
        let answers = answers_of_each(of, &batch.whose, &batch)?;
        let places = batch.whose.iter().zip(&batch.items);
        places.zip(answers).for_each(|((n, i), answer)| found[*n].push((*i, answer)));
        batch.lengths().for_each(|tokens| progress.step(None, tokens as u64));
    }
    progress.finish();
    Ok(found.into_iter().map(put_back).collect())
}

/// What is said of records each of which has a learner of its own, in mixed batches: `of_record`
/// has its number for each record. The predictions are in the order of the records, and each is
/// what its learner says by itself.
pub fn predict_mixed(
    of: &[&Learner],
    of_record: &[usize],
    on: &[Encoded],
    size: impl Into<BatchSize>,
    mode: Mode,
) -> Result<Vec<Prediction>> {
    let examples: Vec<&Examples> = on.iter().map(|e| &e.examples).collect();
    let answers = answers_mixed(of, &examples, size.into(), mode)?;
    let one = |((l, on), answers): ((&&Learner, &Encoded), Vec<Answer>)| {
        l.task().predictions(&on.data, &on.examples, &answers).into_iter()
    };
    let mut each: Vec<_> = of.iter().zip(on).zip(answers).map(one).collect();
    let missing = || Error::Model("a record has no prediction".into());
    of_record.iter().map(|n| each.get_mut(*n).and_then(Iterator::next).ok_or_else(missing)).collect()
}

/// How good learners are on data sets of their own, computed in mixed batches: one for each of the
/// parts of the learners in their order, if there is something for it.
pub fn evaluate_mixed(
    of: &[&Learner],
    on: &[Option<&Encoded>],
    size: impl Into<BatchSize>,
    mode: Mode,
) -> Result<Vec<Option<Found>>> {
    let (size, began) = (size.into(), Instant::now());
    let none = Examples::default();
    let examples: Vec<&Examples> = on.iter().map(|e| e.map_or(&none, |e| &e.examples)).collect();
    let answers = answers_mixed(of, &examples, size, mode)?;
    let parts: Vec<(&Learner, &dyn Task)> = numbered(of).map(|(_, l, part)| (l, part.task())).collect();
    let mut found = vec![];
    for (((l, task), on), answers) in parts.into_iter().zip(on).zip(answers) {
        found.push(match on {
            None => None,
            Some(on) => {
                let answers = with_texts(l, on, answers, size, mode)?;
                Some(Found::of(task, on, &answers, (size, began)))
            }
        });
    }
    Ok(found)
}
