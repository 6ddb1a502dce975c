//! What each command does with its arguments.
mod eval;
mod forward;
mod inspect;
mod memory;
mod predict;
mod profile;
mod quantize;
mod train;

use super::{
    args::{Arguments, Command, Grafted, Reading, Run},
    options::{self, Options},
    print::note_unused,
    setup::{max_length, open, saved, task, tokenizer},
};
use anyhow::Result;
use engraft::{
    learner::{Backbone, Learner},
    tasks::TaskType,
    text::tokenizer::Tokenizer,
};
use std::path::Path;

pub fn run() -> Result<()> {
    match Arguments::from_env().command.unwrap_or_else(|| Command::Train(Box::default())) {
        Command::Train(t) => train::run(&t),
        Command::Eval(e) => eval::run(&e),
        Command::Predict(p) => predict::run(&p),
        Command::Inspect(i) => inspect::run(&i),
        Command::Memory(m) => memory::run(&m),
        Command::Forward(f) => forward::run(&f),
        Command::Profile(p) => profile::run(&p),
        Command::Quantize(q) => quantize::run(&q),
    }
}

/// A saved learner with its task and tokenizer, and the options of the run that saved it.
struct Loaded {
    learner: Learner,
    task: &'static TaskType,
    tokenizer: Tokenizer,
    before: Options,
}

/// The options of the run that saved something, if it is known.
fn before(directory: Option<&Path>) -> Result<Options> {
    match directory.map(|d| d.join(options::FILE)).filter(|file| file.exists()) {
        Some(file) => Ok(Options::read(file)?),
        None => Ok(Options::default()),
    }
}

/// Texts are read as they were in training, and the backbone's products computed as they were there, unless said otherwise.
fn load(g: &Grafted, reading: &Reading, run: &Run) -> Result<Loaded> {
    let device = open(run.device, run.threads)?;
    let before = before(g.adapter.as_deref())?;
    let backbone = Backbone::open(&g.model, &device, g.stored.or(&before).opening())?;
    if !run.quiet {
        note_unused(&backbone);
    }
    let tokenizer = tokenizer(&backbone, max_length(reading.max_length.or(before.max_length), &backbone))?;
    let (learner, task) =
        saved(backbone, g.adapter.as_deref(), task(g.task.as_ref().or(before.task.as_ref()))?)?;
    Ok(Loaded { learner, task, tokenizer, before })
}
