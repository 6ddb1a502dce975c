//! What a run of training does: how far it goes, in what steps, and by what the best of it is
//! known.
use super::{
    adapter_drop::AdapterDrop,
    schedule::{Decay, Schedule, Warmup},
    source::Source,
};
use crate::{
    Error, Result,
    text::batch::{BatchSize, Order},
};
use engraft_adapters::Setup;
use engraft_engine::{Activations, AdamW};

/// How a run goes.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// How much a batch holds.
    pub batch: BatchSize,
    /// Batches in an optimiser step.
    pub accumulation: usize,
    /// Passes over the data; no limit if `None`.
    pub epochs: Option<u64>,
    /// Optimiser steps, if they end before the epochs do.
    pub max_steps: Option<u64>,
    /// Whether each epoch visits the data in an order of its own.
    pub shuffle: bool,
    /// The seed of shuffling and dropout.
    pub seed: u64,
    /// The highest learning rate.
    pub lr: f64,
    /// What becomes of it after the warm-up.
    pub schedule: Decay,
    /// The warm-up.
    pub warmup: Warmup,
    /// AdamW's weight decay.
    pub weight_decay: f64,
    /// AdamW's decay of the mean gradient and of the mean squared gradient.
    pub betas: (f64, f64),
    /// AdamW's epsilon.
    pub epsilon: f64,
    /// The norm to which gradients are clipped; 0 for no clipping.
    pub clip: f64,
    /// What layers keep for the backward pass.
    pub activations: Activations,
    /// How many of the lower layers go without adapters in a step; none if `None`.
    pub adapter_drop: Option<AdapterDrop>,
    /// Evaluate every so many optimiser steps; after each epoch if `None`.
    pub eval_every: Option<u64>,
    /// How much a batch of evaluation holds.
    pub eval_batch: BatchSize,
    /// What the best checkpoint is best at; the first of the task's scores if `None`.
    pub metric: Option<String>,
    /// Stop after so many evaluations without a better one.
    pub patience: Option<u64>,
    /// Save the state of the run every so many optimiser steps, besides the end of each epoch.
    pub checkpoint_every: Option<u64>,
    /// Note loss, rate, norm of the gradients and bytes every so many optimiser steps; if `None`
    /// about a thousand times in all.
    pub log_every: Option<u64>,
    /// What is written besides.
    pub reports: Reports,
}

/// What a run writes that not everybody wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reports {
    /// `report.html`.
    pub page: bool,
    /// TensorBoard's files of events, with every state that is saved.
    pub events: bool,
}

impl Recipe {
    /// The order of an epoch, counted from 0.
    pub fn order(&self, epoch: u64) -> Order {
        if self.shuffle { Order::Shuffled { seed: self.seed, epoch } } else { Order::File { epoch } }
    }
    /// Refuses a recipe that reads other batches, in training or evaluation, or reads them in
    /// another order.
    pub fn check_together(&self, other: &Recipe) -> Result<()> {
        let differs = [
            ("batch-size", self.batch != other.batch),
            ("gradient-accumulation", self.accumulation != other.accumulation),
            ("no-shuffle", self.shuffle != other.shuffle),
            ("seed", self.shuffle && self.seed != other.seed),
            ("eval-batch-size", self.eval_batch != other.eval_batch),
        ];
        let Some((option, _)) = differs.into_iter().find(|(_, differs)| *differs) else { return Ok(()) };
        let mut why = "runs that go together read the same batches in the same order".to_string();
        if option == "seed" {
            why += "; seeds of their own need `no-shuffle`";
        }
        Err(Error::Option { option, value: "another one for each run".into(), why })
    }
    /// Refuses batches of another size than a setup is for: adapters that answer for parts of a
    /// batch, one behind the other, are given as many examples as they are to have. The last batch
    /// of an epoch may be shorter; what it has goes to the first of them.
    pub fn check_setup(&self, setup: &Setup) -> Result<()> {
        let Some(n) = setup.items() else { return Ok(()) };
        let why = format!("the adapters of `{setup}` share batches of {n} examples: set `batch-size` to {n}");
        match self.batch {
            BatchSize::Examples(m) if m == n => Ok(()),
            BatchSize::Examples(m) => Err(Error::Option { option: "batch-size", value: m.to_string(), why }),
            BatchSize::Tokens(m) => Err(Error::Option { option: "batch-tokens", value: m.to_string(), why }),
        }
    }
    /// The optimiser.
    pub fn optimiser(&self) -> AdamW {
        let (beta1, beta2) = self.betas;
        AdamW::new(self.weight_decay).with(beta1, beta2, self.epsilon).clipping(self.clip)
    }
    /// The learning rate's course over so many optimiser steps.
    pub fn rates(&self, total: u64) -> Schedule {
        Schedule::new(self.schedule, self.warmup, total)
    }
    /// Optimiser steps of the whole run: whichever of `epochs` and `max_steps` ends first. How many
    /// batches of so many tokens there are depends on the order: then every epoch is counted.
    /// Without `epochs` nothing is.
    pub fn steps(&self, source: &dyn Source) -> Result<u64> {
        let of = |epoch| {
            let batches = source.count(self.batch, self.order(epoch))?;
            Ok::<_, Error>(batches.div_ceil(self.accumulation as u64))
        };
        let most = self.max_steps.unwrap_or(u64::MAX);
        let Some(epochs) = self.epochs else { return Ok(most) };
        if !self.shuffle || matches!(self.batch, BatchSize::Examples(_)) {
            return Ok(most.min(epochs.saturating_mul(of(0)?)));
        }
        let mut total = 0u64;
        for epoch in 0..epochs {
            if total >= most {
                break;
            }
            total = total.saturating_add(of(epoch)?);
        }
        Ok(total.min(most))
    }
}

impl Default for Recipe {
    /// Three epochs in shuffled batches of 32 at a rate of 5e-4, which rises over 6 % of the steps
    /// and falls straight to zero.
    fn default() -> Recipe {
        Recipe {
            batch: BatchSize::Examples(32),
            accumulation: 1,
            epochs: Some(3),
            max_steps: None,
            shuffle: true,
            seed: 42,
            lr: 5e-4,
            schedule: Decay::Linear,
            warmup: Warmup::Ratio(0.06),
            weight_decay: 0.01,
            betas: (0.9, 0.999),
            epsilon: 1e-8,
            clip: 1.0,
            activations: Activations::default(),
            adapter_drop: None,
            eval_every: None,
            eval_batch: BatchSize::Examples(64),
            metric: None,
            patience: None,
            checkpoint_every: None,
            log_every: None,
            reports: Reports::default(),
        }
    }
}
