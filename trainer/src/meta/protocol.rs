//! How good a start is: what comes of learning new tasks from a few examples.
use super::{
    episodes::{Classes, Shape},
    inner::Inner,
    outer::Weights,
};
use crate::{
    Error, Result,
    learner::Learner,
    reports::progress::Mode,
    run::evaluate::{Encoded, evaluate},
    text::{
        batch::{Batch, BatchSize, Batches, Order},
        examples::Examples,
    },
};
use serde::Serialize;

/// Scores of one start, from several supports or episodes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scores {
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation, with n - 1; none of one.
    pub deviation: Option<f64>,
    /// Half of the interval in which the mean of all lies with a confidence of 95 %, ± 1.96 s/√n;
    /// none of one.
    pub interval: Option<f64>,
    /// Each of them.
    pub each: Vec<f64>,
}
impl Scores {
    /// Of each of them.
    pub fn of(each: Vec<f64>) -> Scores {
        let n = each.len() as f64;
        let mean = each.iter().sum::<f64>() / n;
        let squares: f64 = each.iter().map(|x| (x - mean).powi(2)).sum();
        let deviation = (each.len() > 1).then(|| (squares / (n - 1.0)).sqrt());
        Scores { mean, deviation, interval: deviation.map(|s| 1.96 * s / n.sqrt()), each }
    }
}

/// The score of a learner that learns a task from a few examples, on all that the task is evaluated
/// on: its head is new, its adapter starts at these weights.
pub fn few_shot(
    learner: &mut Learner,
    start: &Weights,
    (support, inner, size): (&Examples, &Inner, usize),
    (seed, on, batch, metric): (u64, &Encoded, BatchSize, &str),
) -> Result<f64> {
    learner.set_adapter_weights(start)?;
    learner.clear_heads()?;
    if support.is_empty() {
        return Err(Error::Labels("there is no example to learn from".into()));
    }
    let batches: Vec<Batch> = (0..)
        .flat_map(|epoch| Batches::new(support, size, Order::Shuffled { seed, epoch }))
        .take(inner.steps)
        .collect();
    inner.learn(learner, &batches, seed)?;
    let found = evaluate(learner, on, batch, Mode::Quiet)?;
    Ok(found.metrics.scores.get(metric).unwrap_or(f64::NAN))
}

/// The share of right answers in the episode of a number, learned from these weights.
pub fn episode(
    learner: &mut Learner,
    start: &Weights,
    (classes, shape): (&Classes<'_>, Shape),
    inner: &Inner,
    (seed, number): (u64, u64),
) -> Result<f64> {
    learner.set_adapter_weights(start)?;
    learner.clear_heads()?;
    let episode = classes.episode(shape, seed, number)?;
    inner.learn(learner, &[classes.batch(&episode.support)], seed ^ number << 16)?;
    let answers = learner.answers(&classes.batch(&episode.query))?;
    let is_right =
        |(answer, (_, label)): &(&crate::tasks::Answer, &(usize, u32))| answer.chosen.first() == Some(label);
    let right = answers.iter().zip(&episode.query).filter(is_right).count();
    Ok(right as f64 / episode.query.len().max(1) as f64)
}
