//! The outer loop: the weights of an adapter follow what comes of learning tasks from them.
use super::inner::{Inner, gradients};
use crate::{Error, Result, learner::Learner, text::batch::Batch};
use engraft_engine::Pass;

choices! {
    /// How the weights follow the tasks.
    pub enum Algorithm {
        /// Towards the mean of the weights to which the inner loops came: θ ← θ + ε (mean θ_k - θ)
        /// (Nichol et al. 2018)
        Reptile = "reptile",
        /// Down the gradients at the end of the inner loops, of examples that were not learned from:
        /// θ ← θ - β Σ ∇L(θ_k), without second derivatives (Finn et al. 2017)
        Fomaml = "fomaml",
    }
}

/// How the weights are learned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outer {
    /// What they follow.
    pub algorithm: Algorithm,
    /// Outer steps in all.
    pub steps: u64,
    /// Reptile's ε in the first step, from which it falls straight to 0 behind the last one; MAML's β
    /// in all of them.
    pub rate: f64,
}
impl Outer {
    /// ε or β of a step, counted from 0.
    pub fn rate_of(&self, step: u64) -> f64 {
        match self.algorithm {
            Algorithm::Reptile => self.rate * (1.0 - step as f64 / self.steps.max(1) as f64),
            Algorithm::Fomaml => self.rate,
        }
    }
}

/// A task that is learned in an outer step.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn {
    /// Which of the learners learns it.
    pub learner: usize,
    /// What the inner steps learn from, one after the other.
    pub support: Vec<Batch>,
    /// What MAML's gradient is of: examples that are not among those.
    pub query: Batch,
}

/// Where tasks come from: a pure function of the step, so that it can be gone on from anywhere.
pub trait Tasks {
    /// The tasks of an outer step, counted from 0.
    fn draw(&self, step: u64) -> Result<Vec<Drawn>>;
}

/// The values of an adapter, weight by weight: see [`Learner::adapter_weights`].
pub type Weights = Vec<Vec<f32>>;

/// Weights that are learned.
#[derive(Clone, Debug, PartialEq)]
pub struct Meta {
    /// They.
    pub weights: Weights,
    /// Outer steps that were taken.
    pub taken: u64,
}

impl Meta {
    /// The next outer step; learners have the same adapter on one model, and heads of their own that
    /// begin at zero in every inner loop. `seed` decides what is dropped out. The mean loss of the
    /// tasks: with Reptile before the last inner step, with MAML of the examples that were not
    /// learned from. Where a loss is no number nothing is changed.
    pub fn step(
        &mut self,
        learners: &mut [Learner],
        tasks: &[Drawn],
        (outer, inner): (&Outer, &Inner),
        seed: u64,
    ) -> Result<f64> {
        let taken = self.taken;
        self.follow(tasks, outer, |weights, n, task| {
            let learner = learners
                .get_mut(task.learner)
                .ok_or_else(|| Error::Model(format!("there is no learner {} for a task", task.learner)))?;
            learner.set_adapter_weights(weights)?;
            learner.clear_heads()?;
            let seed = seed ^ (taken * tasks.len() as u64 + n) << 16;
            let last = inner.learn(learner, &task.support, seed)?;
            if outer.algorithm == Algorithm::Reptile {
                return Ok((last, learner.adapter_weights()?));
            }
            let (gradients, loss) = gradients(learner, &task.query, Pass::train(seed, inner.steps as u64))?;
            Ok((loss, learner.adapter_gradients(&gradients)?))
        })
    }
    /// The next outer step, where `of` says of a task, which has a number in it, from these weights a
    /// loss and, for Reptile, the weights to which it leads, for MAML the gradient there.
    pub fn follow<T>(
        &mut self,
        tasks: &[T],
        outer: &Outer,
        mut of: impl FnMut(&Weights, u64, &T) -> Result<(f64, Weights)>,
    ) -> Result<f64> {
        let mut sum: Vec<Vec<f64>> = self.weights.iter().map(|w| vec![0.0; w.len()]).collect();
        let (mut losses, rate) = (0.0, outer.rate_of(self.taken));
        for (n, task) in tasks.iter().enumerate() {
            let (loss, found) = of(&self.weights, n as u64, task)?;
            if !loss.is_finite() || found.iter().flatten().any(|x| !x.is_finite()) {
                return Err(Error::Diverged { step: self.taken + 1, loss, norm: f64::NAN });
            }
            for (sum, x) in sum.iter_mut().flatten().zip(found.iter().flatten()) {
                *sum += f64::from(*x);
            }
            losses += loss;
        }
        let count = tasks.len().max(1) as f64;
        for (w, sum) in self.weights.iter_mut().flatten().zip(sum.iter().flatten()) {
            let before = f64::from(*w);
            *w = match outer.algorithm {
                // with ε = 1 the very weights to which a single task came
                Algorithm::Reptile => ((1.0 - rate) * before + rate * (sum / count)) as f32,
                Algorithm::Fomaml => (before - rate * sum) as f32,
            };
        }
        self.taken += 1;
        Ok(losses / count)
    }
}
