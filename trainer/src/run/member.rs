//! One run among those that go over the same batches: where it stands, what it saves, what it
//! leaves.
use super::{
    aim::Aim,
    directory::{Directory, File, Writer},
    evaluate::Found,
    log::{Taken, every},
    recipe::Recipe,
    source::Source,
    state::{self, Saved, State},
    step::{Step, Stepping, Trainer},
    written::Written,
};
use crate::{
    Error, Result,
    learner::{Learner, Rehearsal},
    reports::{
        architecture::Architecture,
        history::Evaluation,
        left::REPORT,
        metrics::Metrics,
        process::peak_rss_bytes,
        profile::{Recorded, Recording},
        report::{Epoch, Report},
        results::Standing,
    },
    text::batch::BatchSize,
};
use std::{collections::BTreeSet, time::Instant};

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
    /// Files that are saved beside what was learned.
    pub beside: Vec<File>,
    /// Where it goes on, if it is not new.
    pub from: Option<Saved>,
}

impl Entry {
    /// A new run by itself.
    pub fn new(recipe: Recipe, directory: Directory, learner: Learner) -> Entry {
        Entry { name: None, recipe, directory, learner, beside: vec![], from: None }
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
    beside: Vec<File>,
    trainer: Trainer,
    pub state: State,
    /// The hash of what it learns from and is evaluated on.
    data: String,
    /// What the best is best at.
    aim: Aim,
    /// Optimiser steps in all.
    pub total: u64,
    /// Examples of an epoch, if that is known.
    samples: Option<u64>,
    /// When this process began, and what the run had taken before.
    began: (Instant, f64),
    /// Whether the learner is the best so far, and not saved yet.
    pub unsaved: bool,
    /// Whether it took the last step of the runs that go together.
    stepped: bool,
}

impl Member {
    /// A run of so many optimiser steps in all, on data with a hash, of which an epoch has so many
    /// examples if that is known; some of its parts are evaluated.
    pub fn new(
        entry: Entry,
        total: u64,
        (data, samples): (&str, Option<u64>),
        is_evaluated: impl Fn(usize) -> bool,
    ) -> Result<Member> {
        let Entry { name, recipe, directory, mut learner, beside, from } = entry;
        let again = learner.rehearsal().into_iter().flat_map(Rehearsal::examples).map(Source::hash);
        let data = &std::iter::once(data.to_string()).chain(again).collect::<Vec<_>>().join(" ");
        let aim = Aim::new(recipe.metric.as_deref(), learner.parts(), is_evaluated)?;
        learner.check_adapter_drop(recipe.adapter_drop)?;
        recipe.check_setup(learner.setup())?;
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
            beside,
            trainer,
            state,
            data,
            aim,
            total,
            samples,
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
    /// The rate of its schedule behind so many steps.
    fn rate(&self, steps: u64) -> f64 {
        self.recipe.lr * self.recipe.rates(self.total).factor(steps)
    }
    /// What takes its next step.
    pub fn stepping(&mut self) -> Stepping<'_> {
        let lr = self.rate(self.steps());
        Stepping { trainer: &mut self.trainer, learner: &mut self.learner, lr }
    }
    /// A step is taken.
    pub fn took(&mut self, done: Step, taken: Taken) {
        let state = &mut self.state;
        state.epoch.loss += done.loss * done.labels as f64;
        state.epoch.tokens += taken.tokens;
        state.epoch.seconds += taken.seconds;
        state.seen += done.labels;
        state.log.took(&done, &taken);
        let step = self.steps();
        if step == 1 || step.is_multiple_of(every(self.recipe.log_every, self.total)) || step == self.total {
            let (epoch, rate) = (self.progress(), self.rate(step - 1));
            self.state.log.note(step, epoch, done.norm, rate);
        }
        self.passed(true);
    }
    /// Epochs that are over, and the share of the one under way.
    fn progress(&self) -> f64 {
        self.state.log.epoch(self.samples)
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
    /// What was found of each of its parts, as one.
    fn together(&self, found: Vec<Option<Found>>) -> Option<Found> {
        let parts = self.learner.parts();
        if parts.len() == 1 {
            return found.into_iter().next()?;
        }
        let (mut batches, mut seconds, mut all) = (0, 0.0, vec![]);
        for one in found {
            batches += one.as_ref().map_or(0, |found| found.batches);
            seconds = one.as_ref().map_or(seconds, |found| found.seconds.max(seconds));
            all.push(one.map(|found| found.metrics));
        }
        Some(Found { metrics: self.aim.all(parts, all)?, batches, seconds, ..Found::default() })
    }
    /// Notes an evaluation: what was found of each of its parts.
    pub fn judge(&mut self, found: Vec<Option<Found>>) -> Result<()> {
        let (step, epoch) = (self.steps(), self.progress());
        let Some(found) = self.together(found) else { return Ok(()) };
        let scores = found.metrics.scores.clone();
        if Aim::has_diverged(self.learner.parts(), &scores) {
            return Err(Error::NotFinite { step, what: "the held-out loss".into() });
        }
        let better = |best: &Metrics| self.aim.is_better(&scores, &best.scores);
        let is_best = self.state.best.as_ref().is_none_or(better);
        let state = &mut self.state;
        state.evaluated = step;
        state.epoch.metrics = Some(scores);
        state.log.evaluated(step, epoch, &found, is_best);
        if is_best {
            (state.best, state.worse) = (Some(found.metrics), 0);
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
        state.log.end_epoch(self.samples);
        let line = line(self.name.as_deref(), number, &epoch, &self.aim);
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
        let mut files = self.learner.files()?;
        files.extend(self.beside.iter().cloned());
        Ok(Some(files))
    }
    /// Where the run stands, for whatever reads logs of transformers.
    fn standing(&self) -> Standing {
        let State { log, epochs, epoch, .. } = &self.state;
        let score = |(step, e): &(u64, Evaluation)| (*step, self.aim.value(&e.scores), e.clone());
        Standing {
            step: self.steps(),
            total: self.total,
            epoch: self.progress(),
            epochs: self.recipe.epochs,
            examples: log.examples,
            samples: self.samples.or(log.of_epoch()),
            tokens: epochs.iter().chain([epoch]).map(|e| e.tokens).sum(),
            computing: computing(&self.learner),
            loss: log.loss(self.steps()),
            seconds: self.seconds(),
            best: log.best.as_ref().map(score),
            log_every: every(self.recipe.log_every, self.total),
            eval_every: self.recipe.eval_every,
            save_every: self.recipe.checkpoint_every,
            batch: if let BatchSize::Examples(n) = self.recipe.batch { Some(n) } else { None },
            directory: self.directory.path().to_string_lossy().into_owned(),
        }
    }
    /// Saves where the run stands, and what it has learned. Where reports cannot be written it is
    /// saved without them; what is wrong with them is returned.
    pub fn save(&mut self) -> Result<Option<Error>> {
        self.state.seconds = self.seconds();
        let learned = self.learned()?;
        let mut reports = vec![self.standing().state(&self.state.log.history, false)];
        let events = self.recipe.reports.events.then(|| self.state.log.events()).flatten();
        let before = self.state.log.clone();
        if let Some((log, file)) = events {
            self.state.log = log;
            reports.push(file);
        }
        let wrong = match self.save_with(learned.as_deref(), &reports) {
            Ok(()) => None,
            Err(wrong) => {
                self.state.log = before;
                self.save_with(learned.as_deref(), &[])?;
                Some(wrong)
            }
        };
        self.unsaved = false;
        Ok(wrong)
    }
    fn save_with(&mut self, learned: Option<&[File]>, reports: &[File]) -> Result<()> {
        let write: Writer<'_> =
            &|to: &mut dyn std::io::Write| self.state.write(to, &self.learner, &self.trainer, &self.data);
        self.directory.save(learned, reports, Some((state::FILE, write)), &[])
    }
    /// Seconds of the run, whatever process they were in.
    fn seconds(&self) -> f64 {
        let (began, before) = self.began;
        before + began.elapsed().as_secs_f64()
    }
    /// Saves the rest, with a report; `peak` are the most bytes that were held. Where the other
    /// reports cannot be written it is saved without them; what is wrong with them is returned.
    pub fn finish(mut self, recording: Option<Recording>, peak: u64) -> Result<(Outcome, Option<Error>)> {
        let (train_seconds, learned, standing) = (self.seconds(), self.learned()?, self.standing());
        let recorded = recording.and_then(|r| r.end(self.trainer.steps()));
        let size = self.learner.size();
        let tasks: BTreeSet<&str> = self.learner.parts().iter().map(|part| part.task().name()).collect();
        let State { epochs, best, log, .. } = self.state;
        let (tokens, seconds) = epochs.iter().fold((0, 0.0), |(t, s), e| (t + e.tokens, s + e.seconds));
        let out = self.directory.path().to_path_buf();
        let report = Report {
            task: Vec::from_iter(tasks).join(", "),
            metrics: best,
            epochs,
            train_seconds,
            tokens_per_second: if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 },
            peak_rss_bytes: peak_rss_bytes(),
            ledger_peak_bytes: peak,
            trainable_parameters: size.trainable as u64,
            total_parameters: size.total as u64,
            out: out.clone(),
            profile: recorded.as_ref().map(|r| r.summary.clone()),
        };
        let json = serde_json::to_vec_pretty(&report).map_err(|e| Error::file(&out, e.to_string()))?;
        let json = (REPORT.to_string(), json);
        let learned_now = learned.iter().flatten().map(|(name, _)| name.as_str());
        let written = Written {
            learner: &self.learner,
            learned: learned_now.chain(self.directory.names()).collect(),
            report: &report,
            standing: &standing,
            log: &log,
            settings: &self.directory.settings().1,
            reports: self.recipe.reports,
        };
        let all: Vec<File> = written.files(&out).into_iter().chain([json.clone()]).collect();
        let over = &[state::FILE];
        let wrong = match self.directory.save(learned.as_deref(), &all, None, over) {
            Ok(()) => None,
            Err(wrong) => {
                self.directory.save(learned.as_deref(), &[json], None, over)?;
                Some(wrong)
            }
        };
        Ok((Outcome { report, learner: self.learner, recorded }, wrong))
    }
}

/// Numbers of a model that are no embeddings, about.
fn computing(learner: &Learner) -> u64 {
    let drawn = Architecture::of(learner.backbone().model(), &[]);
    drawn.sections.iter().filter(|s| s.name != "embeddings").map(|s| s.size.parameters as u64).sum()
}

fn line(name: Option<&str>, number: u64, e: &Epoch, aim: &Aim) -> String {
    let scores = e.metrics.as_ref().map(|scores| {
        let loss = scores.get("loss").map(|loss| format!(", held-out loss {loss:.4}")).unwrap_or_default();
        aim.show(scores).into_iter().fold(loss, |line, shown| line + ", " + &shown)
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
