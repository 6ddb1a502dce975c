//! Which layers keep their activations and which recompute them, so that a run fits into a number
//! of bytes.
//!
//! The run is priced before it begins: the Null device takes its steps and evaluations, of the real
//! lengths, and its ledger holds at its highest what the run will hold. Recomputing a layer costs
//! its forward pass a second time, the same for every layer, so the fastest plan recomputes the
//! fewest: first those that give back most, and of equals the lowest, whose activations are needed
//! last. What is rounded to bf16 changes numbers, so a plan never does that.
use super::{
    adapter_drop::AdapterDrop,
    evaluate::{Encoded, answers_together},
    mixed::{Seat, step_mixed},
    mixture::evaluated,
    recipe::Recipe,
    shapes::{MOST, Shapes},
    source::{Source, steps},
    step::{Stepping, Trainer, step_together},
};
use crate::{
    Error, Result,
    learner::{Learner, answers_of_each},
    reports::bytes::{Bytes, show},
    text::{
        batch::{Batch, Batches, Order},
        examples::Examples,
    },
};
use engraft_engine::{Activations, AdamW, Keep};

/// Batches of one kind with which plans are compared before one is priced with all.
const FEW: usize = 16;

/// The batches of a run, as far as memory goes.
#[derive(Clone, Debug, Default)]
pub struct Work {
    /// The first step: there is no optimiser state yet.
    first: Vec<Batch>,
    /// Batches that begin a later step.
    begin: Shapes,
    /// Batches that follow in a later step, when there are gradients already.
    follow: Shapes,
    evaluated: Shapes,
    /// Bytes of the data, which is in memory all the time.
    data: usize,
    /// Lower layers without adapters in those steps that hold most.
    dropped: Option<AdapterDrop>,
    /// The seeds of runs that go together.
    seeds: Vec<u64>,
}
impl Work {
    /// No batches.
    pub fn new() -> Work {
        Work::default()
    }
    /// The same, by runs that go together with these seeds: where the model drops out, only those
    /// of one seed share what lies below.
    pub fn seeded(self, seeds: Vec<u64>) -> Work {
        Work { seeds, ..self }
    }
    /// One more step of training, on batches whose gradients are accumulated. Of tokens and labels
    /// only their number matters.
    pub fn step(&mut self, batches: &[Batch]) {
        if self.first.is_empty() {
            self.first = batches.to_vec();
            return;
        }
        for (i, b) in batches.iter().enumerate() {
            if i == 0 { &mut self.begin } else { &mut self.follow }.add(b);
        }
    }
    /// One more batch of evaluation, after a step.
    pub fn evaluation(&mut self, batch: &Batch) {
        self.evaluated.add(batch);
    }
    /// A run that goes by a recipe: its very batches, or where there are too many the largest that
    /// it can have.
    pub fn of_run(s: &Recipe, source: &dyn Source, eval: Option<&Encoded>) -> Result<Work> {
        let mut work = Work::of_training(s, source)?;
        if let Some(eval) = eval {
            work.data += eval.bytes();
            let examples = eval.sets().map(|set| &set.examples);
            let batches = examples.flat_map(|e| Batches::new(e, s.eval_batch, Order::Longest));
            batches.for_each(|batch| work.evaluation(&batch));
        }
        Ok(work)
    }
    /// The same of a run on mixed batches, where each learner has data of its own to be evaluated
    /// on. What it holds is known to the byte where all of them are in every batch, and else it is no
    /// more than that.
    pub fn of_mixed_run(s: &Recipe, source: &dyn Source, eval: &[Option<Encoded>]) -> Result<Work> {
        let mut work = Work::of_training(s, source)?;
        work.data += eval.iter().flatten().map(Encoded::bytes).sum::<usize>();
        let none = Examples::default();
        let examples: Vec<&Examples> =
            eval.iter().map(|e| e.as_ref().map_or(&none, |e| &e.examples)).collect();
        evaluated(&examples, s.eval_batch).for_each(|batch| work.evaluation(&batch));
        Ok(work)
    }
    fn of_training(s: &Recipe, source: &dyn Source) -> Result<Work> {
        let mut work = Work::new();
        work.dropped = s.adapter_drop.map(|drop| AdapterDrop::always(drop.least));
        work.data = source.bytes();
        match source.largest(s.batch) {
            // as the first step and as a later one
            Some(largest) => {
                for b in largest.iter().chain(&largest) {
                    work.step(&vec![b.clone(); s.accumulation]);
                }
            }
            None => work.all_steps(s, source)?,
        }
        Ok(work)
    }
    fn all_steps(&mut self, s: &Recipe, source: &dyn Source) -> Result<()> {
        let (mut taken, most) = (0, s.max_steps.unwrap_or(u64::MAX));
        for epoch in 0..s.epochs.unwrap_or(u64::MAX) {
            let before = taken;
            for step in steps(source.batches(s.batch, s.order(epoch)), s.accumulation) {
                if taken >= most {
                    break;
                }
                self.step(&step?);
                taken += 1;
            }
            if taken == before {
                break;
            }
        }
        Ok(())
    }
    /// What the runs hold at their highest, and what the layers keep of the last batch, all of them
    /// together; the learners live on the Null device. Only so many batches of each kind are looked
    /// at.
    fn price(&self, learners: &mut [Learner], policy: &Activations, most: usize) -> Result<Price> {
        let Some(device) = learners.first().map(|l| l.backbone().device().clone()) else {
            return Err(Error::Model("there is no learner".into()));
        };
        device.ledger().reset_peak();
        let new = |i: usize| {
            let seed = self.seeds.get(i).copied().unwrap_or_default();
            let trainer = Trainer::new(AdamW::new(0.0).clipping(1.0), seed).with_adapter_drop(self.dropped);
            trainer.with_activations(policy.clone())
        };
        let mut trainers: Vec<Trainer> = (0..learners.len()).map(new).collect();
        let all = 0..learners.iter().map(|l| l.parts().len()).sum();
        let is_mixed = self.first.iter().any(|b| !b.whose.is_empty());
        let mut step = |trainers: &mut [Trainer], batches: &[Batch]| {
            let both = trainers.iter_mut().zip(learners.iter_mut());
            let stepping = both.map(|(trainer, learner)| Stepping { trainer, learner, lr: 1.0 });
            match is_mixed {
                true => {
                    let done = step_mixed(stepping.map(Seat::Learns).collect(), batches)?;
                    done.into_iter().flatten().try_for_each(|done| done.map(|_| ()))
                }
                false => {
                    let done = step_together(stepping.collect(), batches)?;
                    done.into_iter().try_for_each(|done| done.map(|_| ()))
                }
            }
        };
        step(&mut trainers, &self.first)?;
        let kept = sums(trainers.iter().map(Trainer::kept_by_layer));
        let later = [&self.begin, &self.follow].into_iter().find(|b| !b.shapes.is_empty());
        if let Some(later) = later.filter(|_| is_mixed) {
            // each has optimiser state before the largest batch comes
            all.clone().try_for_each(|n| step(&mut trainers, &[later.least([n])]))?;
        }
        for b in self.begin.largest(most) {
            step(&mut trainers, &[b])?;
        }
        let before = self.follow.least(if is_mixed { all } else { 0..1 });
        for b in self.follow.largest(most) {
            step(&mut trainers, &[before.clone(), b])?;
        }
        let training = device.ledger().usage().peak_total();
        let all: Vec<&Learner> = learners.iter().collect();
        for b in self.evaluated.largest(most) {
            match is_mixed {
                true => answers_of_each(&all, &b.whose, &b).map(|_| ())?,
                false => answers_together(&all, &b).map(|_| ())?,
            }
        }
        let usage = device.ledger().usage();
        let (total, training) = (usage.peak_total() + self.data, training + self.data);
        let at_once = Bytes::at_once(&usage);
        Ok(Price { total, in_training: training == total, at_once, kept })
    }
}
/// Layer by layer.
fn sums<'a>(all: impl Iterator<Item = &'a [usize]>) -> Vec<usize> {
    all.fold(vec![], |mut sums, one| {
        sums.resize(sums.len().max(one.len()), 0);
        sums.iter_mut().zip(one).for_each(|(sum, n)| *sum += n);
        sums
    })
}
struct Price {
    total: usize,
    /// It is while training that most is held, not while evaluating.
    in_training: bool,
    at_once: Bytes,
    kept: Vec<usize>,
}

/// What a run will keep, and hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Bytes that it may hold.
    pub budget: usize,
    /// Bytes that it will hold at most.
    pub total: usize,
    /// What they are at that moment, beside the data.
    pub at_once: Bytes,
    /// Bytes of the data among them.
    pub data: usize,
    /// What each layer keeps: [`Keep::F32`] or [`Keep::Recompute`].
    pub layers: Vec<Keep>,
}
impl MemoryPlan {
    /// The policy of its passes.
    pub fn activations(&self) -> Activations {
        Activations::by_layer(&self.layers)
    }
}
impl std::fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let of = |keep| {
            let layers: Vec<usize> = (0..self.layers.len()).filter(|l| self.layers[*l] == keep).collect();
            ranges(&layers)
        };
        let (recomputed, kept) = (of(Keep::Recompute), of(Keep::F32));
        let classes = self.at_once.by_class().into_iter().chain([("data", self.data)]);
        let classes: Vec<_> = classes.map(|(name, b)| format!("{name} {}", show(b))).collect();
        writeln!(
            f,
            "plan for {}: layers that recompute: {recomputed}; that keep: {kept}",
            show(self.budget)
        )?;
        write!(f, "at most {} at once: {}", show(self.total), classes.join(", "))
    }
}
/// `0-3, 7`, or `none`.
fn ranges(layers: &[usize]) -> String {
    let runs = layers.chunk_by(|a, b| a + 1 == *b).map(|r| match r {
        [one] => one.to_string(),
        _ => format!("{}-{}", r[0], r[r.len() - 1]),
    });
    match runs.collect::<Vec<_>>() {
        none if none.is_empty() => "none".into(),
        some => some.join(", "),
    }
}

/// The fastest plan with which a run holds at most `budget` bytes: weights, gradients, optimiser
/// state, activations and scratch memory, in training and in evaluation, and the data; the program
/// itself comes on top. `c` is the run's learner, or those of runs that go together, on the Null
/// device with as many threads as will compute. Where no plan fits, the error names the least
/// budget for which one does.
pub fn plan(c: &mut [Learner], work: &Work, budget: usize) -> Result<MemoryPlan> {
    let layers = c.first().map_or(0, |c| c.backbone().model().info().layers);
    let kept = work.price(c, &Activations::default(), FEW)?;
    let input = work.price(c, &Activations::all(Keep::Recompute), FEW)?.kept;
    let of = |v: &[usize], l: usize| v.get(l).copied().unwrap_or(0);
    let gain = |l| of(&kept.kept, l).saturating_sub(of(&input, l));
    // (bytes that recomputing gives back, layer)
    let mut order: Vec<(usize, usize)> =
        (0..layers).map(|l| (gain(l), l)).filter(|(gain, _)| *gain > 0).collect();
    order.sort_by_key(|(gain, l)| (std::cmp::Reverse(*gain), *l));

    let (mut least, mut smaller) = (usize::MAX, "batch-size");
    for n in 0..=order.len() {
        let mut layers = vec![Keep::F32; layers];
        order[..n].iter().for_each(|(_, l)| layers[*l] = Keep::Recompute);
        let policy = Activations::by_layer(&layers);
        if work.price(c, &policy, FEW)?.total > budget.max(least.saturating_sub(1)) {
            continue;
        }
        let Price { total, in_training, at_once, .. } = work.price(c, &policy, MOST)?;
        if total <= budget {
            return Ok(MemoryPlan { budget, total, at_once, data: work.data, layers });
        }
        if total < least {
            (least, smaller) = (total, if in_training { "batch-size" } else { "eval-batch-size" });
        }
    }
    Err(Error::Option {
        option: "memory-budget",
        value: format!("{budget} ({})", show(budget)),
        why: format!(
            "this run needs at least {least} ({}), layers that recompute included; a smaller `{smaller}` needs less",
            show(least)
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::{super::shapes::Shape, *};
    use crate::{
        data::Dataset,
        text::example::{Example, Reads},
    };

    #[test]
    fn layers_are_listed_in_ranges() {
        assert_eq!([ranges(&[]), ranges(&[3]), ranges(&[0, 1, 2, 5, 7, 8])], ["none", "3", "0-2, 5, 7-8"]);
    }

    #[test]
    fn work_knows_every_batch_of_a_run() {
        let example = |n: usize| Example::new(vec![0; n], Reads::Summary, vec![0]);
        let examples: Examples = (1..=7).map(example).collect();
        let s = Recipe { batch: 2.into(), accumulation: 2, shuffle: false, ..Recipe::default() };
        let data = Dataset::of_texts("--text", &["a".into()]).unwrap();
        let few = examples.iter().take(3).collect();
        let (notes, by_example, generating, name, others) = (vec![], false, None, None, vec![]);
        let eval = Encoded { data, examples: few, cut: 0, notes, by_example, generating, name, others };
        let work = Work::of_run(&s, &examples, Some(&eval)).unwrap();
        let of = |b: &Shapes| {
            let lengths = |shapes: &[Shape]| shapes.iter().flat_map(|s| s.1.clone()).collect::<Vec<_>>();
            b.shapes.iter().map(|(_, shapes)| lengths(shapes)).collect::<Vec<_>>()
        };
        assert_eq!(work.first.iter().map(|b| b.input.lengths.clone()).collect::<Vec<_>>(), [[1, 2], [3, 4]]);
        // the second step of each epoch, and the first one of later epochs
        assert_eq!(of(&work.begin), [vec![1, 2], vec![5, 6]]);
        assert_eq!(of(&work.follow), [vec![3, 4], vec![7]]);
        assert_eq!(of(&work.evaluated), [vec![1, 2, 3]]);
        let once = Work::of_run(&Recipe { max_steps: Some(1), ..s }, &examples, None).unwrap();
        let none = |b: &Shapes| b.shapes.is_empty();
        assert!(none(&once.begin) && none(&once.follow) && none(&once.evaluated));
    }
}
