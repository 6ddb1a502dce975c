//! Training on rows that each name the adapter which learns from them: a run for each name, all of
//! them over the same mixed batches.
use super::options::{Settings, names_a_directory};
use super::print::note;
use super::runs::{Ended, Going};
use super::setup::{files, needed, task, were_cut};
use super::several::{Ground, Named, Read, not_evaluated, train_named};
use engraft::{
    Error, Result,
    data::OfAdapter,
    learner::Learner,
    reports::progress::Mode,
    run::of_each::read_each,
    tasks::{Purpose, TASKS},
};
use std::path::PathBuf;

/// What one of the runs is called in errors, and several in the report of all.
const WORDS: (&str, &str) = ("adapter", "adapters");

/// Trains as the settings say an adapter for each name in their column of adapters. There is an
/// outcome for each that was not over before.
pub fn train_mixed(s: &Settings, mode: Mode, going: Going<'_>) -> Result<Vec<Ended>> {
    let paths = s.train.as_deref().ok_or_else(|| needed("train"))?;
    if let Some(name) = &s.name {
        let why = "with adapter-column the rows name the adapters; a run that has both is one of those of the \
                   directory above it, which is gone on with, or repeated, as a whole";
        return Err(Error::Option { option: "name", value: format!("`{name}`"), why: why.into() });
    }
    s.check_one_set("each adapter")?;
    let kind = task(s.task.as_ref())?.unwrap_or(TASKS[0]);
    let open_files = |paths: &[PathBuf], purpose| files((kind, &s.told()), paths, &s.columns(), purpose);
    let named = || {
        let learned = open_files(paths, Purpose::Train)?;
        let mut all = vec![];
        for (name, OfAdapter { labels, first: (file, line) }) in learned.by_adapter()? {
            if !names_a_directory(&name) {
                let why = format!(
                    "`{name}` cannot be the name of an adapter, which is that of its directory: letters, digits, `_`, `-` and `+`"
                );
                return Err(Error::line(&file, line, why));
            }
            let task = (kind.learn)(&learned.name(), labels.into(), &s.told());
            let task = task.map_err(|e| e.within(WORDS.0, &name))?;
            all.push(Named::new((name.clone(), s.of_adapter(&name)), kind, &*task, &file));
        }
        match all.is_empty() {
            true => Err(Error::file(&learned.name(), "the file is empty")),
            false => Ok(all),
        }
    };
    let read = |ground: &Ground, named: &[Named], learners: &[Learner]| -> Result<Read> {
        let both = named.iter().zip(learners);
        let by_name: Vec<(String, &Learner)> = both.map(|(one, l)| (one.name.clone(), l)).collect();
        let read = |paths: &[PathBuf], purpose| {
            let files = open_files(paths, purpose)?;
            let read = read_each(&files, &by_name, &ground.tokenizer, purpose)?;
            note(files.notes(), s.quiet);
            let limits = learners[0].task().limits(ground.max_length);
            note(were_cut(read.cut(), &files.name(), &limits), s.quiet);
            Ok::<_, Error>(read)
        };
        let source = Box::new(read(paths, Purpose::Train)?.into_mixture()?);
        let eval = match &s.eval {
            Some(paths) => read(paths, Purpose::Evaluate)?.encoded,
            None => named.iter().map(|_| None).collect(),
        };
        let missing = not_evaluated(named, &eval).join(", ");
        let line =
            format!("no row of --eval names {missing}: of these the last state is saved, not the best");
        note(Some(line).filter(|_| s.eval.is_some() && !missing.is_empty()), s.quiet);
        Ok((source, eval))
    };
    train_named(s, (mode, going), WORDS, named, read)
}
