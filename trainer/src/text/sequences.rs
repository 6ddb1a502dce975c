//! Which sequences of a batch are whose: an example may be several.
use super::{batch::Batch, example::Reads};
use std::ops::Range;

impl Batch {
    /// The sequences of each example, by number.
    pub fn sequences(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let next =
            |end: &mut usize, reads: &Reads| Some(std::mem::replace(end, *end + reads.sequences())..*end);
        self.reads.iter().scan(0, next)
    }

    /// Of each sequence what is said of its example.
    pub fn of_sequences<T: Clone>(&self, of_examples: &[T]) -> Vec<T> {
        let each = self.sequences().zip(of_examples);
        each.flat_map(|(own, what)| std::iter::repeat_n(what.clone(), own.len())).collect()
    }

    /// Tokens of each example, without those of a decoder.
    pub fn lengths(&self) -> impl Iterator<Item = usize> + '_ {
        self.sequences().map(|own| self.input.lengths.get(own).unwrap_or_default().iter().sum())
    }
}

#[cfg(test)]
mod tests {
    use super::super::example::Example;
    use super::*;

    #[test]
    fn an_example_may_be_several_sequences() {
        let pair = |ids: &[u32]| (ids.to_vec(), vec![1; ids.len()]);
        let three = Example::choices(vec![pair(&[1, 2]), pair(&[3]), pair(&[4, 5])], Some(2));
        let one = Example::choices(vec![pair(&[6])], None);
        let batch: Batch = [one, three].into_iter().collect();
        assert_eq!((batch.len(), batch.tokens(), batch.labelled()), (2, 6, 1));
        assert_eq!(batch.input.lengths, [1, 2, 1, 2]);
        assert_eq!(batch.sequences().collect::<Vec<_>>(), [0..1, 1..4]);
        assert_eq!((batch.lengths().collect(), batch.counts().collect()), (vec![1, 5], vec![1, 3]));
        assert_eq!(batch.of_sequences(&['a', 'b']), ['a', 'b', 'b', 'b']);
        let part = batch.select(&[1]);
        assert_eq!((&part.input.ids[..], &part.input.lengths[..]), (&[1, 2, 3, 4, 5][..], &[2, 1, 2][..]));
        assert_eq!((part.items, part.input.types), (vec![1], vec![1; 5]));
    }
}
