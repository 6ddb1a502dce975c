//! Several runs in one, over mixed batches: one for each name, each in a directory of its own.
use super::common::cache_prefix;
use super::options::Settings;
use super::print::{many_classes, tell};
use super::runs::{Ended, Going, is_done, report_file, reports, take};
use super::setup::{graft, max_length, open, open_backbone, tokenizer};
use engraft::{
    Device, Error, Result,
    learner::{Backbone, Learner},
    reports::progress::{Mode, Progress},
    run::{
        aim::key,
        directory::{BEGUN, Directory},
        evaluate::Encoded,
        plan::{Work, plan},
        recipe::Recipe,
        source::Source,
        state::Saved,
        train::{Around, Entry, Place, train_mixed},
    },
    tasks::{Task, TaskType},
    text::tokenizer::Tokenizer,
};
use engraft_engine::Activations;
use serde_json::{Value, json};
use std::path::Path;

/// What has a name in mixed batches, and what it learns.
pub struct Named {
    pub name: String,
    pub settings: Settings,
    pub kind: &'static TaskType,
    /// The names of its classes.
    pub labels: Vec<String>,
}
impl Named {
    /// What was found in the training data of a name; a warning where there are very many classes.
    pub fn new(
        (name, settings): (String, Settings),
        kind: &'static TaskType,
        task: &dyn Task,
        file: &Path,
    ) -> Named {
        if let Some(warning) = many_classes(file, task).filter(|_| !settings.quiet) {
            tell(&warning);
        }
        Named { name, settings, kind, labels: task.labels().to_vec() }
    }
    /// Its task.
    pub fn task(&self) -> Result<Box<dyn Task>> {
        (self.kind.known)(self.labels.clone(), &self.settings.told())
    }
    /// The scores in a report of it, as they are called among those of several.
    fn scores(&self, report: &Value) -> Vec<(String, Value)> {
        let all = report["metrics"].as_object().into_iter().flatten();
        let scores = all.filter(|(name, value)| {
            !matches!(value, Value::Array(_) | Value::Object(_)) && *name != "examples"
        });
        scores.map(|(name, value)| (key(&self.name, name), value.clone())).collect()
    }
    fn run(&self) -> (Option<String>, Settings) {
        (Some(self.name.clone()), self.settings.clone())
    }
    /// The settings that are saved with what it learned.
    pub fn recorded(&self, commit: Option<&String>) -> Settings {
        Settings { task: Some(self.kind.name.into()), model_commit: commit.cloned(), ..self.settings.clone() }
    }
}

/// What things with names are: what one is called in errors, and several in the report of all.
pub type Words = (&'static str, &'static str);

/// What is read of data: what is learned from, and what each is evaluated on.
pub type Read = (Box<dyn Source>, Vec<Option<Encoded>>);

/// What a run stands on.
pub struct Ground {
    pub backbone: Backbone,
    pub tokenizer: Tokenizer,
    pub max_length: usize,
    /// The commit of a model of the hub.
    pub commit: Option<String>,
    device: Device,
}
impl Ground {
    /// An error if a task is none for mixed batches: what is drawn anew in every epoch needs runs of
    /// its own.
    pub fn open(s: &Settings, named: &[Named]) -> Result<Ground> {
        let device = open(s.device, s.threads)?;
        let backbone = open_backbone(s, &device)?;
        let commit = backbone.commit().map(String::from);
        let max_length = max_length(s.max_length, &backbone);
        let tokenizer = tokenizer(&backbone, max_length, s)?;
        for one in named {
            if one.task()?.anew(&tokenizer)?.is_some() {
                let why = "its examples are made anew in every epoch, so that it trains by itself";
                let value = format!("{} (`{}`)", one.kind.name, one.name);
                return Err(Error::Option { option: "task", value, why: why.into() });
            }
        }
        Ok(Ground { backbone, tokenizer, max_length, commit, device })
    }
    /// What layers keep so that a run fits into its budget, if it has one.
    pub fn planned(
        &self,
        s: &Settings,
        recipe: &Recipe,
        (source, eval): &Read,
        learners: impl FnOnce(Backbone) -> Result<Vec<Learner>>,
        mode: Mode,
    ) -> Result<Activations> {
        let Some(budget) = s.memory_budget else { return Ok(recipe.activations.clone()) };
        let s = Settings { model_commit: self.commit.clone(), ..s.clone() };
        let null = open_backbone(&s, &self.device.counterpart())?;
        let work = Work::of_mixed_run(recipe, &**source, eval)?;
        let plan = plan(&mut learners(null)?, &work, budget.0)?;
        let mut progress = Progress::new(mode, "plan", 0);
        plan.to_string().lines().for_each(|l| progress.line(l));
        Ok(plan.activations())
    }
}

/// Trains as settings say one learner for each of some names. There is an outcome for each that was
/// not over before.
pub fn train_named(
    s: &Settings,
    (mode, going): (Mode, Going<'_>),
    (word, words): Words,
    named: impl FnOnce() -> Result<Vec<Named>>,
    read: impl FnOnce(&Ground, &[Named], &[Learner]) -> Result<Read>,
) -> Result<Vec<Ended>> {
    // where nothing was saved yet the settings alone are what there is to go on from
    let goes_on = going.resume && !s.out.join(BEGUN).exists();
    let (mut home, _) = take(s, goes_on)?;
    let named = named()?;
    let report = |ended: &[Ended]| {
        let all = reports(named.iter().map(Named::run), ended)?;
        let scores = Value::from_iter(named.iter().flat_map(|one| one.scores(&all[&one.name])));
        report_file(&json!({words: Value::from(all), "metrics": scores}), &s.out)
    };
    let taken = named.iter().map(|one| {
        if goes_on && is_done(&one.settings) {
            return Ok(None);
        }
        take(&one.settings, goes_on && !one.settings.out.join(BEGUN).exists()).map(Some)
    });
    let taken: Vec<Option<(Directory, Option<Saved>)>> = taken.collect::<Result<_>>()?;
    if taken.iter().all(Option::is_none) {
        home.save(None, &[report(&[])?], None, &[])?; // it was stopped behind the last of them
        return Ok(vec![]);
    }
    let ground = Ground::open(s, &named)?;
    let of_each = |backbone| learners(&named, word, backbone);
    let mut learners = of_each(ground.backbone.clone())?;
    let read = read(&ground, &named, &learners)?;
    if let Some(directory) = &s.cache_prefix {
        cache_prefix(&mut learners, &mut vec![], directory, s.cache_dtype, ground.max_length)?;
    }
    let activations = ground.planned(s, &s.recipe(), &read, of_each, mode)?;
    let place = |((one, taken), learner): ((&Named, Option<_>), Learner)| match taken {
        None => Place::Over(Box::new(learner)),
        Some::<(Directory, _)>((mut directory, from)) => {
            directory.set_settings(one.recorded(ground.commit.as_ref()).file());
            let recipe = Recipe { activations: activations.clone(), ..one.settings.recipe() };
            let entry =
                Entry { name: Some(one.name.clone()), from, ..Entry::new(recipe, directory, learner) };
            Place::Run(Box::new(entry))
        }
    };
    let places = named.iter().zip(taken).zip(learners).map(place).collect();
    home.set_settings(Settings { model_commit: ground.commit.clone(), ..s.clone() }.file());
    home.save(Some(&[]), &[], None, &[])?; // from now on it says what there is to go on with
    let (stop, until) = (Some(going.stop), going.until);
    let around = Around { mode, stop, until, home: s.out.clone(), ..Around::default() };
    let outcomes = train_mixed(places, &*read.0, &read.1, around)?;
    let ended = named.iter().zip(outcomes);
    let ended: Vec<Ended> = ended.filter_map(|(one, o)| Some((Some(one.name.clone()), o?))).collect();
    home.save(None, &[report(&ended)?], None, &[])?;
    Ok(ended)
}

/// A learner for each of them.
fn learners(named: &[Named], word: &'static str, backbone: Backbone) -> Result<Vec<Learner>> {
    let mut grafts = vec![];
    for one in named {
        let within = |e: Error| e.within(word, &one.name);
        let task = one.task().map_err(within)?;
        grafts.push((graft(&one.settings, &backbone, &*task).map_err(within)?, task));
    }
    let mut learners = backbone.learners(grafts)?;
    named.iter().zip(&mut learners).for_each(|(one, l)| l.set_compat(one.settings.compat.into()));
    Ok(learners)
}

/// The names of those that have nothing to be evaluated on.
pub fn not_evaluated(named: &[Named], eval: &[Option<Encoded>]) -> Vec<String> {
    let missing = named.iter().zip(eval).filter(|(_, eval)| eval.is_none());
    missing.map(|(one, _)| format!("`{}`", one.name)).collect()
}
