//! Some steps of training, for their times alone: nothing is evaluated and nothing saved.
use engraft_engine::{Activations, AdamW};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use super::{Recorded, Recording, measure};
use crate::{
    Error, Result,
    batch::{Batch, Batches, Example, Size, below},
    classifier::{Backbone, Trainer},
    config::Settings,
    data::Labels,
    progress::{Mode, Progress},
    train::{DEFAULT_LENGTH, graft, open, open_backbone, order, read, tokenizer},
};

/// What is run besides the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Steps that are recorded.
    pub steps: u64,
    /// Steps before them that are not: they allocate what later ones reuse.
    pub warmup: u64,
    /// Tokens of each text where the settings name no data: then texts are random tokens. As many as training would keep of
    /// a text, if nothing is said.
    pub length: Option<usize>,
}

/// Takes the steps of the plan at a constant rate, on the settings' data, or on random tokens if they name none, and says
/// where the time went. `model` must be set.
pub fn run(s: &Settings, plan: &Plan, mode: Mode) -> Result<Recorded> {
    let device = open(s.device, s.threads)?;
    let roofline = measure(&device)?;
    let backbone = open_backbone(s, &device)?;
    let examples;
    let (mut classifier, mut batches): (_, Box<dyn Iterator<Item = Batch>>) = match &s.train {
        Some(file) => {
            let tokenizer = tokenizer(s, &backbone)?;
            let (classifier, data) = graft(s, backbone, |known| {
                let data = read(file, s, &tokenizer, known)?;
                Ok((data.labels, data.examples))
            })?;
            examples = data;
            (classifier, Box::new(of_data(s, &examples)))
        }
        None => {
            let texts = Texts::new(&backbone, plan.length)?;
            let (classifier, classes) = graft(s, backbone, |known| {
                let labels = known.map_or_else(|| Labels::from_names(vec!["0".into(), "1".into()]), Ok)?;
                let classes = labels.names().len();
                Ok((labels, classes))
            })?;
            (classifier, Box::new(texts.batches(s, classes)))
        }
    };
    let optimiser = AdamW::new(s.weight_decay).with(s.adam_beta1, s.adam_beta2, s.adam_eps);
    let mut trainer = Trainer::new(optimiser, s.clip, s.seed).with_activations(Activations::all(s.keep()));
    let total = plan.warmup.saturating_add(plan.steps);
    let mut progress = Progress::new(mode, "profile", total);
    let mut recording = None;
    while trainer.steps() < total {
        let step: Vec<Batch> = batches.by_ref().take(s.gradient_accumulation).collect();
        if trainer.steps() == plan.warmup {
            recording = Some(Recording::start(&device, roofline, trainer.steps())?);
        }
        let done = trainer.step(&mut classifier, &step, s.lr)?;
        progress.step(Some(done.loss), step.iter().map(Batch::tokens).sum::<usize>() as u64);
    }
    let recorded = recording.and_then(|r| r.end(trainer.steps()));
    progress.finish();
    recorded.ok_or_else(|| Error::Option {
        option: "steps",
        value: plan.steps.to_string(),
        why: "it is at least 1".into(),
    })
}

/// The batches of training, epoch after epoch.
fn of_data<'a>(s: &'a Settings, examples: &'a [Example]) -> impl Iterator<Item = Batch> + 'a {
    (0..).flat_map(move |epoch| Batches::new(examples, s.batch(), order(s, epoch)))
}

/// Random tokens.
struct Texts {
    length: usize,
    vocabulary: usize,
}

impl Texts {
    fn new(backbone: &Backbone, length: Option<usize>) -> Result<Self> {
        let (vocabulary, positions) = (backbone.model().vocabulary(), backbone.model().positions());
        let length = length.unwrap_or(DEFAULT_LENGTH.min(positions));
        if !(1..=positions).contains(&length) {
            let why = format!("{} takes 1 to {positions} tokens", backbone.directory().display());
            return Err(Error::Option { option: "length", value: length.to_string(), why });
        }
        Ok(Self { length, vocabulary })
    }
    fn batches(self, s: &Settings, classes: usize) -> impl Iterator<Item = Batch> {
        let mut rng = ChaCha8Rng::seed_from_u64(s.seed);
        let texts = match s.batch() {
            Size::Examples(n) => n,
            Size::Tokens(n) => (n / self.length).max(1),
        };
        let mut one = move || {
            let ids = (0..self.length).map(|_| below(&mut rng, self.vocabulary as u64) as u32).collect();
            let label = Some(below(&mut rng, classes as u64) as u32);
            Example { ids, types: vec![0; self.length], label }
        };
        std::iter::repeat_with(move || {
            let examples: Vec<Example> = (0..texts).map(|_| one()).collect();
            Batch::pack(&examples, &(0..texts).collect::<Vec<_>>())
        })
    }
}
