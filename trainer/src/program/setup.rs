//! From settings to what a run needs: device, backbone, tokenizer, adapter and head, data.
use super::graft::adapter_config;
use super::options::{Adapter, Backend, Head, Settings};
use super::print::{many_classes, note, tell};
use engraft::{
    Device, Error, Result, adapters,
    data::{Columns, Files, Want},
    learner::{Backbone, Graft, Learner, Opening},
    reports::{
        profile::{Recording, check_file, measure},
        progress::{Mode, Progress},
    },
    run::{
        directory::{BEGUN, Directory},
        evaluate::Encoded,
        plan::{Work, plan},
        state::Saved,
        train::{Around, Outcome},
    },
    tasks::{Purpose, TASKS, Task, TaskType},
    text::{
        companions,
        tokenizer::{Fit, Tokenizer},
    },
};
use engraft_engine::{ParamSet, output};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

/// The most tokens of a sequence unless something is said.
pub const DEFAULT_LENGTH: usize = 128;

/// Opens the device that the settings ask for.
pub fn open(device: Backend, threads: usize) -> Result<Device> {
    Ok(match device {
        Backend::Cpu => Device::cpu(threads),
        Backend::Cuda => Device::cuda(0),
    }
    .map_err(engraft_engine::Error::from)?)
}

/// The most tokens of a sequence on this model: as many as are asked for, else a usual number, or what the model or its
/// tokenizer takes if that is less.
pub fn max_length(asked: Option<usize>, backbone: &Backbone) -> usize {
    asked.unwrap_or_else(|| {
        // what is wrong with the files is said when the tokenizer is made of them
        let of_tokenizer =
            companions::Files::read(backbone.directory()).and_then(|files| files.model_max_length());
        let limits = [backbone.model().info().positions, of_tokenizer.ok().flatten()];
        limits.into_iter().flatten().fold(DEFAULT_LENGTH, usize::min)
    })
}

/// Tokens of each random text: as many as training would keep of a text, if nothing is said.
pub fn length(backbone: &Backbone, given: Option<usize>) -> Result<usize> {
    let positions = backbone.model().info().positions.unwrap_or(usize::MAX);
    let length = max_length(given, backbone);
    if !(1..=positions).contains(&length) {
        let why = format!("{} takes 1 to {positions} tokens", backbone.directory().display());
        return Err(Error::Option { option: "length", value: length.to_string(), why });
    }
    Ok(length)
}

/// The backbone that the settings name.
pub fn open_backbone(s: &Settings, device: &Device) -> Result<Backbone> {
    let model = s.model.as_ref().ok_or_else(|| needed("model"))?;
    let how = Opening {
        dropout: s.dropout.map(|p| p as f32),
        storage: s.backbone_dtype.map(Into::into),
        compute: s.backbone_compute.into(),
        ..Opening::default()
    };
    match s.adapter == Some(Adapter::Full) {
        true => Backbone::open_to_train(model, device, how),
        false => Backbone::open(model, device, how),
    }
}
/// Its tokenizer, for sequences of at most so many tokens.
pub fn tokenizer(backbone: &Backbone, max_length: usize) -> Result<Tokenizer> {
    let (info, name) = (backbone.model().info(), backbone.directory().display().to_string());
    let fit = Fit { model: &name, vocabulary: info.vocabulary, positions: info.positions, max_length };
    Tokenizer::load(backbone.directory(), fit)
}
fn needed(option: &'static str) -> Error {
    Error::Needs { option: "train", needs: option }
}

/// Files, as a task reads them.
pub fn files(task: &TaskType, paths: &[PathBuf], columns: &Columns, purpose: Purpose) -> Result<Files> {
    let labels = task.labelled && purpose != Purpose::Predict;
    Files::new(paths, columns, Want { content: task.content, labels })
}

/// What to say if texts were cut.
pub fn was_cut(encoded: &Encoded, max_length: usize) -> Option<String> {
    let (cut, all, file) = (encoded.cut, encoded.data.len(), encoded.data.path.display());
    (cut > 0)
        .then(|| format!("{cut} of {all} texts of {file} were cut to {max_length} tokens (--max-length)"))
}

/// The task that training data sets.
pub fn learn(task: &TaskType, paths: &[PathBuf], columns: &Columns) -> Result<Box<dyn Task>> {
    let files = files(task, paths, columns, Purpose::Train)?;
    let names = if task.labelled { files.names()? } else { BTreeSet::new() };
    (task.learn)(&files.name(), names)
}

/// What was saved in a directory, with its task: that of its head, which must be the one that is asked for. Without a directory
/// the backbone alone, for a task that goes without a head.
pub fn saved(
    backbone: Backbone,
    directory: Option<&Path>,
    asked: Option<&'static TaskType>,
) -> Result<(Learner, &'static TaskType)> {
    let mut found = None;
    let Some(directory) = directory else {
        let kind = asked.filter(|t| t.headless).ok_or(Error::Needs { option: "task", needs: "adapter" })?;
        let bare = Graft { name: "default".into(), adapter: None, head: None, seed: 0 };
        return Ok((backbone.learner(bare, (kind.known)(vec![])?)?, kind));
    };
    let has_lm_head = backbone.model().info().has_lm_head;
    let learner = backbone.load_learner(directory, |head| {
        if head.is_none() && !has_lm_head {
            let shown = directory.display();
            let why =
                format!("there is no head in it; `train --init {shown} --head linear` puts a new one on it");
            return Err(Error::file(directory, why));
        }
        let of_head = TaskType::of_head(head.map(|h| h.config().head_type()))?;
        if let Some(asked) = asked.filter(|asked| asked.name != of_head.name) {
            if head.is_none() {
                return Err(Error::file(directory, format!("there is no head for {} in it", asked.name)));
            }
            let why = format!("the head in {} is for {}", directory.display(), of_head.name);
            return Err(Error::Option { option: "task", value: asked.name.into(), why });
        }
        found = Some(of_head);
        (of_head.known)(head.map(|h| h.labels().to_vec()).unwrap_or_default())
    })?;
    Ok((learner, found.unwrap_or(TASKS[0])))
}

/// An adapter that was saved without a head, where the model has none of its own either.
pub fn bare(backbone: &Backbone, directory: &Path) -> Result<Option<adapters::Adapter>> {
    let head = || adapters::Head::find(directory, backbone.host(), backbone.device(), &mut ParamSet::new());
    match backbone.model().info().has_lm_head || head()?.is_some() {
        true => Ok(None),
        false => backbone.load_adapter(directory).map(Some),
    }
}

/// The task that is asked for by name.
pub fn task(name: Option<&String>) -> Result<Option<&'static TaskType>> {
    name.map(|name| TaskType::named(name)).transpose()
}

/// The learner that the settings describe, or the one that was saved, on a backbone. `known` makes a new task, once it is clear
/// that there is to be one.
pub fn learner(
    s: &Settings,
    backbone: Backbone,
    known: impl FnOnce(&TaskType) -> Result<Box<dyn Task>>,
) -> Result<(Learner, &'static TaskType)> {
    let asked = task(s.task.as_ref())?;
    let kind = asked.unwrap_or(TASKS[0]);
    if let Some(from) = &s.init {
        let Some(head) = s.head else { return saved(backbone, Some(from), asked) };
        let task = known(kind)?;
        let head = task.head(backbone.model().info(), head == Head::Linear);
        return Ok((backbone.learner_from(from, head, s.seed, task)?, kind));
    }
    let adapter = adapter_config(s, &backbone)?; // refused before the data is read
    let task = known(kind)?;
    let head = task.head(backbone.model().info(), s.head == Some(Head::Linear));
    if adapter.is_none() && head.is_none() && s.adapter != Some(Adapter::Full) {
        let why = format!("{} has no head to train: choose an adapter, or full", task.name());
        return Err(Error::Option { option: "adapter", value: "none".into(), why });
    }
    let name = s.name.clone().unwrap_or_else(|| "default".into());
    Ok((backbone.learner(Graft { name, adapter, head, seed: s.seed }, task)?, kind))
}

/// Whether both are one directory.
pub fn is_same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// A run that goes on, or a new one; and what ends it early.
#[derive(Clone, Copy)]
pub struct Going<'a> {
    /// Whether the run in the output directory goes on.
    pub resume: bool,
    /// Ends the run after the step under way, once it is true.
    pub stop: &'a AtomicBool,
}

/// Trains as the settings say, on a model and data that are there: `model`, `train` and `out` must be set.
pub fn train(s: &Settings, mode: Mode, going: Going<'_>) -> Result<Outcome> {
    let paths = s.train.as_deref().ok_or_else(|| needed("train"))?;
    s.profile.as_ref().map_or(Ok(()), |f| check_file(f))?;
    if let Some(model) = s.model.as_ref().filter(|model| is_same(model, &s.out)) {
        let why = format!("it is the model's own directory {}: its files would be lost", model.display());
        return Err(Error::Option { option: "out", value: s.out.display().to_string(), why });
    }
    output::check_writable(&s.out)?;
    // where nothing was saved yet the settings alone are what there is to go on from
    let (mut directory, from) = match going.resume && !s.out.join(BEGUN).exists() {
        true => (Directory::go_on(&s.out, s.file())?, Saved::open(&s.out)?),
        false => (Directory::begin(&s.out, s.file())?, None),
    };
    let device = open(s.device, s.threads)?;
    let roofline = s.profile.as_ref().map(|_| measure(&device)).transpose()?;
    let backbone = open_backbone(s, &device)?;
    let max_length = max_length(s.max_length, &backbone);
    let tokenizer = tokenizer(&backbone, max_length)?;
    let (mut learner, kind) = learner(s, backbone, |kind| learn(kind, paths, &s.columns()))?;
    let read = |paths: &[PathBuf], purpose| {
        let files = files(kind, paths, &s.columns(), purpose)?;
        let encoded = Encoded::read(&files, &learner, &tokenizer, purpose)?;
        note(files.notes(), mode == Mode::Quiet);
        note(was_cut(&encoded, max_length), mode == Mode::Quiet);
        Ok::<_, Error>(encoded)
    };
    let file = paths.first().map_or(Path::new("-"), PathBuf::as_path);
    if let Some(warning) = many_classes(file, learner.task().labels().len()).filter(|_| mode != Mode::Quiet) {
        tell(&warning);
    }
    let Encoded { examples, .. } = read(paths, Purpose::Train)?;
    let eval = s.eval.as_ref().map(|paths| read(paths, Purpose::Evaluate)).transpose()?;
    if let Some(directory) = &s.cache_prefix {
        learner.cache_prefix(directory, s.cache_dtype, max_length)?;
    }
    directory.set_settings(Settings { task: Some(kind.name.into()), ..s.clone() }.file());
    let mut recipe = s.recipe();
    if let Some(budget) = s.memory_budget {
        let null = Device::null(device.threads());
        let labels = learner.task().labels().to_vec();
        let (mut priced, _) = self::learner(s, open_backbone(s, &null)?, |kind| (kind.known)(labels))?;
        let plan = plan(&mut priced, &Work::of_run(&recipe, &examples, eval.as_ref()), budget.0)?;
        let mut progress = Progress::new(mode, "plan", 0);
        plan.to_string().lines().for_each(|l| progress.line(l));
        recipe.activations = plan.activations();
    }
    let recording = roofline.map(|r| Recording::start(&device, r, 0)).transpose()?;
    let around = Around { recording, mode, stop: Some(going.stop), from };
    let outcome = engraft::run::train::train(&recipe, directory, learner, &examples, eval.as_ref(), around)?;
    if let (Some(r), Some(file)) = (&outcome.recorded, &s.profile) {
        r.save(file)?;
    }
    Ok(outcome)
}
