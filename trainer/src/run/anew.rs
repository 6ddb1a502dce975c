//! Training data whose examples are made anew in every epoch.
use super::source::Source;
use crate::{
    Result,
    tasks::Anew,
    text::{
        batch::{Batch, BatchSize, Order},
        example::{Example, Reads},
        shuffle::{below, numbers_of},
    },
};

/// Another source, whose examples are encoded once and become others in every epoch: what, a seed,
/// the number of the epoch and the place of the example decide, and so the batches are a pure
/// function of size and order.
pub struct MadeAnew<'a> {
    from: &'a dyn Source,
    by: Box<dyn Anew>,
    seed: u64,
}

impl<'a> MadeAnew<'a> {
    /// Of these examples, by this.
    pub fn new(from: &'a dyn Source, by: Box<dyn Anew>, seed: u64) -> MadeAnew<'a> {
        MadeAnew { from, by, seed }
    }
    fn batch(&self, batch: &Batch, epoch: u64) -> Batch {
        let made = examples(batch).map(|(place, example)| {
            let mut random = numbers_of(self.seed, epoch, place as u64);
            (place, self.by.example(example, &mut |n| below(&mut random, n)))
        });
        Batch { whose: batch.whose.clone(), ..made.collect() }
    }
}

/// The examples of a batch, each with its place in the data.
fn examples(batch: &Batch) -> impl Iterator<Item = (usize, Example)> + '_ {
    let (mut token, mut row) = (0, 0);
    let counts = batch.counts().zip(&batch.input.lengths).zip(batch.reads.iter().zip(&batch.items));
    counts.map(move |((rows, tokens), (reads, item))| {
        let (of, labels) = (token..token + tokens, row..row + rows);
        (token, row) = (of.end, labels.end);
        let (ids, types) = (batch.input.ids[of.clone()].to_vec(), batch.input.types[of].to_vec());
        let labels = batch.labels[labels].to_vec();
        (*item, Example { ids, types, reads: reads.clone(), labels, ..Example::default() })
    })
}

impl Source for MadeAnew<'_> {
    fn batches(&self, size: BatchSize, order: Order) -> Box<dyn Iterator<Item = Result<Batch>> + '_> {
        Box::new(self.from.batches(size, order).map(move |batch| Ok(self.batch(&batch?, order.epoch()))))
    }
    fn count(&self, size: BatchSize, order: Order) -> Result<u64> {
        self.from.count(size, order)
    }
    /// Of what was encoded: what becomes of it is the run's, whose seed is recorded.
    fn hash(&self) -> String {
        self.from.hash()
    }
    fn bytes(&self) -> usize {
        self.from.bytes()
    }
    /// As if every row were read that may be, and had a label.
    fn largest(&self, size: BatchSize) -> Option<Vec<Batch>> {
        let full = |(place, e): (usize, Example)| {
            let rows = e.rows();
            (place, Example { reads: Reads::These((0..rows).collect()), labels: vec![0; rows], ..e })
        };
        let all = self.from.largest(size)?;
        Some(all.iter().map(|batch| examples(batch).map(full).collect()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::examples::Examples;

    /// Reads one row, which is drawn.
    struct One;
    impl Anew for One {
        fn example(&self, example: Example, draw: &mut dyn FnMut(u64) -> u64) -> Example {
            let row = draw(example.ids.len() as u64) as usize;
            Example { labels: vec![example.ids[row]], reads: Reads::These(vec![row]), ..example }
        }
    }

    #[test]
    fn an_epoch_is_made_by_its_number_and_each_example_by_its_place() {
        let one = |i: u32| Example::new((i..i + 40).collect(), Reads::All, vec![0; 40]);
        let data: Examples = (0..9).map(one).collect();
        let of = |seed, size: usize, order| -> Vec<(usize, Example)> {
            let source = MadeAnew::new(&data, Box::new(One), seed);
            let batches: Vec<Batch> = source.batches(size.into(), order).map(Result::unwrap).collect();
            assert_eq!(source.count(size.into(), order).unwrap(), batches.len() as u64);
            let mut all: Vec<_> = batches.iter().flat_map(examples).collect();
            all.sort_by_key(|(place, _)| *place);
            all
        };
        let (file, shuffled) = (|epoch| Order::File { epoch }, |epoch| Order::Shuffled { seed: 1, epoch });
        assert_eq!(of(1, 2, file(0)), of(1, 5, shuffled(0)), "batches and orders make no difference");
        assert_ne!(of(1, 2, file(0)), of(1, 2, file(1)));
        assert_ne!(of(1, 2, file(0)), of(2, 2, file(0)));
        assert_eq!(of(1, 3, shuffled(4)), of(1, 3, shuffled(4)));
        let rows: Vec<Reads> = of(1, 9, file(0)).into_iter().map(|(_, e)| e.reads).collect();
        assert!(rows.iter().any(|r| *r != rows[0]));
    }
}
