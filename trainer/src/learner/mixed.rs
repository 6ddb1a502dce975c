//! Mixed batches: each example has a learner of its own, all of them on one model. What is numbered
//! are the parts of the learners, in their order: a learner of several tasks has as many numbers.
use super::{below::Below, learner::Learner, part::Part};
use crate::{Error, Result, tasks::Answer, text::batch::Batch};
use engraft_adapters::Active;
use engraft_engine::{Act, Activations, Class, Cx, Gradients, Pass};

/// What the learners compute for the examples of a batch, without dropout: example i is answered by
/// the one with the number
/// `of_item[i]`, its head included, with the very bits that it gives by itself. They stand on one
/// model; their tasks may have classes of their own, and read rows of other kinds.
pub fn answers_of_each(learners: &[&Learner], of_item: &[usize], batch: &Batch) -> Result<Vec<Answer>> {
    let (lowest, pass) = (lowest(learners, of_item, batch)?, Pass::infer());
    let device = lowest.backbone().device();
    device.install(|| {
        let of_sequence = batch.of_sequences(of_item);
        let active = active(learners, &of_sequence)?;
        let mut cx = Cx::new(device, &active, pass);
        let x = lowest.hidden(&mut cx, batch, pass, (&mut Below::default(), false))?;
        let mut answers = vec![Answer::default(); batch.len()];
        for (n, (_, learner, part)) in numbered(learners).enumerate() {
            let own = of_number(of_item, n);
            if own.is_empty() {
                continue;
            }
            let rows = cx.take_sequences(&x, &of_number(&of_sequence, n))?;
            let found = part.task().answers(&mut cx, learner.top_of(part), &rows, &batch.select(&own))?;
            own.iter().zip(found).for_each(|(i, answer)| answers[*i] = answer);
        }
        Ok(answers)
    })
}

/// One pass of training over a batch that says whose each example is: for each number the summed
/// loss over its own rows, and the bytes that each layer kept. `weights[n]` times the gradients of
/// number n are added to `into`; one without a weight answers for its examples, and learns
/// nothing, as does one whose loss is no number.
pub(crate) fn learn_of_each(
    learners: &[&Learner],
    weights: &[Option<f32>],
    batch: &Batch,
    pass: Pass,
    policy: &Activations,
    into: &mut Gradients,
) -> Result<(Vec<f64>, Vec<usize>)> {
    if !batch.taught.is_empty() {
        return Err(Error::Model("a mixed batch is not learned from a teacher".into()));
    }
    let lowest = lowest(learners, &batch.whose, batch)?;
    let device = lowest.backbone().device();
    device.install(|| {
        let of_sequence = batch.of_sequences(&batch.whose);
        let active = active(learners, &of_sequence)?;
        let mut cx = Cx::new(device, &active, pass).with_activations(policy);
        let x = lowest.hidden(&mut cx, batch, pass, (&mut Below::default(), false))?;
        let (mut sums, mut losses, mut dy) = (vec![0.0; weights.len()], vec![], vec![]);
        for (n, ((_, learner, part), weight)) in numbered(learners).zip(weights).enumerate() {
            let Some(weight) = weight else { continue };
            let own = of_number(&batch.whose, n);
            let of_own = batch.select(&own);
            if of_own.labelled() == 0 {
                continue;
            }
            let rows = cx.take_sequences(&x, &of_number(&of_sequence, n))?;
            let loss = part.task().loss(&mut cx, learner.top_of(part), &rows, &of_own)?;
            let value = loss.read()?.first().copied().unwrap_or_default();
            sums[n] = f64::from(value);
            if value.is_finite() {
                losses.push(loss);
                dy.push(*weight);
            }
        }
        drop(x);
        let kept = cx.kept_by_layer().to_vec();
        let places: Vec<[usize; 1]> = (0..losses.len()).map(|i| [i]).collect();
        let parts: Vec<(&Act, &[usize])> = losses.iter().zip(&places).map(|(l, at)| (l, &at[..])).collect();
        if !parts.is_empty() {
            let all = cx.merge_sequences(&parts)?;
            let dy = device.upload(Class::Scratch, &dy).map_err(engraft_engine::Error::from)?;
            cx.backward(&all, dy, into)?;
        }
        Ok((sums, kept))
    })
}

/// A pass without dropout over a batch that says whose each example is ([`Batch::whose`]): for each
/// number the mean loss over its own labels, if it has some. Its gradients, times the weight of the
/// part that it is, are added to `into`, which is shared: learners that
/// [`Backbone::learners`](super::Backbone::learners) made have their places in it apart.
pub fn losses_of_each(
    learners: &[&Learner],
    batch: &Batch,
    into: &mut Gradients,
) -> Result<Vec<Option<f64>>> {
    let labels = |n| batch.select(&of_number(&batch.whose, n)).labelled();
    let labels: Vec<usize> = (0..numbered(learners).count()).map(labels).collect();
    let weight =
        |((_, _, part), n): ((_, _, &Part), &usize)| (*n > 0).then_some((part.weight() / *n as f64) as f32);
    let weights: Vec<Option<f32>> = numbered(learners).zip(&labels).map(weight).collect();
    let policy = Activations::default();
    let (sums, _) = learn_of_each(learners, &weights, batch, Pass::gradients(), &policy, into)?;
    Ok(sums.into_iter().zip(labels).map(|(sum, n)| (n > 0).then(|| sum / n as f64)).collect())
}

/// The places of what has a number.
fn of_number(of_item: &[usize], n: usize) -> Vec<usize> {
    (0..of_item.len()).filter(|i| of_item[*i] == n).collect()
}

/// What has a number: a part of a learner, and the learner with its place.
pub(crate) fn numbered<'a>(learners: &[&'a Learner]) -> impl Iterator<Item = (usize, &'a Learner, &'a Part)> {
    let all: Vec<(usize, &Learner)> = learners.iter().copied().enumerate().collect();
    all.into_iter().flat_map(|(i, learner)| learner.parts().iter().map(move |part| (i, learner, part)))
}

/// What answers the model's hooks, from whose each sequence is.
fn active<'a>(learners: &[&'a Learner], of_item: &[usize]) -> Result<Active<'a>> {
    let each = learners.iter().map(|l| l.active_above(1, 0)).collect::<Result<Vec<_>>>()?;
    let places: Vec<usize> = numbered(learners).map(|(place, ..)| place).collect();
    let place = |n: &usize| {
        let unknown = || {
            let all = places.len();
            Error::Model(format!("an example is that of number {n}, and there are {all}"))
        };
        places.get(*n).copied().ok_or_else(unknown)
    };
    Ok(Active::mixed(&each, &of_item.iter().map(place).collect::<Result<Vec<_>>>()?)?)
}

/// The learner whose adapters begin lowest, and which reads what lies below from a cache if one of
/// those does: what it takes from there serves all. An error if they do not stand on one model, or
/// if there is no number for each example.
fn lowest<'a>(learners: &[&'a Learner], of_item: &[usize], batch: &Batch) -> Result<&'a Learner> {
    let (n, m) = (of_item.len(), batch.len());
    if n != m || learners.is_empty() {
        return Err(Error::Model(format!("{n} numbers of learners for a batch of {m} examples")));
    }
    if learners.iter().any(|l| !l.backbone().is_same(learners[0].backbone())) {
        return Err(Error::Model("what learns or answers in one batch stands on one model".into()));
    }
    let mut lowest = (learners[0].first_layer()?, learners[0]);
    for l in &learners[1..] {
        let (layer, is_cached) = (l.first_layer()?, l.prefix().is_some());
        if layer < lowest.0 || (layer == lowest.0 && is_cached && lowest.1.prefix().is_none()) {
            lowest = (layer, l);
        }
    }
    Ok(lowest.1)
}
