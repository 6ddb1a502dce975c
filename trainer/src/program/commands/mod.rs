//! What each command does with its arguments.
mod adapters;
mod compare;
mod eval;
mod fold;
mod forward;
mod generate;
mod inspect;
mod memory;
mod meta;
mod predict;
mod profile;
mod prune;
mod quantize;
mod report;
mod route;
mod search;
mod shares;
mod train;

use super::{
    args::{Arguments, Command, Grafted, RunArgs},
    options::{Options, Settings},
    print::{note_unused, tell, warn_of_strangers},
    setup::{max_length, open, open_backbone, saved, task, tokenizer},
};
use anyhow::Result;
use engraft::{
    Error,
    data::Columns,
    engine::output,
    learner::Learner,
    tasks::{TaskType, Told},
    text::tokenizer::Tokenizer,
};
use serde_json::{Map, Value};
use std::{path::Path, process::ExitCode, sync::Arc};

pub fn run() -> Result<ExitCode> {
    match Arguments::from_env().command.unwrap_or_else(|| Command::Train(Box::default())) {
        Command::Adapters(a) => return adapters::run(&a),
        Command::Fold(f) => fold::run(&f),
        Command::Train(t) => train::run(&t),
        Command::Fuse(t) => train::fuse(&t),
        Command::Continual(t) => train::continual(&t),
        Command::Meta(m) => meta::run(&m),
        Command::Search(s) => search::run(&s),
        Command::Eval(e) => eval::run(&e),
        Command::Compare(c) => compare::run(&c),
        Command::Predict(p) => predict::run(&p),
        Command::Route(r) => route::run(&r),
        Command::Shares(s) => shares::run(&s),
        Command::Inspect(i) => inspect::run(&i),
        Command::Memory(m) => memory::run(&m),
        Command::Forward(f) => forward::run(&f),
        Command::Generate(g) => generate::run(&g),
        Command::Profile(p) => profile::run(&p),
        Command::Prune(p) => prune::run(&p),
        Command::Report(r) => report::run(&r),
        Command::Quantize(q) => quantize::run(&q),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// A saved learner with its task and tokenizer, and how texts are read.
struct Loaded {
    learner: Learner,
    task: &'static TaskType,
    told: Told,
    tokenizer: Arc<Tokenizer>,
    columns: Columns,
}

/// What is given, and where it says nothing what the run recorded that saved something.
fn as_recorded(given: Options, directory: Option<&Path>, quiet: bool) -> Result<Settings> {
    let recorded = directory.map(Options::recorded).transpose()?.unwrap_or_default();
    if !quiet {
        given.overriding(&recorded).iter().for_each(|line| tell(&format!("note: {line}")));
    }
    Ok(Settings { quiet, ..given.over(recorded).settle()? })
}

/// Holds what was saved as it is, while it is read.
fn hold(directory: Option<&Path>) -> Result<Option<output::Lock>> {
    Ok(directory.map(output::reading).transpose()?)
}

/// Texts are read as they were in training, and the backbone's products computed as they were
/// there, unless said otherwise.
fn load(g: &Grafted, reading: Options, run: &RunArgs) -> Result<Loaded> {
    load_telling(g, reading, &Map::new(), run)
}
/// The same, and the task is told more.
fn load_telling(g: &Grafted, reading: Options, more: &Map<String, Value>, run: &RunArgs) -> Result<Loaded> {
    if let Some(directory) = &g.route {
        let why = "it says which adapter answers for a text of `engraft predict`".into();
        return Err(Error::Option { option: "route", value: directory.display().to_string(), why }.into());
    }
    let directory = g.adapter.as_deref();
    let _held = hold(directory)?;
    let given = Options {
        model: Some(g.model.clone()),
        task: g.task.clone(),
        compat: g.compat,
        ..g.stored.options()
    };
    let s = as_recorded(given.over(reading), directory, run.quiet)?;
    let backbone = open_backbone(&s, &open(run.device, run.threads)?)?;
    if !run.quiet {
        note_unused(&backbone);
    }
    directory.map_or(Ok(()), |d| warn_of_strangers(&backbone, d, run.quiet))?;
    let tokenizer = tokenizer(&backbone, max_length(s.max_length, &backbone), &s)?;
    let told = s.told().and(more);
    let (mut learner, task) = saved(backbone, directory, task(s.task.as_ref())?, &told)?;
    learner.set_compat(s.compat.into());
    g.compose(&mut learner)?;
    Ok(Loaded { learner, task, told, tokenizer: Arc::new(tokenizer), columns: s.columns() })
}
