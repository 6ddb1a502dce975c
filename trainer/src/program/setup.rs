//! From settings to what a run needs: device, backbone, tokenizer, adapter and head, data.
use super::graft::{adapter_config, left_out};
use super::options::{AdapterChoice, Backend, Head, Settings};
use super::print::warn_of_strangers;
use engraft::{
    Device, Error, Result,
    adapters::{self, export::Composition},
    data::{Columns, Content, Dataset, Files, Survey, Want, expand},
    hub,
    learner::{Backbone, Graft, Learner, Opening},
    reports::progress::Mode,
    run::{evaluate::Encoded, recipe::Recipe, stream::Stream},
    tasks::{Purpose, TASKS, Task, TaskType, Told},
    text::{
        companions,
        tokenizer::{Fit, Tokenizer},
    },
};
use engraft_engine::ParamSet;
use std::path::{Path, PathBuf};

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

/// The most tokens of a sequence on this model: as many as are asked for, else a usual number, or
/// what the model or its tokenizer takes if that is less.
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
    let model = &s.model_commit.as_ref().map_or(Ok(model.clone()), |commit| hub::pinned(model, commit))?;
    let how = Opening {
        progress: Mode::detect(s.quiet),
        dropout: s.dropout.map(|p| p as f32),
        storage: s.backbone_dtype.map(Into::into),
        compute: s.backbone_compute.into(),
        ..Opening::default()
    };
    match s.adapter == Some(AdapterChoice::Full) {
        true => Backbone::open_to_train(model, device, how),
        false => Backbone::open(model, device, how),
    }
}
/// Its tokenizer, for sequences of at most so many tokens, and for pairs as the settings have them.
pub fn tokenizer(backbone: &Backbone, max_length: usize, s: &Settings) -> Result<Tokenizer> {
    let (info, name) = (backbone.model().info(), backbone.directory().display().to_string());
    let fit = Fit { model: &name, vocabulary: info.vocabulary, positions: info.positions, max_length };
    Ok(Tokenizer::load(backbone.directory(), fit)?.joining_pairs(s.pair_separator.clone()))
}
/// An option that training cannot do without.
pub fn needed(option: &'static str) -> Error {
    Error::Needs { option: "train", needs: option }
}

/// Files, as a task reads them.
pub fn files(
    (task, told): (&TaskType, &Told),
    paths: &[PathBuf],
    columns: &Columns,
    purpose: Purpose,
) -> Result<Files> {
    let content = task.content_for(told);
    let labels = (task.labelled || content == Content::Answers) && purpose != Purpose::Predict;
    Files::new(paths, columns, Want { content, labels })
}
/// The same of the files that paths stand for.
pub fn found_files(
    asked: (&TaskType, &Told),
    paths: &[PathBuf],
    columns: &Columns,
    purpose: Purpose,
    quiet: bool,
) -> Result<Files> {
    files(asked, &expand(paths, purpose, Mode::detect(quiet))?, columns, purpose)
}

/// All records of files.
pub fn whole(files: &Files) -> Result<Dataset> {
    let mut all = None::<Dataset>;
    for part in files.parts() {
        match &mut all {
            Some(all) => all.append(part?),
            none => *none = Some(part?),
        }
    }
    let all = all.ok_or_else(|| Error::file(&files.name(), "the file is empty"))?;
    Ok(Dataset { path: files.name(), ..all })
}

/// What to say of how a data set was read: whether texts of it were cut, and what the task says.
pub fn was_cut(encoded: &Encoded, task: &dyn Task, max_length: usize) -> Vec<String> {
    let cut = were_cut((encoded.cut, encoded.data.len()), &encoded.data.path, &task.limits(max_length));
    cut.into_iter().chain(encoded.notes.iter().cloned()).collect()
}
/// What to say if so many texts were cut, of so many in a file: `limits` says to what.
pub fn were_cut((cut, all): (usize, usize), file: &Path, limits: &str) -> Option<String> {
    let file = file.display();
    (cut > 0).then(|| format!("{cut} of {all} texts of {file} were cut {limits}"))
}

/// What to say if texts of a stream are tokenised for their number.
pub fn to_be_counted(stream: &Stream<'_>, recipe: &Recipe) -> Option<String> {
    let why = "to know how many steps there are, everything is tokenised before the first one; with --max-steps alone nothing is";
    (recipe.epochs.is_some() && !stream.is_counted(recipe.batch)).then(|| why.into())
}

/// The task that training data sets, and what was found in the data, if it was looked at for that.
pub fn learn(task: &TaskType, files: &Files, told: &Told) -> Result<(Box<dyn Task>, Option<Survey>)> {
    let found = task.classes.then(|| files.survey()).transpose()?;
    let names = found.as_ref().map(|survey| survey.names.clone()).unwrap_or_default();
    Ok(((task.learn)(&files.name(), names, told)?, found))
}

/// What was saved in a directory, with its task: that of its head, which must be the one that is
/// asked for. Without a directory the backbone alone, for a task that goes without a head.
pub fn saved(
    backbone: Backbone,
    directory: Option<&Path>,
    asked: Option<&'static TaskType>,
    told: &Told,
) -> Result<(Learner, &'static TaskType)> {
    saved_without(backbone, directory, &[], asked, told)
}
/// The same without the adapter's modules in some layers.
fn saved_without(
    backbone: Backbone,
    directory: Option<&Path>,
    leave_out: &[usize],
    asked: Option<&'static TaskType>,
    told: &Told,
) -> Result<(Learner, &'static TaskType)> {
    let mut found = None;
    let Some(directory) = directory else {
        let kind = asked.filter(|t| t.headless).ok_or(Error::Needs { option: "task", needs: "adapter" })?;
        let bare = Graft { name: "default".into(), adapter: None, head: None, seed: 0, ..Graft::default() };
        return Ok((backbone.learner(bare, (kind.known)(vec![], told)?)?, kind));
    };
    let info = backbone.model().info().clone();
    // the model's own head says which tokens are hidden, if that is asked for
    let fills = |t: &&TaskType| info.has_lm_head && (t.known)(vec![], told).is_ok_and(|task| task.fills());
    let filling = asked.filter(fills);
    let learner = backbone.load_learner_without(directory, leave_out, |head| {
        if let (None, Some(asked)) = (head, filling) {
            found = Some(asked);
            return (asked.known)(vec![], told);
        }
        if head.is_none() && !info.predicts_next() {
            let shown = directory.display();
            let why =
                format!("there is no head in it; `train --init {shown} --head linear` puts a new one on it");
            return Err(Error::file(directory, why));
        }
        let of_head = TaskType::of_head(head.map(|h| h.config()), &info)?;
        if let Some(asked) = asked.filter(|asked| asked.name != of_head.name) {
            if head.is_none() {
                return Err(Error::file(directory, format!("there is no head for {} in it", asked.name)));
            }
            let why = format!("the head in {} is for {}", directory.display(), of_head.name);
            return Err(Error::Option { option: "task", value: asked.name.into(), why });
        }
        found = Some(of_head);
        (of_head.known)(head.map(|h| h.labels().to_vec()).unwrap_or_default(), told)
    })?;
    Ok((learner, found.unwrap_or(TASKS[0])))
}

/// Whether an adapter was saved without a head, where the model has none of its own either.
pub fn is_headless(backbone: &Backbone, directory: &Path) -> Result<bool> {
    if Composition::is_in(directory) || backbone.model().info().predicts_next() {
        return Ok(false);
    }
    let mut set = ParamSet::new();
    Ok(adapters::Head::find(directory, backbone.host(), backbone.device(), &mut set)?.is_none())
}
/// Such an adapter.
pub fn bare(backbone: &Backbone, directory: &Path) -> Result<Option<adapters::Adapter>> {
    is_headless(backbone, directory)?.then(|| backbone.load_adapter(directory)).transpose()
}

/// The task that is asked for by name.
pub fn task(name: Option<&String>) -> Result<Option<&'static TaskType>> {
    name.map(|name| TaskType::named(name)).transpose()
}

/// The learner that the settings describe, or the one that was saved, on a backbone. `known` makes
/// a new task, once it is clear that there is to be one.
pub fn learner(
    s: &Settings,
    backbone: Backbone,
    known: impl FnOnce(&TaskType) -> Result<Box<dyn Task>>,
) -> Result<(Learner, &'static TaskType)> {
    let asked = task(s.task.as_ref())?;
    let kind = asked.unwrap_or(TASKS[0]);
    if !backbone.device().is_null() {
        let saved = s.adapters.iter().flatten().map(|a| &a.directory);
        saved.chain(&s.init).try_for_each(|dir| warn_of_strangers(&backbone, dir, s.quiet))?;
    }
    if let Some(from) = &s.init {
        let left_out = left_out(s, &backbone)?;
        let as_said = |mut learner: Learner| {
            learner.set_compat(s.compat.into());
            learner
        };
        let Some(head) = s.head else {
            let (learner, kind) = saved_without(backbone, Some(from), &left_out, asked, &s.told())?;
            return Ok((as_said(learner), kind));
        };
        let task = known(kind)?;
        let head = task.head(backbone.model().info(), head == Head::Linear);
        return Ok((as_said(backbone.learner_from(from, &left_out, head, s.seed, task)?), kind));
    }
    adapter_config(s, &backbone)?; // refused before the data is read
    let task = known(kind)?;
    let graft = graft(s, &backbone, &*task)?;
    let mut learner = backbone.learner(graft, task)?;
    learner.set_compat(s.compat.into());
    if learner.size().trainable == 0 {
        let value = learner.setup().to_string();
        let why = "nothing in it trains, and there is no head: add --joint or a new adapter".into();
        return Err(Error::Option { option: "setup", value, why });
    }
    Ok((learner, kind))
}

/// What the settings put on a backbone for a new task.
pub fn graft(s: &Settings, backbone: &Backbone, task: &dyn Task) -> Result<Graft> {
    let adapter = adapter_config(s, backbone)?;
    let head = task.head(backbone.model().info(), s.head == Some(Head::Linear));
    let saved =
        s.adapters.iter().flatten().map(|a| (a.name.clone(), a.directory.clone())).collect::<Vec<_>>();
    if adapter.is_none() && head.is_none() && saved.is_empty() && s.adapter != Some(AdapterChoice::Full) {
        let why = format!("{} has no head to train: choose an adapter, or full", task.name());
        return Err(Error::Option { option: "adapter", value: "none".into(), why });
    }
    Ok(Graft {
        name: s.name.clone().unwrap_or_else(|| "default".into()),
        adapter,
        saved,
        joint: s.joint,
        setup: s.setup.as_ref().map(|c| c.0.clone()),
        fusion: s.fusion.as_ref().map(|m| m.0.clone()),
        head,
        seed: s.seed,
    })
}

/// Whether both are one directory.
pub fn is_same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}
