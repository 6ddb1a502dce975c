//! Training on rows that each name the adapter which learns from them: a run for each name, all of
//! them over the same mixed batches.
use super::common::cache_prefix;
use super::options::{Settings, names_a_directory};
use super::print::{many_classes, note, tell};
use super::runs::{Ended, Going, is_done, report_of_all, take};
use super::setup::{files, graft, max_length, needed, open, open_backbone, task, tokenizer, were_cut};
use engraft::{
    Device, Error, Result,
    data::OfAdapter,
    learner::{Backbone, Learner},
    reports::progress::{Mode, Progress},
    run::{
        directory::{BEGUN, Directory},
        evaluate::Encoded,
        of_each::{OfEach, read_each},
        plan::{Work, plan},
        state::Saved,
        train::{Around, Entry, Place, train_mixed as train_places},
    },
    tasks::{Purpose, TASKS, Task, TaskType},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// What the runs are called in errors and, as several, in the report of all.
const ADAPTER: &str = "adapter";
const ADAPTERS: &str = "adapters";

/// An adapter that rows name.
struct Named {
    name: String,
    settings: Settings,
    /// The names of its classes.
    labels: Vec<String>,
}
impl Named {
    /// What is wrong with it names it.
    fn within<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|e| e.within(ADAPTER, &self.name))
    }
    fn run(&self) -> (Option<String>, Settings) {
        (Some(self.name.clone()), self.settings.clone())
    }
}

/// Trains as the settings say an adapter for each name in their column of adapters. There is an
/// outcome for each that was not over before.
pub fn train_mixed(s: &Settings, mode: Mode, going: Going<'_>) -> Result<Vec<Ended>> {
    let paths = s.train.as_deref().ok_or_else(|| needed("train"))?;
    if let Some(name) = &s.name {
        let why = "with adapter-column the rows name the adapters; a run that has both is one of those of the \
                   directory above it, which is gone on with, or repeated, as a whole";
        return Err(Error::Option { option: "name", value: format!("`{name}`"), why: why.into() });
    }
    let is_quiet = mode == Mode::Quiet;
    // where nothing was saved yet the settings alone are what there is to go on from
    let goes_on = going.resume && !s.out.join(BEGUN).exists();
    let (mut home, _) = take(s, goes_on)?;
    let kind = task(s.task.as_ref())?.unwrap_or(TASKS[0]);
    let open_files = |paths: &[PathBuf], purpose| files(kind, paths, &s.columns(), purpose);
    let learned = open_files(paths, Purpose::Train)?;
    let named = named(s, kind, &learned.name(), learned.by_adapter()?)?;
    let reports = |ended: &[Ended]| report_of_all(ADAPTERS, named.iter().map(Named::run), &s.out, ended);

    let taken = named.iter().map(|one| {
        if goes_on && is_done(&one.settings) {
            return Ok(None);
        }
        take(&one.settings, goes_on && !one.settings.out.join(BEGUN).exists()).map(Some)
    });
    let taken: Vec<Option<(Directory, Option<Saved>)>> = taken.collect::<Result<_>>()?;
    if taken.iter().all(Option::is_none) {
        home.save(None, &[reports(&[])?], None, &[])?; // it was stopped behind the last of them
        return Ok(vec![]);
    }
    let device = open(s.device, s.threads)?;
    let backbone = open_backbone(s, &device)?;
    let commit = backbone.commit().map(String::from);
    let max_length = max_length(s.max_length, &backbone);
    let tokenizer = tokenizer(&backbone, max_length, s)?;
    let mut learners = learners(&named, kind, backbone)?;
    let by_name: Vec<(String, &Learner)> =
        named.iter().zip(&learners).map(|(one, learner)| (one.name.clone(), learner)).collect();
    let read = |paths: &[PathBuf], purpose| {
        let files = open_files(paths, purpose)?;
        let read = read_each(&files, &by_name, &tokenizer, purpose)?;
        note(files.notes(), is_quiet);
        let limits = by_name[0].1.task().limits(max_length);
        note(were_cut(read.cut(), &files.name(), &limits), is_quiet);
        Ok::<OfEach, Error>(read)
    };
    let source = read(paths, Purpose::Train)?.into_mixture()?;
    let eval: Vec<Option<Encoded>> = match &s.eval {
        Some(paths) => read(paths, Purpose::Evaluate)?.encoded,
        None => named.iter().map(|_| None).collect(),
    };
    note(not_evaluated(&named, &eval).filter(|_| s.eval.is_some()), is_quiet);
    if let Some(directory) = &s.cache_prefix {
        cache_prefix(&mut learners, &mut vec![], directory, s.cache_dtype, max_length)?;
    }
    let mut recipe = s.recipe();
    if let Some(budget) = s.memory_budget {
        let s = Settings { model_commit: commit.clone(), ..s.clone() };
        let null = open_backbone(&s, &Device::null(device.threads()))?;
        let mut priced = self::learners(&named, kind, null)?;
        let work = Work::of_mixed_run(&recipe, &source, &eval)?;
        let plan = plan(&mut priced, &work, budget.0)?;
        let mut progress = Progress::new(mode, "plan", 0);
        plan.to_string().lines().for_each(|l| progress.line(l));
        recipe.activations = plan.activations();
    }
    let place = |((one, taken), learner): ((&Named, Option<_>), Learner)| match taken {
        None => Place::Over(Box::new(learner)),
        Some::<(Directory, _)>((mut directory, from)) => {
            let (name, settings) = one.run();
            let (task, model_commit) = (Some(kind.name.into()), commit.clone());
            directory.set_settings(Settings { task, model_commit, ..settings }.file());
            Place::Run(Box::new(Entry { name, recipe: recipe.clone(), directory, learner, from }))
        }
    };
    let places = named.iter().zip(taken).zip(learners).map(place).collect();
    home.set_settings(Settings { model_commit: commit, ..s.clone() }.file());
    home.save(Some(&[]), &[], None, &[])?; // from now on it says what there is to go on with
    let around =
        Around { recording: None, mode, stop: Some(going.stop), until: going.until, home: s.out.clone() };
    let outcomes = train_places(places, &source, &eval, around)?;
    let ended = named.iter().zip(outcomes);
    let ended: Vec<Ended> = ended.filter_map(|(one, o)| Some((Some(one.name.clone()), o?))).collect();
    home.save(None, &[reports(&ended)?], None, &[])?;
    Ok(ended)
}

/// The adapters that files name, each with the classes of its own rows.
fn named(
    s: &Settings,
    kind: &TaskType,
    path: &Path,
    found: BTreeMap<String, OfAdapter>,
) -> Result<Vec<Named>> {
    let mut all = vec![];
    for (name, OfAdapter { labels, first: (file, line) }) in found {
        if !names_a_directory(&name) {
            let why = format!(
                "`{name}` cannot be the name of an adapter, which is that of its directory: letters, digits, `_`, `-` and `+`"
            );
            return Err(Error::line(&file, line, why));
        }
        let mut one = Named { settings: s.of_adapter(&name), name, labels: vec![] };
        let learned = one.within((kind.learn)(path, labels, &s.told()))?;
        one.labels = learned.labels().to_vec();
        if let Some(warning) = many_classes(&file, &*learned).filter(|_| !s.quiet) {
            tell(&warning);
        }
        all.push(one);
    }
    if all.is_empty() {
        return Err(Error::file(path, "the file is empty"));
    }
    Ok(all)
}

/// A learner for each of them.
fn learners(named: &[Named], kind: &TaskType, backbone: Backbone) -> Result<Vec<Learner>> {
    let mut grafts = vec![];
    for one in named {
        let task: Box<dyn Task> = one.within((kind.known)(one.labels.clone(), &one.settings.told()))?;
        grafts.push((one.within(graft(&one.settings, &backbone, &*task))?, task));
    }
    let mut learners = backbone.learners(grafts)?;
    named.iter().zip(&mut learners).for_each(|(one, l)| l.set_compat(one.settings.compat.into()));
    Ok(learners)
}

/// What to say of adapters that no row to evaluate on names.
fn not_evaluated(named: &[Named], eval: &[Option<Encoded>]) -> Option<String> {
    let missing = named.iter().zip(eval).filter(|(_, eval)| eval.is_none());
    let missing: Vec<String> = missing.map(|(one, _)| format!("`{}`", one.name)).collect();
    let names = missing.join(", ");
    (!missing.is_empty())
        .then(|| format!("no row of --eval names {names}: of these the last state is saved, not the best"))
}
