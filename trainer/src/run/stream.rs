//! Training data that is never in memory as a whole: files that are read again in every epoch.
//!
//! A part of the files is read and encoded at a time, and its examples go through a buffer, out of
//! which they come in a random order ([`Shuffled`]). How the batches of an epoch follow each other
//! depends on the run's seed and the epoch's number alone, so a run that goes on reads the epoch
//! under way once more and leaves out the steps that it has taken.
//!
//! Before the first epoch all records are looked at without a tokenizer ([`Survey`]): a hash of
//! them is what a run that goes on is held to, and every epoch that is read to its end, so that
//! files which change in the meantime are an error.
use super::{encoding::Encoding, source::Source};
use crate::{
    Error, Result,
    data::{Files, Seeing, Survey},
    tasks::{Purpose, Task},
    text::{
        batch::{Batch, BatchSize, Order, fill},
        example::{Example, Reads},
        examples::Examples,
        shuffle::{Room, Shuffled},
        tokenizer::Tokenizer,
    },
};
use std::cell::{Cell, RefCell};

/// Tokens of the buffer for each of its examples, if they are longer than that.
const TOKENS: usize = 256;
/// Examples that are looked at before the run: to know what is read of them, and that the tokenizer
/// is the same.
const SAMPLE: usize = 64;

/// An example and its number.
type Numbered = (usize, Example);
/// Examples one after the other.
type Reading<'a> = Box<dyn Iterator<Item = Result<Numbered>> + 'a>;

/// Files as a run learns from them.
pub struct Stream<'a> {
    files: Files,
    survey: Survey,
    task: &'a dyn Task,
    tokenizer: &'a Tokenizer,
    room: Room,
    /// The first examples.
    sample: Examples,
    /// How many examples there are, once that is known.
    len: Cell<Option<u64>>,
    /// Texts that were cut in the epoch under way or the last one, and all that were read in it.
    cut: Cell<(usize, usize)>,
    /// What else there is to say.
    notes: RefCell<Vec<String>>,
}

impl<'a> Stream<'a> {
    /// Files whose examples go through a buffer that holds at most so many of them, and 256 times
    /// as many tokens. `survey` is what was found in them before, if somebody has looked; else that
    /// is done now. An error if they cannot be read twice, or have no label.
    pub fn new(
        files: Files,
        survey: Option<Survey>,
        task: &'a dyn Task,
        tokenizer: &'a Tokenizer,
        buffer: usize,
    ) -> Result<Stream<'a>> {
        files.check_again()?;
        let survey = survey.map_or_else(|| files.survey(), Ok)?;
        let room = Room { examples: buffer, tokens: buffer.saturating_mul(TOKENS) };
        let (sample, len, cut) = (Examples::default(), Cell::default(), Cell::default());
        let notes = RefCell::default();
        let mut stream = Stream { files, survey, task, tokenizer, room, sample, len, cut, notes };
        let (mut sample, mut is_labelled) = (Examples::default(), false);
        for example in stream.examples() {
            let (_, example) = example?;
            is_labelled |= example.is_labelled();
            if sample.len() < SAMPLE {
                sample.push(example);
            } else if is_labelled {
                break;
            }
        }
        if !is_labelled {
            let why = "there is no label in it that belongs to a token";
            return Err(Error::file(&stream.files.name(), why));
        }
        stream.sample = sample;
        stream.cut.take();
        Ok(stream)
    }
    /// The files.
    pub fn files(&self) -> &Files {
        &self.files
    }
    /// Whether it is known without a tokenizer how many batches of this size there are.
    pub fn is_counted(&self, size: BatchSize) -> bool {
        matches!(size, BatchSize::Examples(_)) && (self.task.is_one_to_one() || self.len.get().is_some())
    }
    /// How many texts were cut in the epoch that was read last, of how many that were read in it.
    pub fn cut(&self) -> (usize, usize) {
        self.cut.get()
    }
    /// What else the task had to say of them in that epoch.
    pub fn notes(&self) -> Vec<String> {
        self.notes.borrow().clone()
    }
    /// All examples in the order of the files.
    fn examples(&self) -> impl Iterator<Item = Result<Numbered>> + '_ {
        let mut parts = self.files.parts();
        let mut under_way =
            Some((Seeing::default(), Encoding::new(self.task, self.tokenizer, Purpose::Train)));
        let mut ready = vec![].into_iter();
        let mut numbers = 0..;
        let mut next = move || loop {
            if let Some(example) = ready.next() {
                return Ok(numbers.next().map(|number| (number, example)));
            }
            let Some((mut seeing, mut encoding)) = under_way.take() else { return Ok(None) };
            ready = match parts.next().transpose()? {
                Some(part) => {
                    seeing.add(&part);
                    let examples = encoding.examples(&part)?;
                    self.cut.set(encoding.cut());
                    self.notes.replace(encoding.notes());
                    under_way = Some((seeing, encoding));
                    examples
                }
                None if seeing.end() != self.survey.seen => {
                    return Err(Error::file(&self.files.name(), "it has changed while the run reads it"));
                }
                None => encoding.rest().into_iter().collect(),
            }
            .into_iter();
        };
        std::iter::from_fn(move || next().transpose())
    }
    fn in_order(&self, order: Order) -> Reading<'_> {
        match order {
            Order::File { .. } => Box::new(self.examples()),
            Order::Shuffled { seed, epoch } => {
                // an example alone takes as few bytes as among others
                let small = |one: Result<Numbered>| {
                    one.map(|(number, example)| (example.ids.len(), (number, held(example))))
                };
                let back = |one: Result<(usize, Examples)>| one.map(|(n, examples)| (n, examples.get(0)));
                Box::new(Shuffled::new(self.examples().map(small), self.room, seed, epoch).map(back))
            }
            Order::Longest => {
                let why = "the examples of a stream cannot be sorted by length";
                Box::new(std::iter::once(Err(Error::Model(why.into()))))
            }
        }
    }
    /// How many examples there are.
    fn len(&self) -> Result<u64> {
        if self.task.is_one_to_one() {
            return Ok(self.survey.seen.records as u64);
        }
        if let Some(len) = self.len.get() {
            return Ok(len);
        }
        let len = self.examples().try_fold(0, |n, example| example.map(|_| n + 1))?;
        self.len.set(Some(len));
        Ok(len)
    }
}

impl Stream<'_> {
    /// How rows are read; what a decoder reads is as long as it may be, and there are as many choices
    /// as there may be.
    fn reads(&self) -> Reads {
        match self.sample.get(0).reads {
            Reads::Decoded { .. } | Reads::Choices(_) => self.task.sample(vec![0], &mut |_| 0).reads,
            other => other,
        }
    }
}

/// An example in the buffer.
fn held(example: Example) -> Examples {
    let mut one = Examples::from_iter([example]);
    one.shrink();
    one
}

/// An example of so many tokens, in several sequences the same number in each, of which everything is read and has a label that may be; what a
/// decoder says beside them is as long as that of this one.
fn full(tokens: usize, reads: &Reads) -> Example {
    let (reads, labels) = match reads {
        Reads::Summary => (Reads::Summary, 1),
        Reads::All => (Reads::All, tokens),
        Reads::These(_) => (Reads::These((0..tokens).collect()), tokens),
        Reads::Choices(all) => {
            let n = all.len().max(1);
            (Reads::Choices((0..n).map(|i| tokens * (i + 1) / n - tokens * i / n).collect()), 1)
        }
        Reads::Decoded { .. } => return Example::said(vec![0; tokens], vec![0; reads.decoded()]),
    };
    Example::new(vec![0; tokens], reads, vec![0; labels])
}

impl Source for Stream<'_> {
    fn batches(&self, size: BatchSize, order: Order) -> Box<dyn Iterator<Item = Result<Batch>> + '_> {
        let mut examples = self.in_order(order).peekable();
        Box::new(std::iter::from_fn(move || {
            let tokens = |one: &Result<Numbered>| {
                one.as_ref().map_or(0, |(_, example)| example.ids.len() + example.reads.decoded())
            };
            let batch = fill(&mut examples, size, tokens);
            (!batch.is_empty()).then(|| batch.into_iter().collect())
        }))
    }
    fn count(&self, size: BatchSize, order: Order) -> Result<u64> {
        match size {
            BatchSize::Examples(n) => Ok(self.len()?.div_ceil(n as u64)),
            BatchSize::Tokens(_) => self.batches(size, order).try_fold(0, |n, batch| batch.map(|_| n + 1)),
        }
    }
    fn examples(&self) -> Option<u64> {
        if self.task.is_one_to_one() { Some(self.survey.seen.records as u64) } else { self.len.get() }
    }
    /// Of all records, and of the first examples: another tokenizer makes others.
    fn hash(&self) -> String {
        format!("{}-{}", self.survey.seen.hash, self.sample.hash())
    }
    /// Those of a full buffer.
    fn bytes(&self) -> usize {
        let reads = self.reads();
        let longest = self.tokenizer.max_length() * reads.sequences() + reads.decoded();
        let tokens = self.room.examples.saturating_mul(longest).min(self.room.tokens.saturating_add(longest));
        // an id and a type; a label and a row
        let each = 5 + if reads == Reads::Summary { 0 } else { 8 };
        let empty = 2 * size_of::<(usize, (usize, Examples))>() + held(full(0, &Reads::Summary)).bytes();
        self.room.examples.saturating_mul(empty).saturating_add(tokens.saturating_mul(each))
    }
    /// As if all texts were as long as they may be; of so many tokens also as many texts as there
    /// may be, with one of that length and without.
    fn largest(&self, size: BatchSize) -> Option<Vec<Batch>> {
        let reads = self.reads();
        let longest = self.tokenizer.max_length() * reads.sequences();
        let shortest = self.tokenizer.special_tokens().max(1) * reads.sequences();
        let of = |lengths: Vec<usize>| lengths.into_iter().map(|n| full(n, &reads)).collect::<Batch>();
        let cut = |tokens: usize, length: usize| {
            let rest = Some(tokens % length).filter(|rest| *rest > 0);
            [vec![length; tokens / length], rest.into_iter().collect()].concat()
        };
        Some(match size {
            BatchSize::Examples(n) => vec![of(vec![longest; n])],
            BatchSize::Tokens(most) if most <= longest => vec![of(vec![longest]), of(cut(most, shortest))],
            BatchSize::Tokens(most) => {
                let mixed = [vec![longest], cut(most - longest, shortest)].concat();
                vec![of(cut(most, longest)), of(mixed), of(cut(most, shortest))]
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        data::{Columns, Content, Want},
        tasks::{Classification, Tagging},
        text::tokenizer::{
            Fit,
            tests::{alone, json},
        },
    };

    #[test]
    fn a_full_buffer_takes_no_more_than_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let fit = Fit { model: "tiny", vocabulary: 10, positions: None, max_length: 12 };
        let tokenizer = Tokenizer::of(&alone(&json()), fit).unwrap();
        let pair = |i: usize| format!("{}\t{}\t{}\n", "a ".repeat(i % 7 + 1), "b ".repeat(9), i % 2);
        let pairs = "text\ttext_pair\tlabel\n".to_string() + &(0..99).map(pair).collect::<String>();
        let words = |i: usize| "a X\nb Y\n".repeat(i % 9 + 1) + "\n";
        let classes = Classification::new(["0", "1"]).unwrap();
        let tags = Tagging::new(["X", "Y"]).unwrap();
        let cases: [(&str, String, &dyn Task); 2] =
            [("a.tsv", pairs, &classes), ("a.conll", (0..99).map(words).collect(), &tags)];
        for (name, text, task) in cases {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            let want = Want { content: task.content(), labels: task.content() != Content::Documents };
            let files = Files::new(&[path], &Columns::default(), want).unwrap();
            let stream = Stream::new(files, None, task, &tokenizer, 10).unwrap();
            let each = stream.examples().map(|e| held(e.unwrap().1).bytes());
            let mut each: Vec<usize> =
                each.map(|bytes| bytes + size_of::<(usize, (usize, Examples))>()).collect();
            each.sort_unstable();
            let most: usize = each.iter().rev().take(10).sum();
            assert!(
                most <= stream.bytes() && stream.bytes() < 4 * most,
                "{name}: {most} of {}",
                stream.bytes()
            );
        }
    }
}
