//! Mixed batches: each example is answered by a learner of its own, all of them on one model.
use super::learner::Learner;
use crate::{Error, Result, tasks::Answer, text::batch::Batch};
use engraft_adapters::Active;
use engraft_engine::{Cx, Pass};

/// What the learners compute for the examples of a batch, without dropout: example i is answered by
/// the one with the number
/// `of_item[i]`, its head included, with the very bits that it gives by itself. They stand on one
/// model; their tasks read the same kind of rows, and may have classes of their own.
pub fn answers_of_each(learners: &[&Learner], of_item: &[usize], batch: &Batch) -> Result<Vec<Answer>> {
    let Some(first) = learners.first().filter(|_| of_item.len() == batch.len()) else {
        let (n, m) = (of_item.len(), batch.len());
        return Err(Error::Model(format!("{n} numbers of learners for a batch of {m} examples")));
    };
    if learners.iter().any(|l| !l.backbone().is_same(first.backbone())) {
        return Err(Error::Model("what answers in one batch stands on one model".into()));
    }
    let (model, device) = (first.backbone().model(), first.backbone().device());
    device.install(|| {
        let each = learners.iter().map(|l| l.active_above(1, 0));
        let active = Active::mixed(&each.collect::<Result<Vec<_>>>()?, of_item)?;
        let mut cx = Cx::new(device, &active, Pass::infer());
        let x = model.forward(&mut cx, &*batch.input_for(model.info())?, &batch.rows(model.info()))?;
        let mut answers = vec![Answer::default(); batch.len()];
        for (n, learner) in learners.iter().enumerate() {
            let own: Vec<usize> = (0..batch.len()).filter(|i| of_item[*i] == n).collect();
            if own.is_empty() {
                continue;
            }
            let rows = cx.take_sequences(&x, &own)?;
            let found = learner.task().answers(&mut cx, learner.top(), &rows, &batch.select(&own))?;
            own.iter().zip(found).for_each(|(i, answer)| answers[*i] = answer);
        }
        Ok(answers)
    })
}
