//! The order in which examples are visited, and the way back to that of the data.
//!
//! The order of an epoch is a pure function of the seed and the epoch's number, so a run can be
//! repeated and taken up again anywhere.

use super::examples::Examples;
use super::shuffle::{numbers, shuffle};

/// The order in which an epoch visits the examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As they stand in the file.
    File {
        /// The epoch: what is made anew in each is made by its number.
        epoch: u64,
    },
    /// At random, each order as likely as any other.
    Shuffled {
        /// The run's seed.
        seed: u64,
        /// The epoch, each with an order of its own.
        epoch: u64,
    },
    /// Longest first, so that batches are even: for evaluation, whose results [`put_back`] returns
    /// to the order of the file.
    Longest,
}

impl Order {
    /// The number of the epoch.
    pub fn epoch(self) -> u64 {
        match self {
            Self::File { epoch } | Self::Shuffled { epoch, .. } => epoch,
            Self::Longest => 0,
        }
    }
    /// The examples' places in the data, in the order of the visit.
    pub fn of(self, examples: &Examples) -> Vec<usize> {
        self.places(examples.len(), |i| examples.length(i))
    }

    /// The same of so many examples, each of so many tokens.
    pub(crate) fn places(self, examples: usize, tokens: impl Fn(usize) -> usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..examples).collect();
        match self {
            Self::File { .. } => {}
            Self::Shuffled { seed, epoch } => shuffle(&mut order, &mut numbers(seed, epoch)),
            Self::Longest => order.sort_by_key(|&i| std::cmp::Reverse(tokens(i))),
        }
        order
    }
}

/// Returns results, each with its place in the data ([`Batch::items`](super::batch::Batch::items)), to the order of the data.
pub fn put_back<T>(mut results: Vec<(usize, T)>) -> Vec<T> {
    results.sort_by_key(|&(item, _)| item);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::example::{Example, Reads};

    fn examples(n: usize) -> Examples {
        (0..n).map(|_| Example::new(vec![0], Reads::Summary, vec![0])).collect()
    }

    #[test]
    fn orders_are_kept_for_ever() {
        let examples = examples(10);
        let order = |seed, epoch| Order::Shuffled { seed, epoch }.of(&examples);
        // These numbers may not change: they are what a seed means.
        assert_eq!(order(42, 0), EPOCH_0);
        assert_eq!(order(42, 1), EPOCH_1);
        assert_ne!(order(43, 0), order(42, 0));
    }

    const EPOCH_0: [usize; 10] = [2, 1, 4, 3, 7, 0, 5, 8, 6, 9];
    const EPOCH_1: [usize; 10] = [2, 6, 1, 5, 4, 3, 0, 9, 8, 7];

    #[test]
    fn shuffles_are_fair() {
        // Every place gets every example about equally often: chi-squared with 25 degrees of
        // freedom.
        let examples = examples(6);
        let mut counts = [[0f64; 6]; 6];
        for epoch in 0..6000 {
            let order = Order::Shuffled { seed: 7, epoch };
            for (place, item) in order.of(&examples).into_iter().enumerate() {
                counts[place][item] += 1.0;
            }
        }
        let chi: f64 = counts.iter().flatten().map(|n| (n - 1000.0).powi(2) / 1000.0).sum();
        assert!(chi < 52.6, "{chi}: p < 0.001");
    }
}
