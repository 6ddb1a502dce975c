//! A step of training.
use super::adapter_drop::AdapterDrop;
use crate::{Error, Result, learner::Learner, text::batch::Batch};
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
    /// The same run with another policy for what the layers keep for the backward pass; without it they keep f32.
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
    /// One update from one batch, or from several whose gradients are accumulated: of the mean loss over all their labels,
    /// whatever batch they are in. A loss that is not a number is an error, and changes nothing.
    pub fn step(&mut self, learner: &mut Learner, batches: &[Batch], lr: f64) -> Result<Step> {
        let device = learner.backbone().device().clone();
        device.install(|| {
            let _span = device.mark(Mark::Step(self.steps + 1));
            self.take(learner, batches, lr)
        })
    }
    fn take(&mut self, learner: &mut Learner, batches: &[Batch], lr: f64) -> Result<Step> {
        let labels: usize = batches.iter().map(Batch::labelled).sum();
        if labels == 0 {
            return Err(Error::Labels(
                "there is nothing to learn from: no example of the step has a label".into(),
            ));
        }
        let weight = 1.0 / labels as f64;
        let (mut gradients, mut loss) = (Gradients::new(), 0.0);
        let dropped = self.adapter_drop.map_or(0, |drop| drop.at(self.seed, self.steps));
        for b in batches {
            let pass = Pass::train(self.seed, self.passes);
            self.passes += 1;
            let (sum, kept) =
                learner.learn(b, dropped, pass, &self.activations, weight as f32, &mut gradients)?;
            loss += weight * sum;
            self.kept_by_layer = kept;
        }
        learner.penalise(&mut gradients)?;
        let mut parameters = learner.parameters()?;
        let norms =
            gradients.norms(&parameters.iter().map(|p| &**p as &dyn Parameters).collect::<Vec<_>>())?;
        let norm = if loss.is_finite() { norms.total() } else { f64::NAN };
        if !norm.is_finite() {
            return Err(Error::Diverged { step: self.steps + 1, loss, norm });
        }
        self.optimiser.step(&mut parameters, &gradients, &norms, lr, 1.0)?;
        self.steps += 1;
        Ok(Step { loss, labels, norm })
    }
}
