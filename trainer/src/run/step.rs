//! A step of training.
use super::adapter_drop::AdapterDrop;
use crate::{
    Error, Result,
    learner::{Below, Learner, Rehearsal},
    text::batch::Batch,
};
use engraft_engine::{
    Activations, AdamW, Device, Gradients, Param, Parameters, Pass, kernels::profile::Mark,
};

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The mean loss over the labels of the step, before its update.
    pub loss: f64,
    /// How many labels that were.
    pub labels: usize,
    /// The norm of the gradients of all trained weights, before clipping.
    pub norm: f64,
}

/// The state of a training run: optimiser, and which random numbers come next.
#[derive(Debug)]
pub struct Trainer {
    optimiser: AdamW,
    seed: u64,
    passes: u64,
    steps: u64,
    activations: Activations,
    adapter_drop: Option<AdapterDrop>,
    kept_by_layer: Vec<usize>,
}

impl Trainer {
    /// A run; `seed` decides what is dropped out.
    pub fn new(optimiser: AdamW, seed: u64) -> Trainer {
        let (activations, adapter_drop, kept_by_layer) = (Activations::default(), None, vec![]);
        Trainer { optimiser, seed, passes: 0, steps: 0, activations, adapter_drop, kept_by_layer }
    }
    /// The same run with another policy for what the layers keep for the backward pass; without it
    /// they keep f32.
    pub fn with_activations(self, activations: Activations) -> Trainer {
        Trainer { activations, ..self }
    }
    /// The same run, whose steps leave out the adapters of lower layers.
    pub fn with_adapter_drop(self, adapter_drop: Option<AdapterDrop>) -> Trainer {
        Trainer { adapter_drop, ..self }
    }
    /// Bytes that each layer kept for the backward pass of the last batch.
    pub fn kept_by_layer(&self) -> &[usize] {
        &self.kept_by_layer
    }
    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }
    /// What it remembers of the gradients.
    pub fn optimiser(&self) -> &AdamW {
        &self.optimiser
    }
    /// The passes, which number what is dropped out, and the steps that were taken.
    pub(super) fn counters(&self) -> (u64, u64) {
        (self.passes, self.steps)
    }
    /// Goes on behind so many passes and steps.
    pub(super) fn go_on(&mut self, passes: u64, steps: u64) {
        (self.passes, self.steps) = (passes, steps);
    }
    /// See [`AdamW::remember`].
    pub(super) fn remember(
        &mut self,
        p: &Param,
        moments: [&[f32]; 2],
        steps: u64,
        device: &Device,
    ) -> Result<()> {
        Ok(self.optimiser.remember(p, moments, steps, device)?)
    }
    /// What layers keep for the backward pass.
    pub(super) fn activations(&self) -> &Activations {
        &self.activations
    }
    /// Whether its steps leave out adapters.
    pub(super) fn leaves_out(&self) -> bool {
        self.adapter_drop.is_some()
    }
    /// The next pass, whether or not something is learned from it.
    pub(super) fn next_pass(&mut self) -> Pass {
        let pass = Pass::train(self.seed, self.passes);
        self.passes += 1;
        pass
    }
    /// Notes the bytes that each layer kept.
    pub(super) fn keeps(&mut self, by_layer: Vec<usize>) {
        self.kept_by_layer = by_layer;
    }
    /// One update from one batch, or from several whose gradients are accumulated: of the mean loss
    /// over all their labels, whatever batch they are in. A loss that is not a number is an error,
    /// and changes nothing.
    pub fn step(&mut self, learner: &mut Learner, batches: &[Batch], lr: f64) -> Result<Step> {
        let mut done = step_together(vec![Stepping { trainer: self, learner, lr }], batches)?;
        done.pop().unwrap_or_else(|| unreachable!("one for each learner"))
    }
    /// Adds the gradients of a batch to those of the step.
    fn learn(
        &mut self,
        learner: &Learner,
        (batch, labels): (&Batch, usize),
        sum: &mut Sum,
        below: (&mut Below, bool),
    ) -> Result<()> {
        let dropped = self.adapter_drop.map_or(0, |drop| drop.at(self.seed, self.steps));
        let (pass, weight) = (self.next_pass(), 1.0 / labels as f64);
        let counts = learner.rehearsal().map_or(1.0, Rehearsal::rest);
        let (loss, kept) = learner.learn(
            (&learner.parts()[0], batch, dropped),
            pass,
            &self.activations,
            (counts * weight) as f32,
            &mut sum.gradients,
            below,
        )?;
        sum.loss += weight * loss;
        self.kept_by_layer = kept;
        Ok(())
    }
    /// Adds to the gradients of the step what is learned again beside its examples, and gives its
    /// loss.
    fn learn_again(&mut self, learner: &Learner, examples: usize, into: &mut Gradients) -> Result<f64> {
        let (step, policy) = (self.steps, self.activations.clone());
        learner.learn_again((step, examples), || self.next_pass(), &policy, into)
    }
    /// The update, from gradients among which those of the learner are, of its mean loss over so
    /// many labels.
    pub(super) fn update(
        &mut self,
        learner: &mut Learner,
        gradients: &mut Gradients,
        loss: f64,
        labels: usize,
        lr: f64,
    ) -> Result<Step> {
        learner.penalise(gradients)?;
        let mut parameters = learner.parameters()?;
        let norms =
            gradients.norms(&parameters.iter().map(|p| &**p as &dyn Parameters).collect::<Vec<_>>())?;
        let norm = if loss.is_finite() { norms.total() } else { f64::NAN };
        if !norm.is_finite() {
            return Err(Error::Diverged { step: self.steps + 1, loss, norm });
        }
        self.optimiser.step(&mut parameters, gradients, &norms, lr, 1.0)?;
        self.steps += 1;
        Ok(Step { loss, labels, norm })
    }
}

/// The gradients of a step so far, and its mean loss.
#[derive(Default)]
struct Sum {
    gradients: Gradients,
    loss: f64,
}

/// A learner that takes a step, and its rate.
pub struct Stepping<'a> {
    /// Its training.
    pub trainer: &'a mut Trainer,
    /// Itself.
    pub learner: &'a mut Learner,
    /// The learning rate.
    pub lr: f64,
}

/// [`Trainer::step`] of several learners on one model from the same batches, each the very step
/// that it takes by itself: what lies below their first adapted layers is computed once. There is a
/// result for each of them: an error of one, whose loss is no number, is none of the others.
pub fn step_together(mut all: Vec<Stepping<'_>>, batches: &[Batch]) -> Result<Vec<Result<Step>>> {
    let Some(device) = all.first().map(|s| s.learner.backbone().device().clone()) else { return Ok(vec![]) };
    let labels: usize = batches.iter().map(Batch::labelled).sum();
    if labels == 0 {
        let what = "there is nothing to learn from: no example of the step has a label";
        return Err(Error::Labels(what.into()));
    }
    let order = upwards(&all.iter().map(|s| &*s.learner).collect::<Vec<_>>())?;
    device.install(|| {
        let _span = device.mark(Mark::Step(all[0].trainer.steps + 1));
        let mut sums: Vec<Sum> = all.iter().map(|_| Sum::default()).collect();
        let mut done: Vec<Option<Result<Step>>> = all.iter().map(|_| None).collect();
        for (n, batch) in batches.iter().enumerate() {
            let mut below = Below::default();
            for (left, i) in order.iter().copied().enumerate().map(|(k, i)| (order.len() - 1 - k, i)) {
                let Stepping { trainer, learner, lr } = &mut all[i];
                trainer.learn(learner, (batch, labels), &mut sums[i], (&mut below, left > 0))?;
                if n + 1 == batches.len() {
                    // at once: its gradients are held no longer than they are needed
                    let Sum { mut gradients, loss } = std::mem::take(&mut sums[i]);
                    let beside = batches.iter().map(Batch::len).sum();
                    let again = trainer.learn_again(learner, beside, &mut gradients)?;
                    let loss = if again.is_finite() { loss } else { again };
                    let updated = trainer.update(learner, &mut gradients, loss, labels, *lr);
                    done[i] = Some(match updated {
                        Err(e) if !e.has_diverged() => return Err(e),
                        own => own,
                    });
                }
            }
        }
        Ok(done.into_iter().flatten().collect())
    })
}

/// The places of learners in the order of their first adapted layers, in which what lies below is
/// computed once; an error if they do not stand on one model.
pub(super) fn upwards(learners: &[&Learner]) -> Result<Vec<usize>> {
    if learners.iter().any(|l| !l.backbone().is_same(learners[0].backbone())) {
        return Err(Error::Model("what is learned together stands on one model".into()));
    }
    let first: Vec<usize> = learners.iter().map(|l| l.first_layer()).collect::<Result<_>>()?;
    let mut order: Vec<usize> = (0..learners.len()).collect();
    order.sort_by_key(|i| first[*i]);
    Ok(order)
}
