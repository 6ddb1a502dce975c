//! Batches of tokenised examples: packed one after the other, never padded.

use super::example::{Example, IGNORED, Reads};
use super::examples::Examples;
pub use super::order::{Order, put_back};
use super::taught::Taught;
use engraft_engine::Rows;
use engraft_models::{ModelInfo, Tokens};
use std::cell::LazyCell;
use std::iter::Peekable;
use std::ops::Range;

/// A few examples, packed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch {
    /// The tokens of all examples, one after the other; what a decoder reads beside them is in
    /// `reads`.
    pub input: Tokens,
    /// Which rows of the last hidden states of each example are read, (examples,).
    pub reads: Vec<Reads>,
    /// Of each row that is read the label, or [`IGNORED`], (rows,).
    pub labels: Vec<u32>,
    /// Of each example the numbers that are to be found ([`Example::values`]), (examples,).
    pub values: Vec<Vec<f32>>,
    /// Where each example stands in the data, (examples,).
    pub items: Vec<usize>,
    /// Who learns from each example, by number, (examples,); empty where everybody does.
    pub whose: Vec<usize>,
    /// What a teacher says of each example, (examples,); empty where nobody teaches.
    pub taught: Vec<Taught>,
}

impl Batch {
    /// Packs the examples at `items`, in that order.
    pub fn pack(examples: &Examples, items: &[usize]) -> Self {
        items.iter().map(|item| (*item, examples.get(*item))).collect()
    }

    /// Texts of one segment with their classes, as (token ids, class).
    pub fn of(texts: &[(&[u32], u32)]) -> Self {
        let example = |(ids, label): &(&[u32], u32)| Example::new(ids.to_vec(), Reads::Summary, vec![*label]);
        texts.iter().map(example).collect()
    }

    /// Those of its examples, in that order; each keeps its place in the data.
    pub fn select(&self, which: &[usize]) -> Self {
        let ranges = |counts: &mut dyn Iterator<Item = usize>| -> Vec<Range<usize>> {
            counts.scan(0, |end, n| Some(std::mem::replace(end, *end + n)..*end)).collect()
        };
        let (tokens, rows) = (ranges(&mut self.lengths()), ranges(&mut self.counts()));
        let sequences: Vec<Range<usize>> = self.sequences().collect();
        let mut part = Self::default();
        for &i in which {
            let (of, rows) = (tokens[i].clone(), rows[i].clone());
            part.input.ids.extend(&self.input.ids[of.clone()]);
            part.input.types.extend(&self.input.types[of.clone()]);
            part.input.lengths.extend(&self.input.lengths[sequences[i].clone()]);
            part.labels.extend(&self.labels[rows]);
            part.reads.push(self.reads[i].clone());
            part.values.push(self.values[i].clone());
            part.items.push(self.items[i]);
            part.whose.extend(self.whose.get(i));
            part.taught.extend(self.taught.get(i).cloned());
        }
        part
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Number of tokens, those of a decoder with them.
    pub fn tokens(&self) -> usize {
        self.input.ids.len() + self.reads.iter().map(Reads::decoded).sum::<usize>()
    }

    /// The rows that are read, as a model is told them.
    pub fn rows(&self, model: &ModelInfo) -> Rows {
        let chosen = |reads: &Reads| match reads {
            Reads::These(rows) => rows.clone(),
            _ => vec![],
        };
        let these = LazyCell::new(|| Rows::These(self.reads.iter().map(chosen).collect()));
        let one = |reads: &Reads| match reads {
            Reads::Summary | Reads::Choices(_) => model.summary.clone(),
            Reads::All | Reads::Decoded { .. } => Rows::All,
            Reads::These(_) => these.clone(),
        };
        let Some(first) = self.reads.first().map(one) else { return Rows::All };
        match self.reads.iter().all(|reads| one(reads) == first) {
            true => first,
            false => {
                let of_sequences =
                    |(reads, own): (&Reads, Range<usize>)| std::iter::repeat_n(one(reads), own.len());
                Rows::Each(self.reads.iter().zip(self.sequences()).flat_map(of_sequences).collect())
            }
        }
    }

    /// How many rows of each example are read.
    pub fn counts(&self) -> impl Iterator<Item = usize> + '_ {
        self.reads.iter().zip(self.lengths()).map(|(reads, tokens)| reads.count(tokens))
    }

    /// Rows that have a label.
    pub fn labelled(&self) -> usize {
        self.labels.iter().filter(|label| **label != IGNORED).count()
    }
}

impl FromIterator<Example> for Batch {
    /// Packs all of them, in their order.
    fn from_iter<I: IntoIterator<Item = Example>>(examples: I) -> Self {
        examples.into_iter().enumerate().collect()
    }
}

impl FromIterator<(usize, Example)> for Batch {
    /// Packs all of them, each with its place in the data, in the order in which they come.
    fn from_iter<I: IntoIterator<Item = (usize, Example)>>(examples: I) -> Self {
        let mut batch = Self::default();
        for (item, example) in examples {
            let rows = example.rows();
            batch.input.ids.extend(&example.ids);
            batch.input.types.extend(&example.types);
            match &example.reads {
                Reads::Choices(lengths) => batch.input.lengths.extend(lengths),
                _ => batch.input.lengths.push(example.ids.len()),
            }
            batch.labels.extend((0..rows).map(|i| example.labels.get(i).copied().unwrap_or(IGNORED)));
            batch.reads.push(example.reads);
            batch.values.push(example.values);
            batch.items.push(item);
        }
        batch
    }
}

/// How much a batch holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchSize {
    /// So many examples.
    Examples(usize),
    /// As many examples as together have at most so many tokens, and one at least. They are taken
    /// in the order of the epoch as they come, until the next one does not fit: nothing is sorted
    /// by length, so every order of the examples stays as likely as any other.
    Tokens(usize),
}

impl From<usize> for BatchSize {
    fn from(examples: usize) -> Self {
        Self::Examples(examples)
    }
}

/// The next batch of what comes, each with so many tokens; empty if nothing comes any more.
pub(crate) fn fill<T>(
    from: &mut Peekable<impl Iterator<Item = T>>,
    size: BatchSize,
    tokens: impl Fn(&T) -> usize,
) -> Vec<T> {
    let (mut batch, mut held) = (vec![], 0usize);
    while let Some(next) = from.next_if(|next| match size {
        BatchSize::Examples(n) => batch.len() < n,
        BatchSize::Tokens(most) => batch.is_empty() || held.saturating_add(tokens(next)) <= most,
    }) {
        held = held.saturating_add(tokens(&next));
        batch.push(next);
    }
    batch
}

/// The batches of one epoch; the last one may be short.
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    examples: &'a Examples,
    /// What is left.
    order: Peekable<std::vec::IntoIter<usize>>,
    size: BatchSize,
}

impl<'a> Batches<'a> {
    /// Batches of `size`: a number of examples, or of tokens.
    pub fn new(examples: &'a Examples, size: impl Into<BatchSize>, order: Order) -> Self {
        let size = size.into();
        assert!(!matches!(size, BatchSize::Examples(0)), "a batch holds at least one example");
        Self { examples, order: order.of(examples).into_iter().peekable(), size }
    }

    /// The places of the examples of the next batch.
    fn items(&mut self) -> Vec<usize> {
        fill(&mut self.order, self.size, |item| self.examples.length(*item))
    }
}

impl Iterator for Batches<'_> {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        let items = self.items();
        (!items.is_empty()).then(|| Batch::pack(self.examples, &items))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match self.size {
            BatchSize::Examples(n) => self.order.len().div_ceil(n),
            BatchSize::Tokens(_) => {
                let mut rest = self.clone();
                std::iter::repeat_with(|| rest.items()).take_while(|items| !items.is_empty()).count()
            }
        };
        (left, Some(left))
    }
}

impl ExactSizeIterator for Batches<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_of_a_batch_are_the_batch_of_some() {
        let example = |n: u32, reads| Example::new((0..n).collect(), reads, vec![n; 2]);
        let all = [
            example(3, Reads::These(vec![0, 2])),
            example(1, Reads::These(vec![])),
            example(5, Reads::These(vec![4])),
        ];
        let batch: Batch = all.iter().cloned().collect();
        let some: Batch = [2, 0].into_iter().map(|i| (i, all[i].clone())).collect();
        assert_eq!(batch.select(&[2, 0]), some);
        assert_eq!(batch.select(&[0, 1, 2]), batch);
        assert!(batch.select(&[]).is_empty());
    }

    /// Examples of 1, 2, .. tokens in a scrambled order of lengths; token i of example k is 100 k +
    /// i.
    fn examples(n: usize) -> Examples {
        let one = |k: usize| {
            let ids: Vec<u32> = (0..(k * 7) % n + 1).map(|i| (100 * k + i) as u32).collect();
            Example::new(ids, Reads::Summary, vec![k as u32 % 3])
        };
        (0..n).map(one).collect()
    }

    #[test]
    fn batches_hold_everything_once() {
        let examples = examples(10);
        for order in [Order::File { epoch: 0 }, Order::Longest, Order::Shuffled { seed: 1, epoch: 0 }] {
            let batches = Batches::new(&examples, 4, order);
            assert_eq!(batches.len(), 3);
            let batches: Vec<Batch> = batches.collect();
            assert_eq!(batches.iter().map(Batch::len).collect::<Vec<_>>(), [4, 4, 2]);
            let mut found = Vec::new();
            for batch in &batches {
                assert_eq!(batch.tokens(), batch.input.lengths.iter().sum::<usize>());
                let mut from = 0;
                for (i, &item) in batch.items.iter().enumerate() {
                    assert_eq!(batch.input.ids[from..from + batch.input.lengths[i]], examples.get(item).ids);
                    assert_eq!(batch.labels[i], examples.get(item).labels[0]);
                    from += batch.input.lengths[i];
                    found.push((item, item));
                }
            }
            assert_eq!(put_back(found), (0..10).collect::<Vec<_>>());
        }
        let lengths: Vec<usize> =
            Batches::new(&examples, 3, Order::Longest).flat_map(|batch| batch.input.lengths).collect();
        assert!(lengths.is_sorted_by(|a, b| a >= b));
        assert_eq!(Batches::new(&Examples::default(), 3, Order::File { epoch: 0 }).count(), 0);
    }

    #[test]
    fn batches_of_tokens_are_filled_in_order() {
        let examples = examples(10); // of 1, 8, 5, 2, 9, 6, 3, 10, 7, 4 tokens
        let items = |most, order| -> Vec<Vec<usize>> {
            let batches = Batches::new(&examples, BatchSize::Tokens(most), order);
            let (len, batches) = (batches.len(), batches.collect::<Vec<Batch>>());
            assert_eq!(batches.len(), len);
            for (i, b) in batches.iter().enumerate() {
                assert!(b.tokens() <= most || b.len() == 1, "{most}: {:?}", b.input.lengths);
                let next = batches.get(i + 1).map_or(usize::MAX, |next| next.input.lengths[0]);
                assert!(b.tokens().saturating_add(next) > most, "the next one would have fitted");
            }
            batches.into_iter().map(|b| b.items).collect()
        };
        assert_eq!(
            items(9, Order::File { epoch: 0 }),
            [vec![0, 1], vec![2, 3], vec![4], vec![5, 6], vec![7], vec![8], vec![9]]
        );
        assert_eq!(items(1, Order::File { epoch: 0 }).len(), 10, "longer texts stand alone");
        assert_eq!(items(55, Order::File { epoch: 0 }).len(), 1);
        assert_eq!(items(1000, Order::Longest).len(), 1);
        for most in [1, 9, 10, 17, 54, 55] {
            let mut counts = vec![];
            for epoch in 0..4 {
                let order = Order::Shuffled { seed: 5, epoch };
                let batches = items(most, order);
                assert_eq!(batches.concat(), order.of(&examples), "nothing is moved");
                counts.push(batches.len());
            }
            assert!(most != 17 || counts.iter().any(|n| *n != counts[0]), "{counts:?}");
        }
        let empty = Examples::default();
        let none = Batches::new(&empty, BatchSize::Tokens(3), Order::File { epoch: 0 });
        assert_eq!((none.len(), none.count()), (0, 0));
        // what is left is counted while batches are taken
        let mut batches = Batches::new(&examples, BatchSize::Tokens(9), Order::File { epoch: 0 });
        batches.next();
        assert_eq!(batches.len(), 6);
    }

    #[test]
    fn every_row_that_is_read_has_a_place_for_a_label() {
        let word = |ids: &[u32], rows: &[usize], labels: &[u32]| {
            Example::new(ids.to_vec(), Reads::These(rows.to_vec()), labels.to_vec())
        };
        let examples = [word(&[1, 2, 3], &[1], &[7]), word(&[4], &[], &[]), word(&[5, 6], &[0, 1], &[])];
        let batch: Batch = examples.into_iter().collect();
        assert_eq!((batch.counts().collect::<Vec<_>>(), batch.labelled()), (vec![1, 0, 2], 1));
        assert_eq!(batch.labels, [7, IGNORED, IGNORED]);
        let texts = [Example::new(vec![1, 2], Reads::All, vec![3, IGNORED])];
        let batch: Batch = texts.into_iter().collect();
        assert_eq!((batch.counts().collect::<Vec<_>>(), batch.labels), (vec![2], vec![3, IGNORED]));
    }
}
