//! Some steps of training, for their times alone: nothing is evaluated and nothing saved.
use super::{recipe::Recipe, source::Source, step::Trainer};
use crate::{
    Error, Result,
    learner::Learner,
    reports::{
        profile::{Recorded, Recording},
        progress::{Mode, Progress},
    },
    tasks::Task,
    text::{
        batch::{Batch, BatchSize},
        shuffle::below,
    },
};
use engraft_engine::kernels::profile::Roofline;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

/// How many steps are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepCount {
    /// Steps that are recorded.
    pub steps: u64,
    /// Steps before them that are not: they allocate what later ones reuse.
    pub warmup: u64,
}

/// Takes so many `steps` at the recipe's highest rate, and says where the time went. `roofline` is
/// what the machine was measured at before the model was loaded.
pub fn run(
    recipe: &Recipe,
    learner: &mut Learner,
    mut batches: impl Iterator<Item = Result<Batch>>,
    roofline: Roofline,
    steps: &StepCount,
    mode: Mode,
) -> Result<Recorded> {
    let device = learner.backbone().device().clone();
    learner.check_adapter_drop(recipe.adapter_drop)?;
    let trainer = Trainer::new(recipe.optimiser(), recipe.seed).with_adapter_drop(recipe.adapter_drop);
    let mut trainer = trainer.with_activations(recipe.activations.clone());
    let total = steps.warmup.saturating_add(steps.steps);
    let mut progress = Progress::new(mode, "profile", total);
    let mut recording = None;
    while trainer.steps() < total {
        let step = batches.by_ref().take(recipe.accumulation).collect::<Result<Vec<Batch>>>()?;
        if trainer.steps() == steps.warmup {
            recording = Some(Recording::start(&device, roofline, trainer.steps())?);
        }
        let done = trainer.step(learner, &step, recipe.lr)?;
        progress.step(Some(done.loss), step.iter().map(Batch::tokens).sum::<usize>() as u64);
    }
    let recorded = recording.and_then(|r| r.end(trainer.steps()));
    progress.finish();
    recorded.ok_or_else(|| Error::Option {
        option: "steps",
        value: steps.steps.to_string(),
        why: "it is at least 1".into(),
    })
}

/// The batches of training, epoch after epoch.
pub fn batches_of<'a>(
    recipe: &'a Recipe,
    source: &'a dyn Source,
) -> impl Iterator<Item = Result<Batch>> + 'a {
    (0..).flat_map(move |epoch| source.batches(recipe.batch, recipe.order(epoch)))
}

/// Batches of random sequences of `length` tokens out of `vocabulary`, with labels as the task has
/// them, drawn at random.
pub fn random_batches<'a>(
    recipe: &Recipe,
    task: &'a dyn Task,
    length: usize,
    vocabulary: usize,
) -> impl Iterator<Item = Result<Batch>> + 'a {
    let mut rng = ChaCha8Rng::seed_from_u64(recipe.seed);
    let texts = match recipe.batch {
        BatchSize::Examples(n) => n,
        BatchSize::Tokens(n) => (n / length).max(1),
    };
    let mut one = move || {
        let ids = (0..length).map(|_| below(&mut rng, vocabulary as u64) as u32).collect();
        task.sample(ids, &mut |n| below(&mut rng, n.max(1) as u64) as u32)
    };
    std::iter::repeat_with(move || Ok((0..texts).map(|_| one()).collect()))
}
