//! What tasks share whose labels are tokens of the vocabulary.
use super::{task::Answer, top::Top};
use crate::{
    Result,
    text::{batch::Batch, example::IGNORED},
};
use engraft_engine::{Act, Cx};

/// Labels as they are given: what is negative is none.
pub fn labels(each: &[i64]) -> Result<Vec<u32>, String> {
    let label = |l: &i64| if *l < 0 { Ok(IGNORED) } else { u32::try_from(*l).map_err(|e| e.to_string()) };
    each.iter().map(label).collect()
}

/// For each example of a batch the losses of its labelled rows, and how many these are.
pub fn answers<'m>(cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Vec<Answer>> {
    let (x, last) = top.last(cx, x)?;
    let losses = cx.linear_cross_entropies(&x, &last, &batch.labels)?;
    let mut rows = losses.into_iter().zip(&batch.labels);
    let mut answer = |rows_of_one: usize| {
        let scored = rows.by_ref().take(rows_of_one).filter(|(_, label)| **label != IGNORED);
        let (loss, count) = scored.fold((0.0, 0), |(sum, n), (loss, _)| (sum + f64::from(loss), n + 1));
        Answer { loss, count: f64::from(count), ..Answer::default() }
    };
    Ok(batch.counts().map(&mut answer).collect())
}
