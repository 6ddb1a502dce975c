//! A run of training, from examples to a saved adapter and a report.
use super::{
    evaluate::{Encoded, evaluate},
    recipe::Recipe,
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
    text::{
        batch::{Batch, Batches},
        examples::Examples,
    },
};
use engraft_engine::output;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// What a run did, and what it leaves.
pub struct Outcome {
    /// The numbers.
    pub report: Report,
    /// The learner after the last step; where an earlier one was better, that one is saved.
    pub learner: Learner,
    /// What the device recorded, if it did.
    pub recorded: Option<Recorded>,
}

/// Where a run stands, besides its weights and its [`Trainer`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The epochs that are over.
    pub epochs: Vec<Epoch>,
    /// The epoch under way.
    pub epoch: Epoch,
    /// Optimiser steps of it that are taken.
    pub taken: usize,
    /// Labels of it that were seen.
    pub seen: usize,
    /// The best evaluation, if there was one.
    pub best: Option<Metrics>,
    /// Evaluations since then.
    pub worse: u64,
    /// The optimiser step after which was last evaluated.
    pub evaluated: u64,
    /// Whether something is saved.
    pub saved: bool,
    /// Whether the run is given up before its last step.
    pub stopped: bool,
}

/// A run under way.
struct Run<'a> {
    recipe: &'a Recipe,
    learner: Learner,
    trainer: Trainer,
    state: State,
    examples: &'a Examples,
    eval: Option<&'a Encoded>,
    /// What the best is best at.
    metric: Metric,
    /// Optimiser steps in all.
    total: u64,
    progress: Progress,
    /// Seconds of evaluation so far.
    eval_seconds: f64,
    recording: Option<Recording>,
}

/// Trains by a recipe, evaluates on `eval` if there is some, and saves the best, or the last if there is no telling. A device
/// that is `recording` does so until the last step.
pub fn train(
    recipe: &Recipe,
    learner: Learner,
    examples: &Examples,
    eval: Option<&Encoded>,
    recording: Option<Recording>,
    mode: Mode,
) -> Result<Outcome> {
    let total = recipe.steps(examples);
    let metric = metric(recipe, &learner)?;
    let trainer = Trainer::new(recipe.optimiser(), recipe.seed).with_activations(recipe.activations.clone());
    let progress = Progress::new(mode, "train", total);
    let state = State::default();
    let eval_seconds = 0.0;
    Run { recipe, learner, trainer, state, examples, eval, metric, total, progress, eval_seconds, recording }
        .go()
}

impl Run<'_> {
    fn go(mut self) -> Result<Outcome> {
        let start = Instant::now();
        while !self.is_over() {
            self.epoch()?;
        }
        if !self.state.saved {
            self.save()?;
        }
        self.finish(start.elapsed().as_secs_f64())
    }
    fn is_over(&self) -> bool {
        self.state.stopped || self.trainer.steps() >= self.total
    }
    /// The rest of the epoch under way.
    fn epoch(&mut self) -> Result<()> {
        let (recipe, number) = (self.recipe, self.state.epochs.len() as u64);
        let rates = recipe.rates(self.total);
        let order = recipe.order(number);
        let steps = Batches::new(self.examples, recipe.batch, order).steps(recipe.accumulation);
        let (began, before) = (Instant::now(), self.eval_seconds);
        for step in steps.skip(self.state.taken) {
            if self.is_over() {
                break;
            }
            let lr = recipe.lr * rates.factor(self.trainer.steps());
            let done = self.trainer.step(&mut self.learner, &step, lr)?;
            let tokens: usize = step.iter().map(Batch::tokens).sum();
            let state = &mut self.state;
            state.epoch.loss += done.loss * done.labels as f64;
            state.epoch.tokens += tokens as u64;
            state.seen += done.labels;
            state.taken += 1;
            self.progress.step(Some(done.loss), tokens as u64);
            if recipe.eval_every.is_some_and(|n| self.trainer.steps().is_multiple_of(n)) {
                self.check()?;
            }
        }
        self.state.epoch.loss /= self.state.seen.max(1) as f64;
        self.state.epoch.seconds += began.elapsed().as_secs_f64() - (self.eval_seconds - before);
        if self.state.evaluated != self.trainer.steps() && (recipe.eval_every.is_none() || self.is_over()) {
            self.check()?;
        }
        if let Some(p) = self.learner.prefix() {
            p.seal()?;
        }
        let state = &mut self.state;
        (state.taken, state.seen) = (0, 0);
        let epoch = std::mem::take(&mut state.epoch);
        self.progress.line(&line(number + 1, &epoch, &self.metric));
        state.epochs.push(epoch);
        Ok(())
    }
    /// Evaluates, and saves if it is the best so far.
    fn check(&mut self) -> Result<()> {
        let Some(eval) = self.eval else { return Ok(()) };
        let (step, start) = (self.trainer.steps(), Instant::now());
        self.state.evaluated = step;
        self.progress.pause();
        let metrics = evaluate(&self.learner, eval, self.recipe.eval_batch, Mode::Quiet)?.metrics;
        let scores = metrics.scores.clone();
        if scores.get("loss").is_some_and(|loss| !loss.is_finite()) {
            return Err(Error::NotFinite { step, what: "the held-out loss".into() });
        }
        let of = |m: &Metrics| m.scores.get(self.metric.name).unwrap_or(f64::NAN);
        let better = |best: &Metrics| self.metric.is_better(of(&metrics), of(best));
        if self.state.best.as_ref().is_none_or(better) {
            self.state.best = Some(metrics);
            self.state.worse = 0;
            self.save()?;
        } else {
            self.state.worse += 1;
        }
        self.state.epoch.metrics = Some(scores);
        self.state.stopped |= self.recipe.patience.is_some_and(|p| self.state.worse >= p);
        self.eval_seconds += start.elapsed().as_secs_f64();
        self.progress.resume();
        Ok(())
    }
    fn save(&mut self) -> Result<()> {
        if let Some(name) = self.learner.not_finite()? {
            return Err(Error::NotFinite { step: self.trainer.steps(), what: format!("`{name}`") });
        }
        self.learner.save_with(&self.recipe.out, self.recipe.beside.clone())?;
        self.state.saved = true;
        Ok(())
    }
    fn finish(self, train_seconds: f64) -> Result<Outcome> {
        let recorded = self.recording.and_then(|r| r.end(self.trainer.steps()));
        let size = self.learner.size();
        let State { epochs, best, .. } = self.state;
        let (tokens, seconds) = epochs.iter().fold((0, 0.0), |(t, s), e| (t + e.tokens, s + e.seconds));
        let out = self.recipe.out.clone();
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
        let json = serde_json::to_vec_pretty(&report)
            .map_err(|e| Error::File { path: out.clone(), why: e.to_string() })?;
        output::write_atomically(out.join("report.json"), &json)?;
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
