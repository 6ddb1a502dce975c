//! What tasks share that choose rows of an example instead of classes.
use super::{classes::log_sum_exp, task::Answer, top::Top};
use crate::{
    Result,
    text::{batch::Batch, example::IGNORED},
};
use engraft_engine::{Act, Cx};

/// The sum over the examples of a batch of their cross-entropies over rows. `targets` has for each
/// example a row of each column, counted from its first one.
pub fn loss<'m>(cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch, targets: &[u32]) -> Result<Act> {
    let lengths: Vec<usize> = batch.counts().collect();
    let logits = top.logits(cx, x)?;
    Ok(cx.cross_entropy_of_rows(&logits, &lengths, targets)?.0)
}

/// For each example of a batch its loss, and what `keep` makes of the columns of its scores: what is
/// chosen, and numbers.
pub fn answers<'m>(
    cx: &mut Cx<'m>,
    top: Top<'m>,
    x: &Act,
    batch: &Batch,
    targets: &[u32],
    keep: impl Fn(&[Vec<f32>]) -> (Vec<u32>, Vec<f32>),
) -> Result<Vec<Answer>> {
    let logits = top.logits(cx, x)?.to_array()?;
    let mut all = logits.rows().into_iter();
    let mut targets = targets.chunks(logits.ncols().max(1));
    let one = |rows: usize| {
        let mut columns = vec![Vec::with_capacity(rows); logits.ncols()];
        for row in all.by_ref().take(rows) {
            columns.iter_mut().zip(row).for_each(|(column, score)| column.push(*score));
        }
        let known = targets.next().unwrap_or_default().iter().zip(&columns).filter(|(t, _)| **t != IGNORED);
        let (loss, count) = known.fold((0.0, 0.0), |(loss, n), (target, column)| {
            let right = column.get(*target as usize).copied().unwrap_or(f32::NAN);
            (loss + log_sum_exp(column) - f64::from(right), n + 1.0)
        });
        let (chosen, scores) = keep(&columns);
        let (loss, count) = if count > 0.0 { (loss / columns.len() as f64, 1.0) } else { (0.0, 0.0) };
        Answer { loss, count, chosen, scores, ..Answer::default() }
    };
    Ok(batch.counts().map(one).collect())
}
