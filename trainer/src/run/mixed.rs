//! A step of several learners from mixed batches: one pass over all examples, of which each has a
//! learner of its own ([`Batch::whose`]).
//!
//! A learner takes the step that it takes from its own examples alone: of its mean loss over their
//! labels, with its own optimiser. One without a label in a step takes none, and nothing of it
//! changes. Only what is dropped out differs: it is drawn by where a row stands in the whole batch.
//!
//! A learner of several tasks has a number for each of them. Its loss is the sum over its tasks
//! w_t L_t, where L_t is the mean over the labels that the step has of task t: a task of which there
//! are few does not vanish beside another.
use super::step::{Step, Stepping};
use crate::{
    Error, Result,
    learner::{Learner, learn_of_each},
    text::{batch::Batch, example::IGNORED},
};
use engraft_engine::{Gradients, kernels::profile::Mark};
use std::{collections::BTreeSet, ops::Range};

/// A learner in mixed batches, which has a number in them for each of its parts, and what it has to
/// do with a step.
pub enum Seat<'a> {
    /// It learns from its examples.
    Learns(Stepping<'a>),
    /// It answers for them, and stays as it is.
    Answers(&'a Learner),
}
impl Seat<'_> {
    fn learner(&self) -> &Learner {
        match self {
            Seat::Learns(Stepping { learner, .. }) => learner,
            Seat::Answers(learner) => learner,
        }
    }
}

/// The numbers of each of some learners with so many parts.
pub(super) fn numbers_of(parts: impl IntoIterator<Item = usize>) -> Vec<Range<usize>> {
    let one = |end: &mut usize, n| Some(std::mem::replace(end, *end + n)..*end);
    parts.into_iter().scan(0, one).collect()
}

/// One update of each learner that has a label in the batches, from its own examples in all of
/// them. There is a result for each seat, `None` where no step is taken; an error of one, whose
/// loss is no number, is none of the others.
///
/// The learners come from [`Backbone::learners`](crate::learner::Backbone::learners), or are one of
/// several tasks, and have gone through the same batches so far; the first of them that learns says
/// what is dropped out and what layers keep.
pub fn step_mixed(mut seats: Vec<Seat<'_>>, batches: &[Batch]) -> Result<Vec<Option<Result<Step>>>> {
    let numbers = numbers_of(seats.iter().map(|seat| seat.learner().parts().len()));
    let labels = labels_of_each(batches, numbers.last().map_or(0, |last| last.end))?;
    if labels.iter().all(|n| *n == 0) {
        let what = "there is nothing to learn from: no example of the step has a label";
        return Err(Error::Labels(what.into()));
    }
    check(&seats)?;
    let device = seats[0].learner().backbone().device().clone();
    device.install(|| {
        let mut shares = vec![None; labels.len()];
        for (seat, own) in seats.iter().zip(&numbers) {
            for (part, n) in seat.learner().parts().iter().zip(own.clone()) {
                let learns = matches!(seat, Seat::Learns(_)) && labels[n] > 0;
                shares[n] = learns.then(|| part.weight() / labels[n] as f64);
            }
        }
        let weights: Vec<Option<f32>> = shares.iter().map(|share| share.map(|s| s as f32)).collect();
        let (mut gradients, mut losses) = (Gradients::new(), vec![0.0; labels.len()]);
        for batch in batches {
            let mut first = None;
            for (n, seat) in seats.iter_mut().enumerate() {
                if let Seat::Learns(s) = seat {
                    let pass = s.trainer.next_pass();
                    first.get_or_insert((n, pass, s.trainer.activations().clone()));
                }
            }
            let Some((n, pass, policy)) = first.filter(|_| weights.iter().any(Option::is_some)) else {
                continue;
            };
            let learners: Vec<&Learner> = seats.iter().map(Seat::learner).collect();
            let (sums, kept) = learn_of_each(&learners, &weights, batch, pass, &policy, &mut gradients)?;
            losses.iter_mut().zip(&sums).zip(&shares).for_each(|((loss, sum), share)| {
                *loss += sum * share.unwrap_or(0.0);
            });
            if let Seat::Learns(s) = &mut seats[n] {
                s.trainer.keeps(kept);
            }
        }
        let mut done = vec![];
        for (seat, own) in seats.iter_mut().zip(numbers) {
            let (labels, loss): (usize, f64) = (labels[own.clone()].iter().sum(), losses[own].iter().sum());
            done.push(match seat {
                Seat::Learns(s) if labels > 0 => {
                    let _span = device.mark(Mark::Step(s.trainer.steps() + 1));
                    match s.trainer.update(s.learner, &mut gradients, loss, labels, s.lr) {
                        Err(e) if !e.has_diverged() => return Err(e),
                        own => Some(own),
                    }
                }
                _ => None,
            });
        }
        Ok(done)
    })
}

/// What cannot learn together is refused.
fn check(seats: &[Seat<'_>]) -> Result<()> {
    let mut slots = BTreeSet::new();
    let (mut apart, mut passes) = (true, BTreeSet::new());
    for seat in seats {
        seat.learner().visit(&mut |p| apart &= slots.insert(p.slot()));
        if let Seat::Learns(Stepping { trainer, .. }) = seat {
            passes.insert(trainer.counters().0);
            if trainer.leaves_out() {
                let what = "adapters are left out of a step (AdapterDrop) for all of its examples, not for those of one learner";
                return Err(Error::Model(what.into()));
            }
        }
    }
    let what = match (apart, passes.len()) {
        (true, 0 | 1) => return Ok(()),
        (false, _) => "learners of mixed batches are made together: their gradients have one place",
        _ => {
            "learners of mixed batches go through the same batches, and these have seen different numbers of them"
        }
    };
    Err(Error::Model(what.into()))
}

/// Labels of so many learners in some batches; an error where a batch does not say whose its
/// examples are.
pub(super) fn labels_of_each(batches: &[Batch], learners: usize) -> Result<Vec<usize>> {
    let mut labels = vec![0; learners];
    for batch in batches {
        if batch.whose.len() != batch.len() {
            return Err(Error::Model("a mixed batch says of every example who learns from it".into()));
        }
        let mut rest = batch.labels.as_slice();
        for (whose, rows) in batch.whose.iter().zip(batch.counts()) {
            let (own, behind) = rest.split_at(rows.min(rest.len()));
            rest = behind;
            let n = labels.get_mut(*whose).ok_or_else(|| {
                Error::Model(format!("an example is that of learner {whose}, and there are {learners}"))
            })?;
            *n += own.iter().filter(|label| **label != IGNORED).count();
        }
    }
    Ok(labels)
}

/// How many examples have some numbers, and how many tokens they have.
pub(super) fn size_of_each(batches: &[Batch], numbers: Range<usize>) -> (usize, usize) {
    let all = batches.iter().flat_map(|b| b.lengths().zip(&b.whose));
    let own = all.filter(|(_, whose)| numbers.contains(whose));
    own.fold((0, 0), |(examples, all), (tokens, _)| (examples + 1, all + tokens))
}
