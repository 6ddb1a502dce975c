//! What teachers say of training data, computed once and kept: examples are taught with it.
//!
//! A teacher is any learner of the same task, on whatever model: it reads the data as its own
//! tokenizer has it, and its classes are put into the order of the student's. Of several the
//! probabilities are averaged.
use super::source::{Source, hash_of};
use crate::{
    Error, Result,
    error::list,
    learner::Learner,
    reports::{
        bytes::show,
        progress::{Mode, Progress},
    },
    tasks::{Outputs, Task, outputs},
    text::{
        batch::{Batch, BatchSize, Batches, Order},
        example::{Example, IGNORED},
        examples::Examples,
        taught::Taught,
    },
};
use ndarray::Array2;
use std::{collections::BTreeSet, fmt, ops::Range, str::FromStr};

/// The most bytes of outputs that are kept, unless something else is said.
pub const MOST: usize = 4 << 30;

/// Which layers of a student learn from which of its teacher.
///
/// ```
/// use engraft::run::teaching::Pairs;
/// let pairs: Pairs = "2,5:11".parse()?;
/// assert_eq!(pairs.of(6, 12).unwrap(), [(2, 5), (5, 11)]);
/// assert_eq!(pairs.to_string(), "2,5:11");
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairs(Vec<(usize, Option<usize>)>);

impl Pairs {
    /// Layers of a student that has so many, each with its layer of a teacher that has so many. Where
    /// none is named it is the one as high: behind ⌈(l + 1) T / S⌉ of T layers for the layer l of S.
    pub fn of(&self, student: usize, teacher: usize) -> Result<Vec<(usize, usize)>> {
        let pair = |(own, other): &(usize, Option<usize>)| {
            let refused = |whose: &str, layer: usize, all: usize| {
                let why = format!("the {whose} has {all} layers, counted from 0");
                Err(Error::Option { option: "distill-hidden", value: format!("layer {layer}"), why })
            };
            let as_high = ((own + 1) * teacher).div_ceil(student.max(1)).saturating_sub(1);
            match (*own, other.unwrap_or(as_high)) {
                (own, _) if own >= student => refused("student", own, student),
                (_, other) if other >= teacher => refused("teacher", other, teacher),
                pair => Ok(pair),
            }
        };
        self.0.iter().map(pair).collect()
    }
}
impl FromStr for Pairs {
    type Err = String;

    /// `S` or `S:T`, with commas between, the student's layers in order.
    fn from_str(text: &str) -> Result<Pairs, String> {
        let number = |n: &str| n.trim().parse::<usize>().map_err(|_| format!("`{n}` is no layer, as 3 is"));
        let pair = |text: &str| match text.split_once(':') {
            Some((own, other)) => Ok((number(own)?, Some(number(other)?))),
            None => Ok((number(text)?, None)),
        };
        let pairs = text.split(',').map(pair).collect::<Result<Vec<_>, String>>()?;
        match pairs.is_sorted_by(|a, b| a.0 < b.0) {
            true => Ok(Pairs(pairs)),
            false => Err(format!("`{text}`: layers are named once, in their order")),
        }
    }
}
impl fmt::Display for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |(own, other): &(usize, Option<usize>)| match other {
            Some(other) => format!("{own}:{other}"),
            None => own.to_string(),
        };
        f.write_str(&self.0.iter().map(one).collect::<Vec<_>>().join(","))
    }
}
crate::by_text!(Pairs);

/// Who teaches, and the data as its tokenizer reads it.
pub struct Teacher {
    /// What it is called in errors.
    pub name: String,
    /// Itself.
    pub learner: Learner,
    /// The examples of the student, one for one, with the student's labels.
    pub examples: Examples,
}

/// Of the examples that a teacher reads those of the student's records. An error unless each of them
/// is one of the student's, with the same labels.
pub fn matched(name: &str, of_teacher: &Examples, student: &Examples) -> Result<Examples> {
    let records: BTreeSet<usize> = student.iter().map(|e| e.record).collect();
    let own: Examples = of_teacher.iter().filter(|e| records.contains(&e.record)).collect();
    let wrong = |what: String| {
        let why = format!("{what}: its tokenizer or its --max-length cuts the data in other pieces");
        Err(Error::Option { option: "teacher", value: name.into(), why })
    };
    if own.len() != student.len() {
        return wrong(format!("it reads {} examples, and the student {}", own.len(), student.len()));
    }
    let is_same = |(a, b): (Example, Example)| (a.record, a.labels) == (b.record, b.labels);
    let other = own.iter().zip(student.iter()).position(|pair| !is_same(pair));
    match other {
        Some(i) => wrong(format!("example {} has other labels than the student's", i + 1)),
        None => Ok(own),
    }
}

/// What was said of all examples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lesson {
    /// Outputs of a row.
    width: usize,
    /// Where the labelled rows of each example end.
    ends: Vec<usize>,
    /// (labelled rows, outputs)
    targets: Vec<f32>,
    /// Numbers of hidden states that each of these rows has.
    of_row: usize,
    /// Of each example (layers, labelled rows, channels).
    hidden: Vec<f32>,
    /// Labelled rows for which the label is what was found most probable, where outputs are classes.
    pub right: Option<usize>,
}

/// The places of a student's classes among those of its teacher; an error that lists what only one
/// of them has.
fn order(teacher: &Teacher, student: &dyn Task) -> Result<Option<Vec<usize>>> {
    let (own, theirs) = (student.labels(), teacher.learner.task().labels());
    if own == theirs {
        return Ok(None);
    }
    let only = |of: &[String], not: &[String]| {
        list(&of.iter().filter(|name| !not.contains(name)).cloned().collect::<Vec<_>>())
    };
    let place = |name: &String| theirs.iter().position(|other| other == name);
    match own.iter().map(place).collect::<Option<Vec<usize>>>() {
        Some(places) if own.len() == theirs.len() => Ok(Some(places)),
        _ => {
            let why = format!(
                "its labels are not those of the data; only the teacher has: {}; only the data has: {}",
                only(theirs, own),
                only(own, theirs)
            );
            Err(Error::Option { option: "teacher", value: teacher.name.clone(), why })
        }
    }
}

impl Lesson {
    /// What teachers say at a temperature to a student of a task, without dropout; and, if there are
    /// layers, their hidden states behind these, of a single teacher. `most` bytes are kept at most:
    /// an error says how many there would be.
    pub fn of(
        teachers: &[Teacher],
        student: &dyn Task,
        temperature: f64,
        layers: &[usize],
        (size, most, mode): (BatchSize, usize, Mode),
    ) -> Result<Lesson> {
        let what = outputs(student)?;
        let mut lesson = Lesson::default();
        for teacher in teachers {
            let (examples, order) = (&teacher.examples, order(teacher, student)?);
            let batches = Batches::new(examples, size, Order::Longest);
            let mut progress = Progress::new(mode, "teach", batches.len() as u64);
            for batch in batches {
                let (logits, hidden) = teacher.learner.teach(&batch, layers)?;
                let channels = hidden.first().map_or(0, Array2::ncols);
                if lesson.ends.is_empty() {
                    lesson.begin(examples, logits.ncols(), layers.len() * channels, most)?;
                }
                if lesson.width != logits.ncols() {
                    let (a, b) = (lesson.width, logits.ncols());
                    let why = format!("it says {b} numbers of a row, and another one {a}");
                    return Err(Error::Option { option: "teacher", value: teacher.name.clone(), why });
                }
                let soft = |z: &[f32]| {
                    let z: Vec<f32> = match &order {
                        Some(places) => places.iter().map(|at| z[*at]).collect(),
                        None => z.to_vec(),
                    };
                    what.softened(&z, temperature)
                };
                lesson.note(&batch, (&logits, &hidden), soft, 1.0 / teachers.len() as f64);
                progress.step(None, batch.tokens() as u64);
            }
            progress.finish();
            if let Some(bad) = lesson.targets.iter().chain(&lesson.hidden).find(|x| !x.is_finite()) {
                let why = format!("it says {bad}, which is no number to learn");
                return Err(Error::Option { option: "teacher", value: teacher.name.clone(), why });
            }
        }
        if let Some(first) = teachers.first().filter(|_| what == Outputs::Classes) {
            lesson.right = Some(lesson.hits(&first.examples));
        }
        Ok(lesson)
    }
    fn begin(&mut self, examples: &Examples, width: usize, of_row: usize, most: usize) -> Result<()> {
        let mut end = 0;
        let labelled = |e: Example| {
            end += e.labels.iter().filter(|l| **l != IGNORED).count();
            end
        };
        self.ends = examples.iter().map(labelled).collect();
        (self.width, self.of_row) = (width, of_row);
        let bytes = end.saturating_mul(4 * (width + of_row));
        if bytes > most {
            let why = format!(
                "what it says of {end} labelled rows takes {}, and {} may be kept: learn from fewer examples, or \
                 from a task with fewer classes",
                show(bytes),
                show(most)
            );
            return Err(Error::Option { option: "teacher", value: "given".into(), why });
        }
        self.targets = vec![0.0; end * width];
        self.hidden = vec![0.0; end * of_row];
        Ok(())
    }
    /// The labelled rows of an example.
    fn rows(&self, item: usize) -> Range<usize> {
        item.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[item]
    }
    /// Notes what one of the teachers, which counts for `share`, says of a batch.
    fn note(
        &mut self,
        batch: &Batch,
        (logits, hidden): (&Array2<f32>, &[Array2<f32>]),
        soft: impl Fn(&[f32]) -> Vec<f64>,
        share: f64,
    ) {
        let mut first = 0;
        for (item, count) in batch.items.iter().zip(batch.counts()) {
            let labelled: Vec<usize> =
                (first..first + count).filter(|row| batch.labels[*row] != IGNORED).collect();
            let rows = self.rows(*item);
            for (row, at) in labelled.iter().zip(rows.clone()) {
                let to = &mut self.targets[at * self.width..][..self.width];
                let said = soft(&logits.row(*row).to_vec());
                to.iter_mut().zip(said).for_each(|(to, p)| *to += (share * p) as f32);
            }
            let mut at = rows.start * self.of_row;
            for states in hidden {
                for row in &labelled {
                    let state = states.row(*row);
                    let length = state.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
                    let by = if length == 0.0 { 0.0 } else { length.recip() };
                    let to = &mut self.hidden[at..at + state.len()];
                    to.iter_mut().zip(state).for_each(|(to, x)| *to = (by * f64::from(*x)) as f32);
                    at += state.len();
                }
            }
            first += count;
        }
    }
    /// Rows whose label is the class that was found most probable, of equal ones the first.
    fn hits(&self, examples: &Examples) -> usize {
        let labels = examples.iter().flat_map(|e| e.labels).filter(|l| *l != IGNORED);
        let best = |p: &[f32]| (1..p.len()).fold(0, |b, k| if p[k] > p[b] { k } else { b });
        let rows = self.targets.chunks(self.width.max(1)).zip(labels);
        rows.filter(|(p, label)| best(p) == *label as usize).count()
    }
    /// Labelled rows of all examples.
    pub fn labelled(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }
    /// Channels of hidden states that each labelled row has of all layers.
    pub fn hidden_of_row(&self) -> usize {
        self.of_row
    }
    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.targets) + size_of_val(&*self.hidden) + size_of_val(&*self.ends)
    }
    /// A batch of its examples, with what was said of them.
    fn onto(&self, mut batch: Batch) -> Batch {
        let mut labels = batch.labels.as_slice();
        let counts: Vec<usize> = batch.counts().collect();
        let one = |(item, count): (&usize, usize)| {
            let own = labels.split_off(..count.min(labels.len())).unwrap_or_default();
            let rows = self.rows(*item);
            let mut said = self.targets[rows.start * self.width..].chunks(self.width.max(1));
            let blank = vec![0.0; self.width];
            let of_label = |label: &u32| match *label {
                IGNORED => blank.as_slice(),
                _ => said.next().unwrap_or(&blank),
            };
            let targets = own.iter().flat_map(of_label).copied().collect();
            Taught { targets, hidden: self.hidden[rows.start * self.of_row..rows.end * self.of_row].to_vec() }
        };
        batch.taught = batch.items.iter().zip(counts).map(one).collect();
        batch
    }
}

/// Examples in memory, each with what teachers say of it.
pub struct Lessons<'a> {
    examples: &'a Examples,
    lesson: &'a Lesson,
}
impl<'a> Lessons<'a> {
    /// The lesson is of these very examples; an error if it is of another number of them.
    pub fn new(examples: &'a Examples, lesson: &'a Lesson) -> Result<Lessons<'a>> {
        match lesson.ends.len() == examples.len() {
            true => Ok(Lessons { examples, lesson }),
            false => Err(Error::Model(format!(
                "{} examples are taught by a lesson of {}",
                examples.len(),
                lesson.ends.len()
            ))),
        }
    }
}
impl Source for Lessons<'_> {
    fn batches(&self, size: BatchSize, order: Order) -> Box<dyn Iterator<Item = Result<Batch>> + '_> {
        Box::new(self.examples.batches(size, order).map(|batch| Ok(self.lesson.onto(batch?))))
    }
    fn count(&self, size: BatchSize, order: Order) -> Result<u64> {
        self.examples.count(size, order)
    }
    fn examples(&self) -> Option<u64> {
        Source::examples(self.examples)
    }
    /// Of the examples, and of what is said of them.
    fn hash(&self) -> String {
        let said = self.lesson.targets.iter().chain(&self.lesson.hidden);
        format!("{} {}", Source::hash(self.examples), hash_of(said.flat_map(|x| x.to_le_bytes())))
    }
    fn bytes(&self) -> usize {
        Source::bytes(self.examples) + self.lesson.bytes()
    }
}

#[cfg(test)]
mod tests;
