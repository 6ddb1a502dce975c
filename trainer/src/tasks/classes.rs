//! What tasks share that choose one class for each row.
use super::{task::Answer, top::Top};
use crate::{
    Result,
    text::{batch::Batch, example::IGNORED},
};
use engraft_engine::{Act, Cx};

/// The sum of the cross-entropies of the labelled rows.
pub fn loss<'m>(cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Act> {
    let logits = top.logits(cx, x)?;
    Ok(cx.cross_entropy(&logits, &batch.labels)?.0)
}

/// For each example of a batch the logits of its rows, one after the other, with loss and count of those that have a label.
pub fn answers<'m>(cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Vec<Answer>> {
    let logits = top.logits(cx, x)?.to_array()?;
    let mut rows = logits.rows().into_iter().zip(&batch.labels);
    let one = |count: usize| {
        let mut answer = Answer::default();
        for (row, label) in rows.by_ref().take(count) {
            let row = row.to_vec();
            if *label != IGNORED {
                let own = row.get(*label as usize).copied().unwrap_or(f32::NAN);
                answer.loss += log_sum_exp(&row) - f64::from(own);
                answer.count += 1.0;
            }
            answer.chosen.push(best(&row) as u32);
            answer.scores.extend(row);
        }
        answer
    };
    Ok(batch.counts().map(one).collect())
}

/// The mean loss over all answers.
pub fn mean_loss(answers: &[Answer]) -> f64 {
    let (loss, count) = answers.iter().fold((0.0, 0.0), |(l, n), a| (l + a.loss, n + a.count));
    loss / f64::max(count, 1.0)
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
fn best(logits: &[f32]) -> usize {
    (1..logits.len()).fold(0, |b, i| if logits[i] > logits[b] { i } else { b })
}

/// A label that is given as a number: [`IGNORED`] if it is negative.
pub fn numbered(label: i64, classes: usize) -> Result<u32, String> {
    match u32::try_from(label) {
        Err(_) if label < 0 => Ok(IGNORED),
        Ok(number) if (number as usize) < classes => Ok(number),
        _ => Err(format!("label {label} is not among the head's {classes}")),
    }
}
