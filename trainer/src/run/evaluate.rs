//! Evaluation and prediction, in the order of the data.
use crate::{
    Result,
    learner::{Classifier, learner::packed},
    reports::{
        confusion::{Confusion, Metrics},
        progress::{Mode, Progress},
    },
    text::batch::{Batches, Example, Order, Size, put_back},
};

/// The logits of every example, in the order of the data: (examples, labels). Long work shows its progress as `mode` says.
pub fn logits(
    c: &Classifier,
    examples: &[Example],
    size: impl Into<Size>,
    mode: Mode,
) -> Result<Vec<Vec<f32>>> {
    let mut rows = vec![];
    let batches = Batches::new(examples, size, Order::Longest);
    let mut progress = Progress::new(mode, "evaluate", batches.len() as u64);
    for batch in batches {
        let z = c.predict(&packed(&batch))?;
        rows.extend(batch.items.iter().copied().zip(z.rows().into_iter().map(|r| r.to_vec())));
        progress.step(None, batch.tokens() as u64);
    }
    progress.finish();
    Ok(put_back(rows))
}

/// log Σ exp of one row, in double precision.
fn log_sum_exp(logits: &[f32]) -> f64 {
    let top = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    top + logits.iter().map(|x| (f64::from(*x) - top).exp()).sum::<f64>().ln()
}
/// Softmax of one row, in double precision.
pub fn probabilities(logits: &[f32]) -> Vec<f64> {
    let all = log_sum_exp(logits);
    logits.iter().map(|x| (f64::from(*x) - all).exp()).collect()
}

/// The number of the largest logit; of equal ones the first.
pub fn best(logits: &[f32]) -> usize {
    (1..logits.len()).fold(0, |b, i| if logits[i] > logits[b] { i } else { b })
}

/// All metrics on examples with labels.
pub fn evaluate(c: &Classifier, examples: &[Example], size: impl Into<Size>, mode: Mode) -> Result<Metrics> {
    let mut confusion = Confusion::new(c.labels().len());
    let mut loss = 0.0;
    for (z, e) in logits(c, examples, size, mode)?.iter().zip(examples) {
        let truth = e.label.unwrap_or_default();
        confusion.add(truth, best(z) as u32);
        loss += log_sum_exp(z) - f64::from(z[truth as usize]);
    }
    Ok(confusion.metrics(loss / examples.len().max(1) as f64, c.labels()))
}
