//! Where a run stands, as a value that is saved and gone on from.
//!
//! `state.safetensors` in the run's directory holds
//!
//! ```text
//! weight.NAME     what trains
//! mean.NAME       AdamW's means of its gradients and of their squares, once it has taken a step
//! square.NAME
//! steps (n)       steps that each weight has taken, in the order of the names
//! ```
//! and in its header the [`State`], the counters of the [`Trainer`], and a hash of the data.
//! Everything else follows from the run's settings: orders and dropout from the seed and the
//! counters.
use super::{evaluate::Encoded, log::Log, source::Source, step::Trainer};
use crate::{
    Error, Result,
    learner::Learner,
    reports::{metrics::Metrics, report::Epoch},
};
use engraft_engine::{
    Checkpoint, Param,
    checkpoint::{TensorData, write},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, io::Write, path::Path};

/// The name of its file.
pub const FILE: &str = "state.safetensors";
/// What it is written as.
const VERSION: u32 = 2;

/// Where a run stands, besides its weights and its [`Trainer`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The epochs that are over.
    pub epochs: Vec<Epoch>,
    /// The epoch under way; its loss is a sum over labels.
    pub epoch: Epoch,
    /// Optimiser steps of it that are over: in mixed batches those too that had nothing for this
    /// run.
    pub taken: usize,
    /// The same of all epochs.
    #[serde(default)]
    pub rounds: u64,
    /// Labels of it that were seen.
    pub seen: usize,
    /// The best evaluation, if there was one.
    pub best: Option<Metrics>,
    /// Evaluations since then.
    pub worse: u64,
    /// The optimiser step after which was last evaluated.
    pub evaluated: u64,
    /// Whether the run is given up before its last step.
    pub stopped: bool,
    /// Seconds that it has taken.
    pub seconds: f64,
    /// What was noted on the way.
    pub log: Log,
}

#[derive(Serialize, Deserialize)]
struct Note {
    version: u32,
    passes: u64,
    steps: u64,
    data: String,
    state: State,
}

/// A saved run.
pub struct Saved {
    checkpoint: Checkpoint,
    note: Note,
}

impl State {
    /// Writes the file; `data` is the hash of what the run learns from.
    pub(super) fn write(
        &self,
        to: &mut dyn Write,
        learner: &Learner,
        trainer: &Trainer,
        data: &str,
    ) -> engraft_engine::Result<()> {
        let (mut tensors, mut steps) = (vec![], vec![]);
        for p in sorted(learner) {
            let (shape, weight) = (p.tensor().shape(), p.tensor().buffer());
            tensors.push((format!("weight.{}", p.name()), TensorData::buffer(weight, shape)));
            let moments = trainer.optimiser().moments(p);
            for (kind, of) in moments.iter().flat_map(|m| [("mean", m.mean), ("square", m.square)]) {
                tensors.push((format!("{kind}.{}", p.name()), TensorData::buffer(of, shape)));
            }
            steps.push(moments.map_or(0, |m| m.steps as i64));
        }
        tensors.push(("steps".into(), TensorData::i64(&steps, &[steps.len()])));
        let (passes, steps) = trainer.counters();
        let note = Note { version: VERSION, passes, steps, data: data.into(), state: self.clone() };
        let note = serde_json::to_string(&note)
            .map_err(|e| engraft_engine::Error::File { path: FILE.into(), what: e.to_string() })?;
        write(to, &tensors, Some(&note))
    }
}

impl Saved {
    /// What is saved in a run's directory; none if the run had not come so far, or is over.
    pub fn open(directory: &Path) -> Result<Option<Saved>> {
        let path = directory.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let checkpoint = Checkpoint::open(&path)?;
        let note = checkpoint.note().ok_or_else(|| Error::file(&path, "this is no state of a run"))?;
        let note: Note = serde_json::from_str(note)
            .map_err(|e| Error::file(&path, format!("this is no state of a run: {e}")))?;
        match note.version {
            VERSION => Ok(Some(Saved { checkpoint, note })),
            other => {
                Err(Error::file(&path, format!("it has version {other}, and this program reads {VERSION}")))
            }
        }
    }
    /// Optimiser steps that were taken.
    pub fn steps(&self) -> u64 {
        self.note.steps
    }
    /// Seconds that the run has taken.
    pub fn seconds(&self) -> f64 {
        self.note.state.seconds
    }
    /// The best evaluation, if there was one.
    pub fn best(&self) -> Option<&Metrics> {
        self.note.state.best.as_ref()
    }
    /// Puts weights and optimiser where they stood.
    pub(super) fn restore(self, learner: &mut Learner, trainer: &mut Trainer, data: &str) -> Result<State> {
        let Saved { checkpoint: c, note } = self;
        if note.data != data {
            let why = "the data is no longer what the run began with, so it cannot go on to the same end";
            return Err(Error::file(c.path(), why));
        }
        let device = learner.backbone().device().clone();
        let order: Vec<String> = sorted(learner).into_iter().map(|p| p.name().to_string()).collect();
        if order.iter().collect::<BTreeSet<_>>().len() != order.len() {
            return Err(Error::Model("two weights have one name".into()));
        }
        let steps = c.integers("steps", &[order.len()])?;
        let mut failed = Ok(());
        for of in learner.parameters()? {
            of.visit_mut(&mut |p| {
                if failed.is_ok() {
                    let at = order.binary_search_by(|name| name.as_str().cmp(p.name())).ok();
                    let steps = at.and_then(|i| steps.get(i)).copied().unwrap_or_default();
                    failed = put_back(&c, p, steps, trainer, &device);
                }
            });
        }
        failed?;
        trainer.go_on(note.passes, note.steps);
        Ok(note.state)
    }
}

fn put_back(
    c: &Checkpoint,
    p: &mut Param,
    steps: i64,
    trainer: &mut Trainer,
    device: &engraft_engine::Device,
) -> Result<()> {
    let (name, shape) = (p.name().to_string(), p.tensor().shape().to_vec());
    let read = |kind: &str| c.values(&format!("{kind}.{name}"), &shape);
    let weight = read("weight")?;
    p.buffer_mut().write(&weight).map_err(engraft_engine::Error::from)?;
    match u64::try_from(steps) {
        Ok(0) => Ok(()),
        Ok(steps) => trainer.remember(p, [&read("mean")?, &read("square")?], steps, device),
        Err(_) => Err(Error::file(c.path(), format!("`{name}` has taken {steps} steps"))),
    }
}

/// Everything that trains, in the order of the names.
fn sorted(learner: &Learner) -> Vec<&Param> {
    let mut v = vec![];
    learner.visit(&mut |p| v.push(p));
    v.sort_by(|a, b| a.name().cmp(b.name()));
    v
}

/// A hash of what a run learns from and is evaluated on.
pub(super) fn hash<'a>(source: &dyn Source, eval: impl IntoIterator<Item = Option<&'a Encoded>>) -> String {
    let sets = |e: &Encoded| e.sets().map(|set| set.examples.hash()).collect::<Vec<_>>().join(" ");
    let eval = eval.into_iter().map(|e| e.map(sets).unwrap_or_default());
    format!("{} {}", source.hash(), eval.collect::<Vec<_>>().join(" "))
}
