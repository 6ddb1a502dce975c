//! One task after the other: each with an adapter of its own, or all of them with one that goes on
//! from task to task; and how good what was learned before is behind each of them.
use super::common::Common;
use super::options::{Head, Options, Settings};
use super::print::tell;
use super::replay::SHARE;
use super::runs::{Going, is_done, is_same_run, report_file, report_in, take, train};
use super::setup::{graft, max_length, tokenizer};
use super::several::Named;
use super::task_runs::{SHARED, held_out, learned, named};
use engraft::{
    Error, Result,
    learner::{Backbone, Learner},
    reports::{heat_map::drawing, metrics::Metric, progress::Mode, transfer::Transfer},
    run::{
        evaluate::{Encoded, evaluate},
        fisher::fisher,
    },
    text::tokenizer::Tokenizer,
};
use engraft_engine::output;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// Examples from which the Fisher information is estimated unless something is said.
const FISHER: usize = 256;
/// The picture of the scores.
pub const PICTURE: &str = "transfer.svg";

/// What learning one task after the other came to.
pub struct Continual {
    /// The scores.
    pub transfer: Transfer,
    /// All of it, with the report of each run.
    pub report: Value,
}

/// A task in its place.
struct Stage {
    named: Named,
    /// The settings of its run.
    settings: Settings,
    metric: Metric,
    eval: Encoded,
}

/// Trains the tasks in the order that the settings say.
pub fn train_continually(s: &Settings, order: &[String], mode: Mode, going: Going<'_>) -> Result<Continual> {
    let (mut home, _) = take(s, false)?;
    let mut common = Common::default();
    let backbone = common.backbone(s)?;
    let tokens = tokenizer(&backbone, max_length(s.max_length, &backbone), s)?;
    let mut stages = stages(s, order, &tokens)?;
    let fresh = stages.iter().map(|stage| {
        let task = stage.named.task()?;
        let learner = backbone.clone().learner(graft(&stage.settings, &backbone, &*task)?, task)?;
        stage.score(&learner, s).map(Some)
    });
    let before: Vec<Option<f64>> = fresh.collect::<Result<_>>()?;
    if s.shared {
        go_on_from_each_other(&mut stages, s)?;
    }
    let (mut matrix, mut reports) = (vec![], Map::new());
    for (i, stage) in stages.iter().enumerate() {
        if mode != Mode::Quiet {
            tell(&format!("{} ({} of {})", stage.named.name, i + 1, stages.len()));
        }
        let within = |e: Error| e.within("task", &stage.named.name);
        let goes_on = going.resume && is_same_run(&stage.settings);
        if !(goes_on && is_done(&stage.settings)) {
            let going = Going { resume: goes_on, ..going };
            for (_, outcome) in train(&stage.settings, mode, going, &mut common).map_err(within)? {
                outcome.map_err(within)?;
            }
        }
        if s.ewc.is_some_and(|strength| strength > 0.0) && i + 1 < stages.len() {
            stage.weigh(&backbone, s, &tokens).map_err(within)?;
        }
        reports.insert(stage.named.name.clone(), report_in(&stage.settings.out)?);
        matrix.push(row(&stages, i, &backbone, s)?);
    }
    let tasks = stages.iter().map(|stage| (stage.named.name.clone(), stage.metric)).collect();
    let transfer = Transfer { tasks, before, matrix };
    let mut report = transfer.json();
    report["adapters"] = if s.shared { "shared" } else { "isolated" }.into();
    report["tasks"] = reports.into();
    let mut title =
        String::from(if s.shared { "one adapter for all tasks" } else { "an adapter for each task" });
    if let Some(strength) = s.ewc {
        report["ewc"] = strength.into();
        title += &format!(", EWC {strength}");
    }
    if let Some(examples) = s.replay {
        report["replay"] = json!({"examples": examples, "share": s.replay_share.unwrap_or(SHARE)});
        title += &format!(", replay of {examples}");
    }
    let picture = drawing(&[transfer.heat_map(&title)]).file(PICTURE.as_ref())?;
    home.set_settings(Settings { model_commit: common.commit(), ..s.clone() }.file());
    home.save(Some(&[]), &[report_file(&report, &s.out)?, (PICTURE.into(), picture)], None, &[])?;
    Ok(Continual { transfer, report })
}

/// The tasks in their order.
fn stages(s: &Settings, order: &[String], tokens: &Tokenizer) -> Result<Vec<Stage>> {
    let mut all = named(s)?;
    let place = |name: &String| order.iter().position(|other| other == name);
    all.sort_by_key(|one| place(&one.name));
    let stage = |named: Named| -> Result<Stage> {
        if named.settings.eval.is_none() {
            return Err(Error::Needs { option: "order", needs: "eval" });
        }
        let task = named.task()?;
        let metric = match &named.settings.metric {
            None => task.metrics().first(),
            Some(name) => task.metrics().iter().find(|metric| metric.name == name),
        };
        let metric = *metric.ok_or_else(|| {
            let all: Vec<&str> = task.metrics().iter().map(|metric| metric.name).collect();
            let why = format!("{} computes {}", task.name(), all.join(", "));
            Error::Option { option: "metric", value: named.settings.metric.clone().unwrap_or_default(), why }
        })?;
        let eval = held_out(s, &named, tokens)?;
        let alone =
            Settings { tasks: None, order: None, shared: false, sampling: None, ..named.settings.clone() };
        let name = Some(if s.shared { SHARED.into() } else { named.name.clone() });
        let mut settings = Settings { name, ..alone };
        settings.expand(Mode::detect(s.quiet))?;
        Ok(Stage { named, settings, metric, eval })
    };
    let within = |named: Named| {
        let name = named.name.clone();
        stage(named).map_err(|e| e.within("task", &name))
    };
    all.into_iter().map(within).collect()
}

/// Every task but the first begins with the adapter of the one before, and a head of its own; what was
/// learned before is held and learned again as far as the settings say.
fn go_on_from_each_other(stages: &mut [Stage], s: &Settings) -> Result<()> {
    let ewc = s.ewc.filter(|strength| *strength > 0.0);
    let replay = s.replay.filter(|n| *n > 0 && s.replay_share != Some(0.0));
    for i in 1..stages.len() {
        let before: Vec<PathBuf> = stages[..i].iter().map(|stage| stage.settings.out.clone()).collect();
        let stage = &mut stages[i];
        let own = Options {
            init: before.last().cloned(),
            ewc,
            ewc_from: ewc.map(|_| before.clone()),
            replay,
            replay_share: s.replay_share.filter(|_| replay.is_some()),
            replay_from: replay.map(|_| before),
            head: Some(stage.settings.head.unwrap_or(Head::Hub)),
            task: Some(stage.named.kind.name.into()),
            ..Options::default()
        };
        stage.settings = own.over(stage.settings.to_options()).resolve()?;
    }
    Ok(())
}

/// The scores of all tasks behind one of them.
fn row(stages: &[Stage], i: usize, backbone: &Backbone, s: &Settings) -> Result<Vec<Option<f64>>> {
    let here = &stages[i];
    let one = |(j, stage): (usize, &Stage)| {
        // a task that was learned is answered for by its own head; one to come by the last head, if
        // that has the same labels
        let (adapter, head): (&Path, &Path) = match (s.shared, j <= i) {
            (false, true) => (&stage.settings.out, &stage.settings.out),
            (true, true) => (&here.settings.out, &stage.settings.out),
            (true, false) if stage.is_like(here) => (&here.settings.out, &here.settings.out),
            (_, false) => return Ok(None),
        };
        let task = stage.named.task()?;
        let mut learner = backbone.clone().load_with_head(adapter, head, |_| Ok(task))?;
        learner.set_compat(s.compat.into());
        stage.score(&learner, s).map(Some)
    };
    stages.iter().enumerate().map(one).collect()
}

impl Stage {
    /// Saves how much each weight matters to what was learned.
    fn weigh(&self, backbone: &Backbone, s: &Settings, tokens: &Tokenizer) -> Result<()> {
        let task = self.named.task()?;
        let learner = backbone.clone().load_learner(&self.settings.out, |_| Ok(task))?;
        let examples = learned(s, &self.named, tokens)?;
        let (name, bytes) = fisher(&learner, &examples, s.fisher_examples.unwrap_or(FISHER), s.seed)?;
        Ok(output::write_atomically(self.settings.out.join(name), &bytes)?)
    }
    /// Its score, of somebody who answers.
    fn score(&self, learner: &Learner, s: &Settings) -> Result<f64> {
        let found = evaluate(learner, &self.eval, s.eval_batch_size, Mode::Quiet)?;
        let value = found.metrics.scores.get(self.metric.name).unwrap_or(f64::NAN);
        let (name, metric) = (&self.named.name, self.metric.name);
        let what =
            || Error::Model(format!("the {metric} on `{name}` is no number, so nothing is said of transfer"));
        Some(value).filter(|value| value.is_finite()).ok_or_else(what)
    }
    /// Whether both tell the same classes apart.
    fn is_like(&self, other: &Stage) -> bool {
        (self.named.kind.name, &self.named.labels) == (other.named.kind.name, &other.named.labels)
    }
}
