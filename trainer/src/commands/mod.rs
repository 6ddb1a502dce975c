//! What each command does with its arguments, and what it prints.
mod eval;
mod forward;
mod inspect;
mod memory;
mod predict;
mod profile;
mod quantize;
mod train;

use anyhow::{Context, Result};
use engraft::{
    args::{Arguments, Command, Grafted, Reading, Run},
    classifier::{Backbone, Classifier},
    config::{self, Options},
    tokenizer::{Fit, Tokenizer},
    train::DEFAULT_LENGTH,
};
use std::io::Write;

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

/// Prints to stdout; a reader that went away is no error.
fn say(text: &str) -> Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e).context("stdout"),
        _ => Ok(()),
    }
}
/// Prints to stderr; if nobody reads it the work goes on.
pub fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
/// An error and what caused it; many of ours say their cause themselves.
pub fn reason(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.as_str() {
        "" => cause,
        s if s.ends_with(&cause) => said,
        _ => format!("{said}: {cause}"),
    })
}
/// Says on stderr what of a checkpoint was left unused.
fn note_unused(backbone: &Backbone) {
    let unused = backbone.unused();
    if !unused.is_empty() {
        tell(&format!("note: {} has no use for {}", backbone.directory().display(), unused.join(", ")));
    }
}
/// A saved classifier and its tokenizer: texts are cut where they were cut in training, and the backbone's products
/// computed as they were there, unless said otherwise.
fn load(g: &Grafted, reading: &Reading, run: &Run) -> Result<(Classifier, Tokenizer)> {
    let device = engraft::train::open(run.device, run.threads)?;
    let trained = g.adapter.join(config::FILE);
    let saved = if trained.exists() { Options::read(&trained)? } else { Options::default() };
    let backbone = Backbone::open(&g.model, &device, g.stored.or(&saved).opening())?;
    if !run.quiet {
        note_unused(&backbone);
    }
    let name = g.model.display().to_string();
    let (vocabulary, positions) = (backbone.model().vocabulary(), backbone.model().positions());
    let max_length = reading.max_length.or(saved.max_length).unwrap_or(DEFAULT_LENGTH.min(positions));
    let tokenizer =
        Tokenizer::load(&g.model, Fit { model: &name, vocabulary, positions: Some(positions), max_length })?;
    Ok((backbone.load_classifier(&g.adapter)?, tokenizer))
}
