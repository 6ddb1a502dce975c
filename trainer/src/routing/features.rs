//! What a text is to a router: a vector of the frozen model without any adapter.
use crate::{
    Result,
    data::Dataset,
    learner::Backbone,
    text::{
        batch::{Batch, BatchSize, Batches, Order, put_back},
        example::{Example, Reads},
        examples::Examples,
        shuffle::{numbers, shuffle},
        tokenizer::Tokenizer,
    },
};
use ndarray::{Array1, Array2, Axis, Slice};

choices! {
    /// How the last hidden states of a text become one vector.
    pub enum Pooling {
        /// The mean over its tokens
        Mean = "mean",
        /// The row that stands for the whole sequence, as a classification reads it
        Summary = "summary",
    }
}

/// The places of records that say what a task is like, and of a tenth, one at least, that are held
/// out: at most so many of them together, drawn at random.
pub fn split(records: usize, most: usize, seed: u64) -> [Vec<usize>; 2] {
    let mut order: Vec<usize> = (0..records).collect();
    shuffle(&mut order, &mut numbers(seed, 0));
    order.truncate(most);
    let mut learned = order.split_off((order.len() / 10).max(1).min(order.len()));
    learned.sort_unstable();
    order.sort_unstable();
    [learned, order]
}

/// The vectors of the records of a data set, (records, channels), in their order. Words are read as
/// a text, with spaces between.
pub fn features(
    backbone: &Backbone,
    tokenizer: &Tokenizer,
    pooling: Pooling,
    data: &Dataset,
    size: BatchSize,
) -> Result<Array2<f32>> {
    let reads = match pooling {
        Pooling::Mean => Reads::All,
        Pooling::Summary => Reads::Summary,
    };
    let tokens = tokenizer.encode_all(data)?;
    let one = |t: crate::text::tokenizer::TokenizedText| Example {
        types: t.types,
        ..Example::new(t.ids, reads.clone(), vec![])
    };
    let examples: Examples = tokens.into_iter().map(one).collect();
    let mut found: Vec<(usize, Array1<f32>)> = vec![];
    for batch in Batches::new(&examples, size, Order::Longest) {
        found.extend(batch.items.iter().copied().zip(vectors(backbone, &batch)?));
    }
    let channels = backbone.model().info().channels;
    let mut all = Array2::zeros((0, channels));
    for vector in put_back(found) {
        all.push_row(vector.view()).map_err(|e| crate::Error::Model(e.to_string()))?;
    }
    Ok(all)
}

/// The mean of the rows that are read of each example.
fn vectors(backbone: &Backbone, batch: &Batch) -> Result<Vec<Array1<f32>>> {
    let info = backbone.model().info();
    let x = backbone.hidden_rows(&*batch.input_for(info)?, &batch.rows(info))?;
    let mut start = 0;
    let mut mean = |rows: usize| {
        let own = x.slice_axis(Axis(0), Slice::from(start..start + rows));
        start += rows;
        own.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(x.ncols()))
    };
    Ok(batch.counts().map(&mut mean).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_is_held_out() {
        for (records, most, held) in
            [(100, 1000, 10), (100, 40, 4), (9, 9, 1), (2, 2, 1), (1, 1, 1), (0, 5, 0)]
        {
            let [learned, others] = split(records, most, 3);
            let mut all = [learned.clone(), others.clone()].concat();
            all.sort_unstable();
            all.dedup();
            assert_eq!((all.len(), others.len()), (records.min(most), held), "{records} {most}");
            assert!(learned.is_sorted() && all.iter().all(|i| *i < records));
        }
        assert_ne!(split(100, 100, 3), split(100, 100, 4));
    }
}
