//! Training: one run, or several that go over the same batches, from settings to what they leave.
use super::answering::Answering;
use super::common::Common;
use super::options::{self, Options, Settings, sets};
use super::print::{many_classes, note, tell};
use super::replay::rehearsal;
use super::setup::{
    files, is_same, learn, learner, max_length, needed, open_backbone, to_be_counted, tokenizer, was_cut,
    were_cut,
};
use super::teachers::{Students, teaching};
use engraft::{
    Error, Result,
    data::Content,
    learner::{Backbone, Learner},
    reports::{
        left::REPORT,
        place::check_file,
        profile::{Recording, measure},
        progress::{Mode, Progress},
    },
    run::{
        anew::MadeAnew,
        directory::{BEGUN, Directory, File},
        evaluate::Encoded,
        plan::{Work, plan},
        portion::some,
        recipe::Recipe,
        source::Source,
        state::{self, Saved},
        stream::Stream,
        teaching::Lessons,
        train::{Around, Entry, Outcome, train_together},
    },
    tasks::{Purpose, Task, TaskType},
    text::examples::Examples,
};
use engraft_engine::output;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

/// What several runs are called in it.
const VARIANTS: &str = "variants";

/// A run that goes on, or a new one; and what ends it early.
#[derive(Clone, Copy)]
pub struct Going<'a> {
    /// Whether the run in the output directory goes on.
    pub resume: bool,
    /// Ends the run after the step under way, once it is true.
    pub stop: &'a AtomicBool,
    /// Ends it behind this share of its steps.
    pub until: Option<f64>,
}

/// Whether the run in a directory came to its end.
pub fn is_complete(out: &Path) -> bool {
    let there = |name: &str| out.join(name).exists();
    there(REPORT) && !there(state::FILE) && !there(BEGUN)
}
/// Whether this very run did.
pub(super) fn is_done(s: &Settings) -> bool {
    is_complete(&s.out) && is_same_run(s)
}
/// Whether a run of these settings has begun in their directory.
pub(super) fn is_same_run(s: &Settings) -> bool {
    let comparable =
        |s: Settings| Settings { task: None, model_commit: None, threads: 0, json: false, quiet: false, ..s };
    let recorded = Options::read(s.out.join(options::FILE)).and_then(Options::resolve);
    recorded.is_ok_and(|r| comparable(r) == comparable(s.clone()))
}

/// Takes the directory of a run that goes on, or of a new one.
pub(super) fn take(s: &Settings, goes_on: bool) -> Result<(Directory, Option<Saved>)> {
    if let Some(model) = s.model.as_ref().filter(|model| is_same(model, &s.out)) {
        let why = format!("it is the model's own directory {}: its files would be lost", model.display());
        return Err(Error::Option { option: "out", value: s.out.display().to_string(), why });
    }
    output::check_writable(&s.out)?;
    Ok(match goes_on {
        true => (Directory::go_on(&s.out, s.file())?, Saved::open(&s.out)?),
        false => (Directory::begin(&s.out, s.file())?, None),
    })
}

/// A run that is to be taken part in.
struct Part {
    name: Option<String>,
    settings: Settings,
    directory: Directory,
    from: Option<Saved>,
}
impl Part {
    /// What is wrong with it names it, if it is one of several.
    fn within<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|e| match &self.name {
            Some(name) => e.within("variant", name),
            None => e,
        })
    }
}

/// The learners of some runs on one backbone, of which the first names the task.
fn learners(
    parts: &[Part],
    backbone: Backbone,
    mut known: impl FnMut(&TaskType) -> Result<Box<dyn Task>>,
) -> Result<(Vec<Learner>, &'static TaskType)> {
    let (mut all, mut kinds) = (vec![], vec![]);
    for (part, backbone) in parts.iter().zip(std::iter::repeat_n(backbone, parts.len())) {
        let (mut one, kind) = part.within(learner(&part.settings, backbone, &mut known))?;
        for earlier in part.settings.ewc_from.iter().flatten() {
            one.hold(earlier, part.settings.ewc.unwrap_or(0.0))?;
        }
        let first: &Learner = all.first().unwrap_or(&one);
        if (one.task().name(), one.task().labels()) != (first.task().name(), first.task().labels()) {
            let what = "what goes over the same batches learns one task, with the same labels";
            return part.within(Err(Error::Model(what.into())));
        }
        all.push(one);
        kinds.push(kind);
    }
    let kind = kinds.first().copied().ok_or_else(|| Error::Model("every run is complete".into()))?;
    Ok((all, kind))
}

/// Refuses what needs the same examples in every epoch, or in several runs, where they are made
/// anew.
fn check_anew(s: &Settings, recipes: &[Recipe]) -> Result<()> {
    if let Some(directory) = &s.cache_prefix {
        let why = "the task hides other tokens in every epoch, so nothing could be read again".into();
        let value = directory.display().to_string();
        return Err(Error::Option { option: "cache-prefix", value, why });
    }
    match recipes.iter().find(|r| r.seed != s.seed) {
        None => Ok(()),
        Some(other) => {
            let why = "the seed decides which tokens are hidden, and the runs read the same batches".into();
            Err(Error::Option { option: "seed", value: other.seed.to_string(), why })
        }
    }
}

/// What a run did, with its name if it is one of several.
pub type Ended = (Option<String>, Result<Outcome>);

/// The reports of several runs by their names; of those that failed the error.
pub(super) fn reports(
    runs: impl IntoIterator<Item = (Option<String>, Settings)>,
    ended: &[Ended],
) -> Result<Map<String, Value>> {
    let mut all = Map::new();
    for (name, settings) in runs {
        let failed = ended.iter().find(|(n, _)| *n == name).and_then(|(_, outcome)| outcome.as_ref().err());
        let report = match failed {
            Some(e) => json!({"error": e.to_string()}),
            None => report_in(&settings.out)?,
        };
        all.insert(name.unwrap_or_default(), report);
    }
    Ok(all)
}
/// The report that a run left in its directory.
pub(super) fn report_in<T: DeserializeOwned>(directory: &Path) -> Result<T> {
    let path = directory.join(REPORT);
    let bytes = std::fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
    serde_json::from_slice(&bytes).map_err(|e| Error::file(&path, e.to_string()))
}
/// A report as a file.
pub(super) fn report_file(report: &Value, home: &Path) -> Result<File> {
    let text = serde_json::to_vec_pretty(report).map_err(|e| Error::file(home, e.to_string()))?;
    Ok((REPORT.into(), text))
}

/// Trains as the settings say, on a model and data that are there: `model`, `train` and `out` must
/// be set. There is an outcome for each run that was not over before, with its name if it is one of
/// several.
pub fn train(s: &Settings, mode: Mode, going: Going<'_>, common: &mut Common) -> Result<Vec<Ended>> {
    let paths = s.train.as_deref().ok_or_else(|| needed("train"))?;
    s.profile.as_ref().map_or(Ok(()), |f| check_file(f))?;
    // where nothing was saved yet the settings alone are what there is to go on from
    let goes_on = going.resume && !s.out.join(BEGUN).exists();
    let mut home = s.variant.is_some().then(|| take(s, goes_on)).transpose()?;
    let report_of_all =
        |ended: &[Ended]| report_file(&json!({VARIANTS: Value::from(reports(s.runs()?, ended)?)}), &s.out);
    let mut parts = vec![];
    for (name, settings) in s.runs()? {
        if home.is_none() || !(goes_on && is_done(&settings)) {
            let goes_on = goes_on && !settings.out.join(BEGUN).exists();
            let (directory, from) = take(&settings, goes_on)?;
            parts.push(Part { name, settings, directory, from });
        }
    }
    if let (Some((home, _)), true) = (&mut home, parts.is_empty()) {
        home.save(None, &[report_of_all(&[])?], None, &[])?; // it was stopped behind the last of them
        return Ok(vec![]);
    }
    let backbone = common.backbone(s)?;
    let device = backbone.device().clone();
    device.ledger().reset_peak();
    let roofline = s.profile.as_ref().map(|_| measure(&device)).transpose()?;
    let commit = backbone.commit().map(String::from);
    let max_length = max_length(s.max_length, &backbone);
    let tokenizer = Arc::new(tokenizer(&backbone, max_length, s)?);
    let (told, mut survey, mut labels) = (s.told(), None, None);
    let open_files =
        |kind: &TaskType, paths: &[PathBuf], purpose| files((kind, &told), paths, &s.columns(), purpose);
    let is_quiet = mode == Mode::Quiet;
    let (mut learners, kind) = learners(&parts, backbone, |kind| {
        if let Some(labels) = &labels {
            return (kind.known)(Vec::clone(labels), &told);
        }
        let files = open_files(kind, paths, Purpose::Train)?;
        s.stream.then(|| files.check_again()).transpose()?; // before it is read the first time
        let (task, found) = learn(kind, &files, &told)?;
        (survey, labels) = (found, Some(task.labels().to_vec()));
        Ok(task)
    })?;
    let read = |paths: &[PathBuf], purpose| {
        let files = open_files(kind, paths, purpose)?;
        let encoded = match purpose {
            Purpose::Evaluate if s.report && kind.content != Content::Documents => {
                Encoded::read_by_example(&files, &learners[0], &tokenizer)?
            }
            _ => Encoded::read(&files, &learners[0], &tokenizer, purpose)?,
        };
        note(files.notes(), is_quiet);
        note(was_cut(&encoded, learners[0].task(), max_length), is_quiet);
        Ok::<_, Error>(encoded)
    };
    let file = paths.first().map_or(Path::new("-"), PathBuf::as_path);
    common.metrics = learners[0].task().metrics().to_vec();
    let labels = learners[0].task().labels().to_vec();
    if let Some(warning) = many_classes(file, learners[0].task()).filter(|_| !is_quiet) {
        tell(&warning);
    }
    let mut recipes: Vec<Recipe> = parts.iter().map(|p| p.settings.recipe()).collect();
    // the learner's own trains while texts are read
    let task = (kind.known)(labels.clone(), &told)?;
    let stream = || {
        let files = open_files(kind, paths, Purpose::Train)?;
        let stream = Stream::new(files, survey, &*task, &tokenizer, s.buffer())?;
        note(stream.files().notes(), is_quiet);
        note(to_be_counted(&stream, &recipes[0]), is_quiet);
        Ok::<_, Error>(stream)
    };
    let stream = s.stream.then(stream).transpose()?;
    let mut examples = match stream {
        Some(_) => Examples::default(),
        None => read(paths, Purpose::Train)?.examples,
    };
    let held_out = |paths: &[PathBuf]| read(paths, Purpose::Evaluate);
    let mut eval = s.eval.as_ref().map(|paths| sets::read(paths, held_out)).transpose()?;
    if let Some(fold) = s.fold {
        let part = fold.of(read(paths, Purpose::Evaluate)?, &examples, learners[0].task())?;
        note(part.note, is_quiet);
        (examples, eval) = (part.train, Some(part.eval));
    }
    if let Some(n) = s.train_examples {
        examples = some(&examples, n, s.seed)?;
    }
    if let (Some(eval), Some(true)) = (&mut eval, s.predict_with_generate) {
        let (num_beams, max_new_tokens) = (s.num_beams, s.max_new_tokens);
        let how = Answering { num_beams, max_new_tokens, ..Answering::default() };
        let generating = Some(how.generating(learners[0].backbone(), &tokenizer)?);
        eval.others.iter_mut().for_each(|other| other.generating = generating.clone());
        eval.generating = generating;
    }
    if let Some(again) = rehearsal(s, learners[0].backbone())? {
        learners[0].rehearse(again);
    }
    let students =
        Students { settings: s, backbone: learners[0].backbone(), kind, task: &*task, examples: &examples };
    let teaching = teaching(&students, || open_files(kind, paths, Purpose::Train), mode)?;
    let taught = |all: &mut [Learner]| match &teaching {
        Some(said) => parts.iter().zip(all).try_for_each(|(p, one)| said.to(one, &p.settings)),
        None => Ok(()),
    };
    if teaching.is_some() {
        taught(&mut learners)?;
        device.ledger().reset_peak(); // that was the teachers'
    }
    let lessons = teaching.as_ref().map(|said| Lessons::new(&examples, &said.lesson)).transpose()?;
    let source: &dyn Source = stream.as_ref().map_or(&examples, |stream| stream);
    let source: &dyn Source = lessons.as_ref().map_or(source, |lessons| lessons);
    let anew = task.anew(&tokenizer)?.map(|by| MadeAnew::new(source, by, s.seed));
    match &anew {
        Some(_) => check_anew(s, &recipes)?,
        None => common.cache(s, &mut learners, max_length, &examples)?,
    }
    let source: &dyn Source = anew.as_ref().map_or(source, |anew| anew);
    if let Some(budget) = s.memory_budget {
        let s = Settings { model_commit: commit.clone(), ..s.clone() };
        let null = open_backbone(&s, &device.counterpart())?;
        let (mut priced, _) = self::learners(&parts, null, |kind| (kind.known)(labels.clone(), &told))?;
        taught(&mut priced)?;
        let steps = recipes.iter().map(|r| r.steps(source)).collect::<Result<Vec<_>>>()?;
        let (longest, _) = recipes.iter().zip(steps).max_by_key(|(_, n)| *n).unwrap_or((&recipes[0], 0));
        let seeds = recipes.iter().map(|r| r.seed).collect();
        let work = Work::of_run(longest, source, eval.as_ref())?.seeded(seeds);
        let plan = plan(&mut priced, &work, budget.0)?;
        let mut progress = Progress::new(mode, "plan", 0);
        plan.to_string().lines().for_each(|l| progress.line(l));
        recipes.iter_mut().for_each(|r| r.activations = plan.activations());
    }
    let recording = roofline.map(|r| Recording::start(&device, r, 0)).transpose()?;
    let home_of_all = common.home().unwrap_or(&s.out).to_path_buf();
    let around = Around { recording, mode, stop: Some(going.stop), until: going.until, home: home_of_all };
    let (mut entries, mut names) = (vec![], vec![]);
    for ((part, learner), recipe) in parts.into_iter().zip(learners).zip(recipes) {
        let Part { name, settings, mut directory, from } = part;
        let (task, model_commit) = (Some(kind.name.into()), commit.clone());
        let models = teaching.as_ref().and_then(|said| said.models.clone());
        let settings = Settings { teacher_model: models.or(settings.teacher_model.clone()), ..settings };
        directory.set_settings(Settings { task, model_commit, ..settings }.file());
        names.push(name.clone());
        entries.push(Entry { name, from, ..Entry::new(recipe, directory, learner) });
    }
    if let Some((home, _)) = &mut home {
        home.set_settings(Settings { model_commit: commit, ..s.clone() }.file());
        home.save(Some(&[]), &[], None, &[])?; // from now on it says what there is to go on with
    }
    let outcomes = train_together(entries, source, eval.as_ref(), around)?;
    if let (Some(Ok(Outcome { recorded: Some(r), .. })), Some(file)) = (outcomes.first(), &s.profile) {
        r.save(file)?;
    }
    if let Some(stream) = &stream {
        note(were_cut(stream.cut(), &stream.files().name(), &task.limits(max_length)), is_quiet);
        note(stream.notes(), is_quiet);
    }
    let ended: Vec<_> = names.into_iter().zip(outcomes).collect();
    if let Some((home, _)) = &mut home {
        home.save(None, &[report_of_all(&ended)?], None, &[])?;
    }
    Ok(ended)
}
