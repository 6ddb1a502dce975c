//! Training of several tasks in one: each with data, a head and scores of its own, in mixed batches,
//! and with an adapter of its own or one for all of them.
use super::options::Settings;
use super::print::note;
use super::runs::{Ended, Going, take};
use super::setup::{found_files, graft, learn, needed, task, was_cut};
use super::several::{Ground, Named, Read, not_evaluated, train_named};
use engraft::{
    Error, Result,
    data::Files,
    learner::{Backbone, Graft, Learner, NewPart},
    reports::progress::Mode,
    run::{
        directory::BEGUN,
        evaluate::Encoded,
        recipe::Recipe,
        sampling::{Drawn, Sampling},
        train::{Around, Entry, Place, train_mixed},
    },
    tasks::{Purpose, TASKS, TaskType},
    text::{examples::Examples, tokenizer::Tokenizer},
};
use std::path::PathBuf;

/// What one of them is called in errors, and several in the report of all.
const WORDS: (&str, &str) = ("task", "tasks");
/// The name of the adapter that several tasks have together.
pub const SHARED: &str = "shared";

/// Trains several tasks as the settings say. There is an outcome for each that was not over before,
/// or for all together if they share an adapter.
pub fn train_tasks(s: &Settings, mode: Mode, going: Going<'_>) -> Result<Vec<Ended>> {
    if let Some(name) = &s.name {
        let why = "a task names its adapter; a run that has tasks and a name is one of those of the directory \
                   above it, which is gone on with, or repeated, as a whole";
        return Err(Error::Option { option: "name", value: format!("`{name}`"), why: why.into() });
    }
    for (option, given) in [("ewc", s.ewc.is_some()), ("replay", s.replay.is_some())] {
        if given {
            return Err(Error::Needs { option, needs: "order" });
        }
    }
    if s.shared {
        return Ok(train_shared(s, mode, going)?.into_iter().collect());
    }
    train_named(s, (mode, going), WORDS, || named(s), |ground, named, _| read(s, ground, named))
}

/// What the tasks are.
pub fn named(s: &Settings) -> Result<Vec<Named>> {
    let one = |name: &str, settings: Settings| {
        let kind = task(settings.task.as_ref())?.unwrap_or(TASKS[0]);
        let files = open(kind, &settings, Purpose::Train)?;
        let (task, _) = learn(kind, &files, &settings.told())?;
        Ok::<_, Error>(Named::new((name.into(), settings), kind, &*task, &files.name()))
    };
    let tasks = s.tasks()?.into_iter();
    tasks.map(|(name, settings)| one(&name, settings).map_err(|e| e.within(WORDS.0, &name))).collect()
}

/// The files of a task.
fn open(kind: &TaskType, s: &Settings, purpose: Purpose) -> Result<Files> {
    let (paths, option): (&Option<Vec<PathBuf>>, _) = match purpose {
        Purpose::Train => (&s.train, "train"),
        Purpose::Evaluate | Purpose::Predict => (&s.eval, "eval"),
    };
    let paths = paths.as_deref().ok_or_else(|| needed(option))?;
    found_files((kind, &s.told()), paths, &s.columns(), purpose, s.quiet)
}

/// What a task is evaluated on.
pub fn held_out(s: &Settings, one: &Named, tokens: &Tokenizer) -> Result<Encoded> {
    encoded(s, one, tokens, Purpose::Evaluate)
}
/// What a task learns from.
pub fn learned(s: &Settings, one: &Named, tokens: &Tokenizer) -> Result<Examples> {
    Ok(encoded(s, one, tokens, Purpose::Train)?.examples)
}
fn encoded(s: &Settings, one: &Named, tokens: &Tokenizer, purpose: Purpose) -> Result<Encoded> {
    let (files, task) = (open(one.kind, &one.settings, purpose)?, one.task()?);
    let encoded = Encoded::read_for(&files, &*task, tokens, purpose)?;
    note(files.notes(), s.quiet);
    note(was_cut(&encoded, &*task, tokens.max_length()), s.quiet);
    Ok(encoded)
}

/// What each learns from, as often as it is drawn, and what it is evaluated on.
fn read(s: &Settings, ground: &Ground, named: &[Named]) -> Result<Read> {
    let (tokens, mut learned, mut eval) = (&ground.tokenizer, vec![], vec![]);
    for one in named {
        let within = |e: Error| e.within(WORDS.0, &one.name);
        learned.push(self::learned(s, one, tokens).map_err(within)?);
        let held_out = one.settings.eval.is_some().then(|| held_out(s, one, tokens));
        eval.push(held_out.transpose().map_err(within)?);
    }
    check_cache(s, named, &learned)?;
    let missing = not_evaluated(named, &eval);
    let what = match s.shared {
        true => "do not count for what is best",
        false => "the last state is saved, not the best",
    };
    let line = format!("there is nothing to evaluate {} on: of these {what}", missing.join(", "));
    note(Some(line).filter(|_| (1..named.len()).contains(&missing.len())), s.quiet);
    let sampling = s.sampling.unwrap_or(Sampling::PROPORTIONAL);
    Ok((Box::new(Drawn::new(learned, sampling)?), eval))
}

/// Refuses to cache what lies below for tasks that read different rows of it.
fn check_cache(s: &Settings, named: &[Named], learned: &[Examples]) -> Result<()> {
    let Some(directory) = &s.cache_prefix else { return Ok(()) };
    let kind = |examples: &Examples| examples.iter().next().map(|e| std::mem::discriminant(&e.reads));
    let kinds: Vec<_> = learned.iter().map(kind).collect();
    match kinds.iter().position(|kind| *kind != kinds[0]) {
        None => Ok(()),
        Some(n) => {
            let (value, a, b) = (directory.display().to_string(), &named[0].name, &named[n].name);
            let why =
                format!("`{a}` and `{b}` read different rows of the model, and one cache is for one kind");
            Err(Error::Option { option: "cache-prefix", value, why })
        }
    }
}

/// Trains one adapter with a head for each task; nothing if it was over before.
fn train_shared(s: &Settings, mode: Mode, going: Going<'_>) -> Result<Option<Ended>> {
    let goes_on = going.resume && !s.out.join(BEGUN).exists();
    let (mut home, from) = take(s, goes_on)?;
    let named = named(s)?;
    let ground = Ground::open(s, &named)?;
    let learner = |backbone: Backbone| {
        let (mut parts, mut grafted) = (vec![], None);
        for one in &named {
            let task = one.task()?;
            let Graft { head, adapter, seed, .. } = graft(&one.settings, &backbone, &*task)?;
            grafted.get_or_insert(Graft { name: SHARED.into(), adapter, seed, ..Graft::default() });
            let weight = one.settings.task_weight.unwrap_or(1.0);
            parts.push(NewPart { name: one.name.clone(), head, task, weight });
        }
        let mut learner = backbone.learner_of(grafted.unwrap_or_default(), parts)?;
        learner.set_compat(s.compat.into());
        Ok::<Learner, Error>(learner)
    };
    let mut one = learner(ground.backbone.clone())?;
    let read = read(s, &ground, &named)?;
    if let Some(directory) = &s.cache_prefix {
        one.cache_prefix(directory, s.cache_dtype, ground.max_length)?;
    }
    let mut recipe = s.recipe();
    if named.iter().any(|one| one.settings.metric.is_some()) {
        let default = |one: &Named| -> Result<Option<String>> {
            Ok(one.task()?.metrics().first().map(|metric| metric.name.into()))
        };
        let mut aims = vec![];
        for one in named.iter().filter(|one| one.settings.eval.is_some()) {
            let metric = one.settings.metric.clone().map_or_else(|| default(one), |m| Ok(Some(m)))?;
            aims.extend(metric.map(|metric| format!("{}.{metric}", one.name)));
        }
        recipe.metric = Some(aims.join(","));
    }
    let alone = |backbone| Ok(vec![learner(backbone)?]);
    recipe = Recipe { activations: ground.planned(s, &recipe, &read, alone, mode)?, ..recipe };
    home.set_settings(Settings { model_commit: ground.commit.clone(), ..s.clone() }.file());
    let recorded = |one: &Named| {
        let (file, bytes) = one.recorded(ground.commit.as_ref()).file();
        (format!("{}/{file}", one.name), bytes)
    };
    let beside = named.iter().map(recorded).collect();
    let entry = Entry { beside, from, ..Entry::new(recipe, home, one) };
    let (stop, until) = (Some(going.stop), going.until);
    let around = Around { mode, stop, until, home: s.out.clone(), ..Around::default() };
    let mut ended = train_mixed(vec![Place::Run(Box::new(entry))], &*read.0, &read.1, around)?;
    Ok(ended.pop().flatten().map(|outcome| (None, outcome)))
}
