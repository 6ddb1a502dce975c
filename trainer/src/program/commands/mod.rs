//! What each command does with its arguments, and what it prints.
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
    setup::{DEFAULT_LENGTH, open},
};
use anyhow::Result;
use engraft::{
    learner::{Backbone, Classifier},
    text::tokenizer::{Fit, Tokenizer},
};

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

/// A saved classifier and its tokenizer: texts are cut where they were cut in training, and the backbone's products
/// computed as they were there, unless said otherwise.
fn load(g: &Grafted, reading: &Reading, run: &Run) -> Result<(Classifier, Tokenizer)> {
    let device = open(run.device, run.threads)?;
    let trained = g.adapter.join(options::FILE);
    let saved = if trained.exists() { Options::read(&trained)? } else { Options::default() };
    let backbone = Backbone::open(&g.model, &device, g.stored.or(&saved).opening())?;
    if !run.quiet {
        note_unused(&backbone);
    }
    let name = g.model.display().to_string();
    let m = backbone.model().info();
    let (vocabulary, positions) = (m.vocabulary, m.positions);
    let max_length = reading
        .max_length
        .or(saved.max_length)
        .unwrap_or(DEFAULT_LENGTH.min(positions.unwrap_or(usize::MAX)));
    let tokenizer = Tokenizer::load(&g.model, Fit { model: &name, vocabulary, positions, max_length })?;
    Ok((backbone.load_classifier(&g.adapter)?, tokenizer))
}
