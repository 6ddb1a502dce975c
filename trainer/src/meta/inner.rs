//! The inner loop: a task is learned for a few steps.
use crate::{
    Error, Result,
    learner::{Below, Learner},
    run::step::Trainer,
    text::batch::Batch,
};
use engraft_engine::{Activations, AdamW, Gradients, Parameters, Pass, Sgd};

choices! {
    /// How the steps of an inner loop follow the gradient. Nothing is remembered from loop to loop.
    pub enum Rule {
        /// Plain gradient descent
        Sgd = "sgd",
        /// Adam without a mean of the gradients (β₁ = 0)
        Adam = "adam",
    }
}

/// How a task is learned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Inner {
    /// How steps follow the gradient.
    pub rule: Rule,
    /// Steps.
    pub steps: usize,
    /// Their rate.
    pub lr: f64,
    /// Adam's decay of the mean squared gradient.
    pub beta2: f64,
    /// Adam's epsilon.
    pub epsilon: f64,
    /// The norm to which gradients are clipped; 0 for no clipping.
    pub clip: f64,
}

impl Inner {
    /// The optimiser of Adam's steps: a run of training with it takes the same ones.
    pub fn adam(&self) -> AdamW {
        AdamW::new(0.0).with(0.0, self.beta2, self.epsilon).clipping(self.clip)
    }
    /// Takes the steps, from where the learner stands: the n-th on the n-th of these batches, and from
    /// the first again where there are no more. `seed` decides what is dropped out. The mean loss
    /// before the last step.
    pub fn learn(&self, learner: &mut Learner, batches: &[Batch], seed: u64) -> Result<f64> {
        let (mut trainer, mut last) = (Trainer::new(self.adam(), seed), f64::NAN);
        for (n, batch) in batches.iter().cycle().take(self.steps).enumerate() {
            last = match self.rule {
                Rule::Adam => trainer.step(learner, std::slice::from_ref(batch), self.lr)?.loss,
                Rule::Sgd => self.descend(learner, batch, Pass::train(seed, n as u64), n as u64 + 1)?,
            };
        }
        Ok(last)
    }
    fn descend(&self, learner: &mut Learner, batch: &Batch, pass: Pass, step: u64) -> Result<f64> {
        let (gradients, loss) = gradients(learner, batch, pass)?;
        let device = learner.backbone().device().clone();
        device.install(|| {
            let mut parameters = learner.parameters()?;
            let norms =
                gradients.norms(&parameters.iter().map(|p| &**p as &dyn Parameters).collect::<Vec<_>>())?;
            let norm = if loss.is_finite() { norms.total() } else { f64::NAN };
            if !norm.is_finite() {
                return Err(Error::Diverged { step, loss, norm });
            }
            Sgd::clipping(self.clip).step(&mut parameters, &gradients, &norms, self.lr)?;
            Ok(loss)
        })
    }
}

/// The gradients of the mean loss over the labels of a batch, and that loss; an error if no example
/// has a label.
pub(super) fn gradients(learner: &Learner, batch: &Batch, pass: Pass) -> Result<(Gradients, f64)> {
    let labels = batch.labelled();
    if labels == 0 {
        let what = "there is nothing to learn from: no example of the step has a label";
        return Err(Error::Labels(what.into()));
    }
    let (mut gradients, weight, policy) = (Gradients::new(), 1.0 / labels as f64, Activations::default());
    let below = (&mut Below::default(), false);
    let (sum, _) =
        learner.learn((learner.part(), batch, 0), pass, &policy, weight as f32, &mut gradients, below)?;
    learner.penalise(&mut gradients)?;
    Ok((gradients, weight * sum))
}
