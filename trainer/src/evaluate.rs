//! Evaluation and prediction, in the order of the data.
use crate::{
    Result,
    batch::{Batches, Example, Order, put_back},
    classifier::{Classifier, packed},
    metrics::{Confusion, Metrics},
};

/// The logits of every example, in the order of the data: (examples, labels).
pub fn logits(c: &Classifier, examples: &[Example], batch_size: usize) -> Result<Vec<Vec<f32>>> {
    let mut rows = vec![];
    for batch in Batches::new(examples, batch_size, Order::Longest) {
        let z = c.predict(&packed(&batch))?;
        rows.extend(batch.items.iter().copied().zip(z.rows().into_iter().map(|r| r.to_vec())));
    }
    Ok(put_back(rows))
}

/// Softmax of one row, in double precision.
pub fn probabilities(logits: &[f32]) -> Vec<f64> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let e: Vec<f64> = logits.iter().map(|x| f64::from(x - top).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.iter().map(|x| x / sum).collect()
}

/// The number of the largest logit; of equal ones the first.
pub fn best(logits: &[f32]) -> usize {
    (1..logits.len()).fold(0, |b, i| if logits[i] > logits[b] { i } else { b })
}

/// All metrics on examples with labels.
pub fn evaluate(c: &Classifier, examples: &[Example], batch_size: usize) -> Result<Metrics> {
    let mut confusion = Confusion::new(c.labels().len());
    let mut loss = 0.0;
    for (z, e) in logits(c, examples, batch_size)?.iter().zip(examples) {
        let truth = e.label.unwrap_or_default();
        confusion.add(truth, best(z) as u32);
        let p = probabilities(z)[truth as usize];
        loss -= if p < f64::MIN_POSITIVE { f64::MIN_POSITIVE.ln() } else { p.ln() }; // and NaN stays
    }
    Ok(confusion.metrics(loss / examples.len().max(1) as f64, c.labels()))
}
