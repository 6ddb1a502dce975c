//! Where the batches of a run come from: examples in memory, or anything else that gives the same
//! ones again.
use crate::{
    Result,
    text::{
        batch::{Batch, BatchSize, Batches, Order},
        examples::Examples,
    },
};
use sha2::{Digest, Sha256};

/// What a run learns from, epoch after epoch.
///
/// A run is repeated, and goes on where it was stopped, to the bit: batches must be a pure function
/// of size and order, and whatever stands behind them may not change while it runs.
pub trait Source {
    /// The batches of one epoch, at least one, in this order. Behind an error nothing is asked for.
    fn batches(&self, size: BatchSize, order: Order) -> Box<dyn Iterator<Item = Result<Batch>> + '_>;
    /// How many these are.
    fn count(&self, size: BatchSize, order: Order) -> Result<u64>;
    /// How many examples an epoch has, where that is known without reading them.
    fn examples(&self) -> Option<u64> {
        None
    }
    /// What must not have changed when a run goes on, as a hash.
    fn hash(&self) -> String;
    /// Bytes that it holds at most while it gives batches.
    fn bytes(&self) -> usize;
    /// Batches that need as much memory as any of this size, if the real ones are too many to be
    /// looked at.
    fn largest(&self, _: BatchSize) -> Option<Vec<Batch>> {
        None
    }
}

/// Batches in steps of so many; the last step may have fewer. It ends with an error.
pub(super) fn steps<'a>(
    mut batches: Box<dyn Iterator<Item = Result<Batch>> + 'a>,
    accumulation: usize,
) -> impl Iterator<Item = Result<Vec<Batch>>> + 'a {
    std::iter::from_fn(move || {
        let step: Result<Vec<Batch>> = batches.by_ref().take(accumulation).collect();
        (!matches!(&step, Ok(step) if step.is_empty())).then_some(step)
    })
}

/// A hash of some bytes, as text.
pub(super) fn hash_of(bytes: impl Iterator<Item = u8>) -> String {
    text_of(Sha256::new_with_prefix(bytes.collect::<Vec<u8>>()))
}
fn text_of(hash: Sha256) -> String {
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

impl Source for Examples {
    fn batches(&self, size: BatchSize, order: Order) -> Box<dyn Iterator<Item = Result<Batch>> + '_> {
        Box::new(Batches::new(self, size, order).map(Ok))
    }
    fn count(&self, size: BatchSize, order: Order) -> Result<u64> {
        Ok(Batches::new(self, size, order).len() as u64)
    }
    fn examples(&self) -> Option<u64> {
        Some(self.len() as u64)
    }
    fn hash(&self) -> String {
        let mut h = Sha256::new();
        h.update((self.len() as u64).to_le_bytes());
        for e in self.iter() {
            for values in [&e.ids, &e.types, &e.labels] {
                h.update((values.len() as u64).to_le_bytes());
                values.iter().for_each(|v| h.update(v.to_le_bytes()));
            }
            h.update((e.values.len() as u64).to_le_bytes());
            e.values.iter().for_each(|v| h.update(v.to_le_bytes()));
        }
        text_of(h)
    }
    fn bytes(&self) -> usize {
        Examples::bytes(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::example::{Example, Reads};

    #[test]
    fn a_hash_tells_data_apart_by_all_that_is_learned() {
        let hash = |ids: &[u32], label: u32, value: f32| {
            let example = Example::new(ids.to_vec(), Reads::Summary, vec![label]);
            let one: Examples = [Example { values: vec![value], ..example }].into_iter().collect();
            one.hash()
        };
        assert_eq!(hash(&[1, 2], 0, 0.5), hash(&[1, 2], 0, 0.5));
        for other in [hash(&[1, 3], 0, 0.5), hash(&[1, 2], 1, 0.5), hash(&[1, 2], 0, 0.25)] {
            assert_ne!(hash(&[1, 2], 0, 0.5), other);
        }
    }
}
