//! Teachers of a run: who they are, how they read its data, and what they say of it.
use super::options::{AdapterChoice, Options, Settings};
use super::print::{note, warn_of_strangers};
use super::setup::{is_same, max_length, open_backbone, saved, tokenizer};
use engraft::{
    Error, Result,
    data::Files,
    learner::{Backbone, Learner, Likeness},
    reports::{bytes::show, progress::Mode},
    run::{
        evaluate::Encoded,
        teaching::{Lesson, MOST, Teacher, matched},
    },
    tasks::{Purpose, Task, TaskType},
    text::{batch::BatchSize, examples::Examples},
};
use std::path::{Path, PathBuf};

/// Who is taught.
pub struct Students<'a> {
    /// The settings of the run.
    pub settings: &'a Settings,
    /// The model that the students stand on.
    pub backbone: &'a Backbone,
    /// What they learn.
    pub kind: &'static TaskType,
    /// The same, with their labels.
    pub task: &'a dyn Task,
    /// What they learn from.
    pub examples: &'a Examples,
}

/// What teachers said, and the settings that name them for good.
pub struct Teaching {
    /// What they said.
    pub lesson: Lesson,
    /// The models that they stand on, those of the hub at their commits; none where that was not
    /// said.
    pub models: Option<Vec<PathBuf>>,
    /// Which layers learn from which, and from how many channels.
    hidden: Option<(Vec<usize>, usize)>,
}

impl Teaching {
    /// From now on a student learns from what was said.
    pub fn to(&self, student: &mut Learner, s: &Settings) -> Result<()> {
        let like = self.hidden.as_ref().map(|(layers, channels)| Likeness {
            layers: layers.clone(),
            channels: *channels,
            weight: s.hidden_weight(),
            seed: s.seed,
        });
        student.set_distillation(s.soft(), like)
    }
}

/// What the teachers of a run say, if it has some; `files` opens its data.
pub fn teaching(
    students: &Students<'_>,
    files: impl Fn() -> Result<Files>,
    mode: Mode,
) -> Result<Option<Teaching>> {
    let s = students.settings;
    let Some(directories) = &s.teacher else { return Ok(None) };
    let (mut teachers, mut models) = (vec![], vec![]);
    for (i, directory) in directories.iter().enumerate() {
        let given = s.teacher_model.as_ref().and_then(|models| models.get(i).or(models.first()));
        let (teacher, model) = teacher(students, directory, given.map(PathBuf::as_path), &files)?;
        teachers.push(teacher);
        models.push(model);
    }
    let mut hidden = None;
    let (mut own, mut theirs) = (vec![], vec![]);
    if let (Some(pairs), Some(teacher)) = (&s.distill_hidden, teachers.first()) {
        let info = teacher.learner.backbone().model().info();
        let pairs = pairs.of(students.backbone.model().info().layers, info.layers)?;
        (own, theirs) = pairs.iter().copied().unzip();
        hidden = Some((own.clone(), info.channels));
        let all: Vec<String> = pairs.iter().map(|(own, other)| format!("{own} from {other}")).collect();
        note([format!("hidden states of layers are learned: {}", all.join(", "))], s.quiet);
    }
    if !theirs.is_sorted_by(|a, b| a < b) {
        let (value, why) = (format!("{own:?} from {theirs:?}"), "higher layers learn from higher ones");
        return Err(Error::Option { option: "distill-hidden", value, why: why.into() });
    }
    let most = s.memory_budget.map_or(MOST, |budget| budget.0);
    let how = (BatchSize::Examples(s.eval_batch_size), most, mode);
    let lesson = Lesson::of(&teachers, students.task, s.soft().temperature, &theirs, how)?;
    let rows = lesson.labelled();
    let right = lesson.right.map(|n| format!("; of {n} of them the label is what it finds most probable"));
    let line = format!(
        "the teacher speaks of {rows} labelled rows, which takes {}{}",
        show(lesson.bytes()),
        right.unwrap_or_default()
    );
    note([line], s.quiet);
    Ok(Some(Teaching { lesson, models: s.teacher_model.as_ref().map(|_| models), hidden }))
}

/// The teacher of a directory, and its model.
fn teacher(
    students: &Students<'_>,
    directory: &Path,
    model: Option<&Path>,
    files: impl Fn() -> Result<Files>,
) -> Result<(Teacher, PathBuf)> {
    let (s, name) = (students.settings, directory.display().to_string());
    let within = |e: Error| e.within("teacher", &name);
    // a model that trained as a whole was saved with its head
    let is_model = ["config.json", "model.safetensors"].iter().all(|file| directory.join(file).exists());
    let own = if is_model { Some(directory) } else { s.model.as_deref() };
    let model = model.or(own).ok_or(Error::Needs { option: "teacher", needs: "model" })?;
    let student = students.backbone;
    let is_own = s.model.as_deref().is_some_and(|own| own == model || is_same(own, model));
    let model_commit = student.commit().filter(|_| is_own).map(String::from);
    let given = Options { model: Some(model.into()), model_commit, ..Options::default() };
    let settings = given.over(Options::recorded(directory)?).settle()?;
    let settings = Settings { quiet: s.quiet, device: s.device, threads: s.threads, ..settings };
    // a frozen model is shared with those who hold it as it is held here
    let is_shared = s.adapter != Some(AdapterChoice::Full)
        && is_own
        && settings.backbone_dtype == s.backbone_dtype
        && settings.backbone_compute == s.backbone_compute;
    let backbone = if is_shared { student.clone() } else { open_backbone(&settings, student.device())? };
    warn_of_strangers(&backbone, directory, s.quiet)?;
    let pinned = match backbone.commit() {
        Some(commit) => engraft::hub::pinned(model, commit)?,
        None => model.into(),
    };
    let tokens = tokenizer(&backbone, max_length(settings.max_length, &backbone), &settings)?;
    let (mut learner, _) =
        saved(backbone, Some(directory), Some(students.kind), &settings.told()).map_err(within)?;
    learner.set_compat(settings.compat.into());
    let files = files()?;
    files.check_again()?;
    let read = Encoded::read_for(&files, students.task, &tokens, Purpose::Train).map_err(within)?;
    let examples = matched(&name, &read.examples, students.examples)?;
    Ok((Teacher { name, learner, examples }, pinned))
}
