//! A run of training, from batches to a saved adapter and a report.
use super::{
    directory::{Directory, File},
    evaluate::{Encoded, evaluate},
    recipe::Recipe,
    source::{Source, steps},
    state::{self, Saved, State, hash},
    step::Trainer,
};
use crate::{
    Error, Result,
    learner::Learner,
    reports::{
        metrics::{Metric, Metrics},
        process::peak_rss_bytes,
        profile::{Recorded, Recording},
        progress::{Mode, Progress},
        report::{Epoch, Report},
    },
    text::batch::Batch,
};
use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Instant,
};

/// What a run did, and what it leaves.
pub struct Outcome {
    /// The numbers.
    pub report: Report,
    /// The learner after the last step; where an earlier one was better, that one is saved.
    pub learner: Learner,
    /// What the device recorded, if it did.
    pub recorded: Option<Recorded>,
}

/// What a run has to do with the world around it.
#[derive(Default)]
pub struct Around<'a> {
    /// What records the device, until the last step.
    pub recording: Option<Recording>,
    /// How progress is shown.
    pub mode: Mode,
    /// Once it is true the run ends after the step under way, and is saved to go on from there.
    pub stop: Option<&'a AtomicBool>,
    /// Where the run goes on, if it is not new.
    pub from: Option<Saved>,
}

/// A run under way.
struct Run<'a> {
    recipe: &'a Recipe,
    directory: Directory,
    learner: Learner,
    trainer: Trainer,
    state: State,
    source: &'a dyn Source,
    eval: Option<&'a Encoded>,
    /// The hash of both.
    data: String,
    /// What the best is best at.
    metric: Metric,
    /// Optimiser steps in all.
    total: u64,
    progress: Progress,
    stop: Option<&'a AtomicBool>,
    /// When this process began, and what the run had taken before.
    began: (Instant, f64),
    /// Whether the learner is the best so far, and not saved yet.
    unsaved: bool,
    recording: Option<Recording>,
}

/// Trains by a recipe, evaluates on `eval` if there is some, and saves in `directory` the best, or the last if there is no
/// telling. At the end of each epoch, and every so many steps if the recipe says so, the state of the run is saved with it.
pub fn train(
    recipe: &Recipe,
    directory: Directory,
    mut learner: Learner,
    source: &dyn Source,
    eval: Option<&Encoded>,
    around: Around<'_>,
) -> Result<Outcome> {
    let Around { recording, mode, stop, from } = around;
    let total = recipe.steps(source)?;
    let metric = metric(recipe, &learner)?;
    learner.check_adapter_drop(recipe.adapter_drop)?;
    let trainer = Trainer::new(recipe.optimiser(), recipe.seed).with_adapter_drop(recipe.adapter_drop);
    let mut trainer = trainer.with_activations(recipe.activations.clone());
    let data = hash(source, eval);
    let state = match from {
        Some(saved) => saved.restore(&mut learner, &mut trainer, &data)?,
        None => State::default(),
    };
    let progress = Progress::new(mode, "train", total).from(trainer.steps());
    let (began, unsaved) = ((Instant::now(), state.seconds), false);
    Run {
        recipe,
        directory,
        learner,
        trainer,
        state,
        source,
        eval,
        data,
        metric,
        total,
        progress,
        stop,
        began,
        unsaved,
        recording,
    }
    .go()
}

impl Run<'_> {
    fn go(mut self) -> Result<Outcome> {
        while !self.is_over() {
            self.epoch()?;
        }
        self.finish()
    }
    fn is_over(&self) -> bool {
        self.state.stopped || self.trainer.steps() >= self.total
    }
    /// The rest of the epoch under way.
    fn epoch(&mut self) -> Result<()> {
        let (recipe, number) = (self.recipe, self.state.epochs.len() as u64);
        let rates = recipe.rates(self.total);
        let order = recipe.order(number);
        let source = self.source;
        let taken = self.state.taken;
        for (n, step) in steps(source.batches(recipe.batch, order), recipe.accumulation).enumerate() {
            let step = step?;
            if n < taken {
                continue; // before the run was stopped
            }
            let began = Instant::now();
            let lr = recipe.lr * rates.factor(self.trainer.steps());
            let done = self.trainer.step(&mut self.learner, &step, lr)?;
            let tokens: usize = step.iter().map(Batch::tokens).sum();
            let state = &mut self.state;
            state.epoch.loss += done.loss * done.labels as f64;
            state.epoch.tokens += tokens as u64;
            state.epoch.seconds += began.elapsed().as_secs_f64();
            state.seen += done.labels;
            state.taken += 1;
            self.progress.step(Some(done.loss), tokens as u64);
            self.between_steps()?;
            if self.is_over() {
                break;
            }
        }
        if self.state.taken == 0 {
            return Err(Error::Labels("there is nothing to learn from: an epoch has no batch".into()));
        }
        if self.state.evaluated != self.trainer.steps() && (recipe.eval_every.is_none() || self.is_over()) {
            self.check()?;
        }
        if let Some(p) = self.learner.prefix() {
            p.seal()?;
        }
        let state = &mut self.state;
        let mut epoch = std::mem::take(&mut state.epoch);
        epoch.loss /= std::mem::take(&mut state.seen).max(1) as f64;
        state.taken = 0;
        self.progress.line(&line(number + 1, &epoch, &self.metric));
        self.state.epochs.push(epoch);
        if self.is_over() { Ok(()) } else { self.save() }
    }
    /// What is due behind a step: an evaluation, a state that is saved, the end.
    fn between_steps(&mut self) -> Result<()> {
        let steps = self.trainer.steps();
        let due = |every: Option<u64>| every.is_some_and(|n| steps.is_multiple_of(n));
        if due(self.recipe.eval_every) {
            self.check()?;
        }
        let stop = self.stop.is_some_and(|stop| stop.load(Relaxed)) && !self.is_over();
        if due(self.recipe.checkpoint_every) || self.unsaved || stop {
            self.save()?;
        }
        match stop {
            true => {
                Err(Error::Stopped { step: steps, of: self.total, directory: self.directory.path().into() })
            }
            false => Ok(()),
        }
    }
    /// Evaluates.
    fn check(&mut self) -> Result<()> {
        let Some(eval) = self.eval else { return Ok(()) };
        let step = self.trainer.steps();
        self.progress.pause();
        let metrics = evaluate(&self.learner, eval, self.recipe.eval_batch, Mode::Quiet)?.metrics;
        self.progress.resume();
        let scores = metrics.scores.clone();
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
    /// What is to be saved of the learner: all of it where it is the best, or where there is no telling yet.
    fn learned(&self) -> Result<Option<Vec<File>>> {
        if !self.unsaved && self.state.best.is_some() {
            return Ok(None);
        }
        if let Some(name) = self.learner.not_finite()? {
            return Err(Error::NotFinite { step: self.trainer.steps(), what: format!("`{name}`") });
        }
        self.learner.files().map(Some)
    }
    /// Saves where the run stands, and what it has learned.
    fn save(&mut self) -> Result<()> {
        self.progress.pause();
        self.state.seconds = self.seconds();
        let learned = self.learned()?;
        let write =
            |to: &mut dyn std::io::Write| self.state.write(to, &self.learner, &self.trainer, &self.data);
        self.directory.save(learned.as_deref(), &[], Some((state::FILE, &write)), &[])?;
        self.unsaved = false;
        self.progress.resume();
        Ok(())
    }
    /// Seconds of the run, whatever process they were in.
    fn seconds(&self) -> f64 {
        let (began, before) = self.began;
        before + began.elapsed().as_secs_f64()
    }
    fn finish(mut self) -> Result<Outcome> {
        let (train_seconds, learned) = (self.seconds(), self.learned()?);
        let recorded = self.recording.and_then(|r| r.end(self.trainer.steps()));
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
        self.progress.finish();
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

fn line(number: u64, e: &Epoch, metric: &Metric) -> String {
    let scores = e.metrics.as_ref().map(|scores| {
        let loss = scores.get("loss").map(|loss| format!(", held-out loss {loss:.4}")).unwrap_or_default();
        let other = Some(metric).filter(|m| m.name != "loss").and_then(|m| Some(m.show(scores.get(m.name)?)));
        loss + &other.map(|m| format!(", {m}")).unwrap_or_default()
    });
    format!(
        "epoch {number}: loss {:.4}{} ({:.1} s, {:.0} tokens/s)",
        e.loss,
        scores.unwrap_or_default(),
        e.seconds,
        e.tokens as f64 / e.seconds.max(1e-9)
    )
}
