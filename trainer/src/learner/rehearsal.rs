//! Replay: in every step a few examples of earlier tasks are learned beside those of the task under
//! way (experience replay; Chaudhry et al. 2019, arXiv 1902.10486), with the heads that these tasks
//! have, which stay as they are.
//!
//! Of a share s of every step, with n examples of the task under way there are k = s n / (1 - s),
//! one at least, of earlier tasks, each drawn with replacement from a task that is drawn before, all
//! tasks alike. The loss of the step is
//!
//! ```text
//! (1 - s) L + s Σ_t k_t/k L_t
//! ```
//! with L the mean over the labels of the task under way, L_t that over the labels of the k_t examples
//! of task t.
use super::part::Part;
use crate::{
    Error, Result,
    tasks::Task,
    text::{
        batch::Batch,
        examples::Examples,
        shuffle::{below, numbers},
    },
};
use engraft_adapters::Head;

/// Sets the draws apart from those of the task under way.
const STREAM: u64 = 0x7265_706c_6179;

/// An earlier task: the few examples that are kept of it, and the head that answered for it.
pub struct Remembered {
    pub(super) part: Part,
    examples: Examples,
}

impl Remembered {
    /// A task with its head, which does not train, and examples that have a label each. An error if
    /// there are none, or one has none.
    pub fn new(
        name: &str,
        head: Option<Head>,
        task: Box<dyn Task>,
        examples: Examples,
    ) -> Result<Remembered> {
        if examples.is_empty() || examples.iter().any(|e| !e.is_labelled()) {
            return Err(Error::Labels(format!("what is learned again of `{name}` has labels")));
        }
        Ok(Remembered { part: Part { name: name.into(), head, task, weight: 1.0 }, examples })
    }
}

/// What is learned again beside a task.
pub struct Rehearsal {
    /// At least one.
    pub(super) of_each: Vec<Remembered>,
    share: f64,
    seed: u64,
}

impl Rehearsal {
    /// Of earlier tasks, with their share of every step, above 0 and below 1.
    pub fn new(of_each: Vec<Remembered>, share: f64, seed: u64) -> Result<Rehearsal> {
        if of_each.is_empty() || !(share > 0.0 && share < 1.0) {
            let why = "it is above 0 and below 1, and there are earlier tasks".into();
            return Err(Error::Option { option: "replay-share", value: share.to_string(), why });
        }
        Ok(Rehearsal { of_each, share, seed })
    }
    /// What the task under way counts in a step.
    pub(crate) fn rest(&self) -> f64 {
        1.0 - self.share
    }
    /// What is learned again in a step, by its number, beside so many examples: for each task that is
    /// drawn a batch, and what its mean loss counts.
    pub(super) fn draw<'s>(&'s self, step: u64, beside: usize) -> Vec<(&'s Part, Batch, f64)> {
        let count = ((beside as f64 * self.share / self.rest()).round() as usize).max(1);
        let mut rng = numbers(self.seed ^ STREAM, step);
        let mut drawn: Vec<Vec<usize>> = vec![vec![]; self.of_each.len()];
        for _ in 0..count {
            let task = below(&mut rng, self.of_each.len() as u64) as usize;
            drawn[task].push(below(&mut rng, self.of_each[task].examples.len() as u64) as usize);
        }
        let both = self.of_each.iter().zip(drawn).filter(|(_, items)| !items.is_empty());
        let batch = |(one, items): (&'s Remembered, Vec<usize>)| {
            let counts = self.share * items.len() as f64 / count as f64;
            (&one.part, Batch::pack(&one.examples, &items), counts)
        };
        both.map(batch).collect()
    }
    /// The examples of each task.
    pub(crate) fn examples(&self) -> impl Iterator<Item = &Examples> {
        self.of_each.iter().map(|one| &one.examples)
    }
}
