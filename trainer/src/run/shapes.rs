//! The sizes of batches, as far as memory depends on them.
use crate::text::{
    batch::Batch,
    example::{Example, IGNORED, Reads},
    taught::Taught,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

/// Batches of one kind that are priced: more than that are never needed, as small ones cost less
/// than large ones.
pub(super) const MOST: usize = 4096;
/// What memory depends on in an example: whose it is, tokens of its sequences, rows that are read,
/// labels among them.
pub(super) type Shape = (usize, Vec<usize>, usize, usize);

/// Different batches, as the shapes of their examples in order of size; those with most tokens, if
/// there are too many.
#[derive(Clone, Debug, Default)]
pub(super) struct Shapes {
    pub(super) shapes: BTreeSet<(usize, Vec<Shape>)>,
    /// Which kind of rows is read of whose examples, and how many numbers are to be found in each.
    kinds: BTreeMap<usize, (Reads, usize)>,
    /// Whether each example has a learner of its own.
    is_mixed: bool,
    /// Numbers that a teacher says of each row that is read, and of each that has a label.
    taught: Option<(usize, usize)>,
}
impl Shapes {
    pub(super) fn add(&mut self, batch: &Batch) {
        let mut labels = batch.labels.as_slice();
        let whose = batch.whose.iter().copied().chain(std::iter::repeat(0));
        let shape = |((own, rows), whose): ((Range<usize>, usize), usize)| {
            let of_rows = labels.split_off(..rows.min(labels.len())).unwrap_or_default();
            let labelled = of_rows.iter().filter(|label| **label != IGNORED).count();
            (whose, batch.input.lengths[own].to_vec(), rows, labelled)
        };
        let mut shapes: Vec<Shape> = batch.sequences().zip(batch.counts()).zip(whose).map(shape).collect();
        shapes.sort_unstable();
        self.is_mixed = !batch.whose.is_empty();
        let said = |of: fn(&Taught) -> usize| batch.taught.iter().map(of).sum::<usize>();
        let of_row = |n: usize, rows: usize| n.checked_div(rows).unwrap_or(0);
        if !batch.taught.is_empty() && batch.labelled() > 0 {
            let targets = of_row(said(|t| t.targets.len()), batch.labels.len());
            self.taught = Some((targets, of_row(said(|t| t.hidden.len()), batch.labelled())));
        }
        for (n, (reads, values)) in batch.reads.iter().zip(&batch.values).enumerate() {
            let whose = batch.whose.get(n).copied().unwrap_or(0);
            let (_, most) = self.kinds.entry(whose).or_insert_with(|| (reads.clone(), 0));
            *most = values.len().max(*most);
        }
        self.shapes.insert((batch.tokens(), shapes));
        if self.shapes.len() > MOST {
            self.shapes.pop_first();
        }
    }
    pub(super) fn largest(&self, n: usize) -> impl Iterator<Item = Batch> + '_ {
        self.shapes.iter().rev().take(n).map(|(_, shapes)| self.blank(shapes))
    }
    /// A batch of these shapes: of the token 0, and of the label 0 in front of rows without one.
    fn blank(&self, shapes: &[Shape]) -> Batch {
        let example = |(whose, lengths, rows, labels): &Shape| {
            let (tokens, rows, labels) = (lengths.iter().sum(), *rows, *labels);
            let (reads, values) = self.kinds.get(whose).cloned().unwrap_or_default();
            let reads = match reads {
                Reads::These(_) => Reads::These((0..rows).collect()),
                Reads::Choices(_) => Reads::Choices(lengths.clone()),
                Reads::Decoded { .. } => {
                    Reads::Decoded { start: None, tokens: vec![0; rows.saturating_sub(1)] }
                }
                other => other,
            };
            let values = vec![0.0; if labels > 0 { values } else { 0 }];
            Example { values, ..Example::new(vec![0; tokens], reads, vec![0; labels]) }
        };
        let mut batch: Batch = shapes.iter().map(example).collect();
        if self.is_mixed {
            batch.whose = shapes.iter().map(|shape| shape.0).collect();
        }
        if let Some((targets, hidden)) = self.taught {
            let of = |(_, _, rows, labels): &Shape| Taught {
                targets: vec![0.0; rows * targets],
                hidden: vec![0.0; labels * hidden],
            };
            batch.taught = shapes.iter().map(of).collect();
        }
        batch
    }
    /// A batch as small as can be, for each of these learners.
    pub(super) fn least(&self, whose: impl IntoIterator<Item = usize>) -> Batch {
        self.blank(&whose.into_iter().map(|n| (n, vec![1], 1, 1)).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_to_be_found_are_priced() {
        let value = |n: usize| Example::new(vec![0; n], Reads::Summary, vec![0]);
        let batch: Batch = [2, 3].map(|n| Example { values: vec![0.5; 4], ..value(n) }).into_iter().collect();
        let mut b = Shapes::default();
        b.add(&batch);
        let (largest, least) = (b.largest(1).next().unwrap(), b.least([0]));
        assert_eq!((largest.values, largest.labels), (vec![vec![0.0; 4]; 2], vec![0, 0]));
        assert_eq!(least.values, [[0.0; 4]]);
    }

    #[test]
    fn of_too_many_batches_the_largest_are_kept() {
        let mut b = Shapes::default();
        (1..=MOST + 9).for_each(|n| b.add(&Shapes::default().blank(&[(0, vec![n], 1, 1)])));
        assert_eq!((b.shapes.len(), b.largest(1).next().unwrap().tokens()), (MOST, MOST + 9));
    }
}
