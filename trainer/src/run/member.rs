//! One run among those that go over the same batches: where it stands, what it saves, what it
//! leaves.
use super::{
    directory::{Directory, File},
    recipe::Recipe,
    state::{self, Saved, State},
    step::{Step, Stepping, Trainer},
};
use crate::{
    Error, Result,
    learner::Learner,
    reports::{
        metrics::{Metric, Metrics},
        process::peak_rss_bytes,
        profile::{Recorded, Recording},
        report::{Epoch, Report},
    },
};
use std::time::Instant;

/// A run that is about to begin, or to go on.
pub struct Entry {
    /// Its name among others, if there are some.
    pub name: Option<String>,
    /// How it goes.
    pub recipe: Recipe,
    /// Where it is saved.
    pub directory: Directory,
    /// Who learns.
    pub learner: Learner,
    /// Where it goes on, if it is not new.
    pub from: Option<Saved>,
}

impl Entry {
    /// A new run by itself.
    pub fn new(recipe: Recipe, directory: Directory, learner: Learner) -> Entry {
        Entry { name: None, recipe, directory, learner, from: None }
    }
}

/// What a run did, and what it leaves.
pub struct Outcome {
    /// The numbers.
    pub report: Report,
    /// The learner after the last step; where an earlier one was better, that one is saved.
    pub learner: Learner,
    /// What the device recorded, if it did.
    pub recorded: Option<Recorded>,
}

/// A run under way.
pub(super) struct Member {
    pub name: Option<String>,
    pub recipe: Recipe,
    directory: Directory,
    pub learner: Learner,
    trainer: Trainer,
    pub state: State,
    /// The hash of what it learns from and is evaluated on.
    data: String,
    /// What the best is best at.
    metric: Metric,
    /// Optimiser steps in all.
    pub total: u64,
    /// When this process began, and what the run had taken before.
    began: (Instant, f64),
    /// Whether the learner is the best so far, and not saved yet.
    pub unsaved: bool,
    /// Whether it took the last step of the runs that go together.
    stepped: bool,
}

impl Member {
    /// A run of so many optimiser steps in all, on data with a hash.
    pub fn new(entry: Entry, total: u64, data: &str) -> Result<Member> {
        let Entry { name, recipe, directory, mut learner, from } = entry;
        let metric = metric(&recipe, &learner)?;
        learner.check_adapter_drop(recipe.adapter_drop)?;
        let trainer = Trainer::new(recipe.optimiser(), recipe.seed).with_adapter_drop(recipe.adapter_drop);
        let mut trainer = trainer.with_activations(recipe.activations.clone());
        let state = match from {
            Some(saved) => saved.restore(&mut learner, &mut trainer, data)?,
            None => State::default(),
        };
        let (began, data) = ((Instant::now(), state.seconds), data.to_string());
        let (unsaved, stepped) = (false, false);
        Ok(Member {
            name,
            recipe,
            directory,
            learner,
            trainer,
            state,
            data,
            metric,
            total,
            began,
            unsaved,
            stepped,
        })
    }
    pub fn steps(&self) -> u64 {
        self.trainer.steps()
    }
    /// Optimiser steps of the runs that go together which are behind it.
    pub fn rounds(&self) -> u64 {
        self.state.rounds.max(self.steps())
    }
    pub fn is_over(&self) -> bool {
        self.state.stopped || self.steps() >= self.total
    }
    /// The epoch under way, from 0.
    pub fn epoch(&self) -> u64 {
        self.state.epochs.len() as u64
    }
    /// What takes its next step, at the rate of its schedule.
    pub fn stepping(&mut self) -> Stepping<'_> {
        let lr = self.recipe.lr * self.recipe.rates(self.total).factor(self.trainer.steps());
        Stepping { trainer: &mut self.trainer, learner: &mut self.learner, lr }
    }
    /// A step is taken.
    pub fn took(&mut self, done: Step, tokens: usize, seconds: f64) {
        let state = &mut self.state;
        state.epoch.loss += done.loss * done.labels as f64;
        state.epoch.tokens += tokens as u64;
        state.epoch.seconds += seconds;
        state.seen += done.labels;
        self.passed(true);
    }
    /// A step is over, which it took or which had nothing for it.
    pub fn passed(&mut self, took: bool) {
        self.state.taken += 1;
        self.state.rounds += 1;
        self.stepped = took;
    }
    /// Whether something that is done every so many steps is due.
    pub fn is_due(&self, every: Option<u64>) -> bool {
        self.stepped && every.is_some_and(|n| self.steps().is_multiple_of(n))
    }
    /// Whether an evaluation is due at the end of an epoch.
    pub fn is_unchecked(&self) -> bool {
        self.state.evaluated != self.steps() && (self.recipe.eval_every.is_none() || self.is_over())
    }
    /// Notes an evaluation.
    pub fn judge(&mut self, metrics: Metrics) -> Result<()> {
        let (step, scores) = (self.steps(), metrics.scores.clone());
        if scores.get("loss").is_some_and(|loss| !loss.is_finite()) {
            return Err(Error::NotFinite { step, what: "the held-out loss".into() });
        }
        let of = |m: &Metrics| m.scores.get(self.metric.name).unwrap_or(f64::NAN);
        let better = |best: &Metrics| self.metric.is_better(of(&metrics), of(best));
        let state = &mut self.state;
        state.evaluated = step;
        state.epoch.metrics = Some(scores);
        if state.best.as_ref().is_none_or(better) {
            (state.best, state.worse) = (Some(metrics), 0);
            self.unsaved = true;
        } else {
            state.worse += 1;
        }
        state.stopped |= self.recipe.patience.is_some_and(|p| state.worse >= p);
        Ok(())
    }
    /// Ends the epoch under way; a line that says what it was.
    pub fn end_epoch(&mut self) -> String {
        let number = self.epoch() + 1;
        let state = &mut self.state;
        let mut epoch = std::mem::take(&mut state.epoch);
        epoch.loss /= std::mem::take(&mut state.seen).max(1) as f64;
        state.taken = 0;
        let line = line(self.name.as_deref(), number, &epoch, &self.metric);
        state.epochs.push(epoch);
        line
    }
    /// What is to be saved of the learner: all of it where it is the best, or where there is no
    /// telling yet.
    fn learned(&self) -> Result<Option<Vec<File>>> {
        if !self.unsaved && self.state.best.is_some() {
            return Ok(None);
        }
        if let Some(name) = self.learner.not_finite()? {
            return Err(Error::NotFinite { step: self.steps(), what: format!("`{name}`") });
        }
        self.learner.files().map(Some)
    }
    /// Saves where the run stands, and what it has learned.
    pub fn save(&mut self) -> Result<()> {
        self.state.seconds = self.seconds();
        let learned = self.learned()?;
        let write =
            |to: &mut dyn std::io::Write| self.state.write(to, &self.learner, &self.trainer, &self.data);
        self.directory.save(learned.as_deref(), &[], Some((state::FILE, &write)), &[])?;
        self.unsaved = false;
        Ok(())
    }
    /// Seconds of the run, whatever process they were in.
    fn seconds(&self) -> f64 {
        let (began, before) = self.began;
        before + began.elapsed().as_secs_f64()
    }
    /// Saves the rest, with a report.
    pub fn finish(mut self, recording: Option<Recording>) -> Result<Outcome> {
        let (train_seconds, learned) = (self.seconds(), self.learned()?);
        let recorded = recording.and_then(|r| r.end(self.trainer.steps()));
        let size = self.learner.size();
        let State { epochs, best, .. } = self.state;
        let (tokens, seconds) = epochs.iter().fold((0, 0.0), |(t, s), e| (t + e.tokens, s + e.seconds));
        let out = self.directory.path().to_path_buf();
        let report = Report {
            task: self.learner.task().name().into(),
            metrics: best,
            epochs,
            train_seconds,
            tokens_per_second: if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 },
            peak_rss_bytes: peak_rss_bytes(),
            ledger_peak_bytes: self.learner.backbone().device().ledger().usage().peak_total() as u64,
            trainable_parameters: size.trainable as u64,
            total_parameters: size.total as u64,
            out: out.clone(),
            profile: recorded.as_ref().map(|r| r.summary.clone()),
        };
        let json =
            serde_json::to_vec_pretty(&report).map_err(|e| Error::File { path: out, why: e.to_string() })?;
        self.directory.save(learned.as_deref(), &[("report.json".into(), json)], None, &[state::FILE])?;
        Ok(Outcome { report, learner: self.learner, recorded })
    }
}

/// What the best checkpoint is best at: what the recipe says, which must be a score of the task.
fn metric(recipe: &Recipe, learner: &Learner) -> Result<Metric> {
    let all = learner.task().metrics();
    let Some(name) = &recipe.metric else {
        return all.first().copied().ok_or_else(|| Error::Model("the task computes no score".into()));
    };
    all.iter().find(|m| m.name == name.as_str()).copied().ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|m| m.name).collect();
        let why = format!("{} computes {}", learner.task().name(), names.join(", "));
        Error::Option { option: "metric", value: format!("`{name}`"), why }
    })
}

fn line(name: Option<&str>, number: u64, e: &Epoch, metric: &Metric) -> String {
    let scores = e.metrics.as_ref().map(|scores| {
        let loss = scores.get("loss").map(|loss| format!(", held-out loss {loss:.4}")).unwrap_or_default();
        let other = Some(metric).filter(|m| m.name != "loss").and_then(|m| Some(m.show(scores.get(m.name)?)));
        loss + &other.map(|m| format!(", {m}")).unwrap_or_default()
    });
    format!(
        "{}epoch {number}: loss {:.4}{} ({:.1} s, {:.0} tokens/s)",
        name.map(|name| format!("{name}: ")).unwrap_or_default(),
        e.loss,
        scores.unwrap_or_default(),
        e.seconds,
        e.tokens as f64 / e.seconds.max(1e-9)
    )
}
