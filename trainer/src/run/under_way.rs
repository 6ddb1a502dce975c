//! Runs under way, over the same batches: their steps, and what is due between them.
use super::{
    evaluate::{Encoded, evaluate_mixed, evaluate_together},
    log::Taken,
    member::{Member, Outcome},
    mixed::{Seat, size_of_each, step_mixed},
    recipe::Recipe,
    source::{Source, steps},
    step::{Step, step_together},
};
use crate::{
    Error, Result,
    learner::Learner,
    reports::{
        bytes::Bytes,
        profile::Recording,
        progress::{Mode, Progress},
    },
    text::batch::Batch,
};
use std::{
    ops::Range,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Instant,
};

/// What a run has to do with the world around it.
#[derive(Default)]
pub struct Around<'a> {
    /// What records the device, until the last step; only of a single run.
    pub recording: Option<Recording>,
    /// How progress is shown.
    pub mode: Mode,
    /// Once it is true the run ends after the step under way, and is saved to go on from there.
    pub stop: Option<&'a AtomicBool>,
    /// Behind this share of all steps the run is evaluated and ends, in the same way.
    pub until: Option<f64>,
    /// The directory to name to whoever goes on.
    pub home: PathBuf,
}

/// How several runs go over the same batches.
pub(super) enum Way<'a> {
    /// Each learns from all of every batch, and all are evaluated on the same data.
    Alike(Option<&'a Encoded>),
    /// Each learns from its own examples, and is evaluated on data of its own if there is some.
    Mixed {
        eval: &'a [Option<Encoded>],
        /// The numbers of each.
        numbers: Vec<Range<usize>>,
        /// Who answers for the examples of a run that is over, where it left no outcome.
        idle: Vec<Option<Learner>>,
    },
}

/// Runs under way.
pub(super) struct Runs<'a> {
    /// Those that are not over.
    members: Vec<Option<Member>>,
    ended: Vec<Option<Result<Outcome>>>,
    source: &'a dyn Source,
    way: Way<'a>,
    /// How the batches are made, the same for all.
    recipe: Recipe,
    /// Optimiser steps of the longest.
    total: u64,
    progress: Progress,
    around: Around<'a>,
    /// The most bytes that were held at once.
    peak: u64,
}

impl<'a> Runs<'a> {
    pub(super) fn new(
        members: Vec<Option<Member>>,
        (source, way): (&'a dyn Source, Way<'a>),
        recipe: Recipe,
        total: u64,
        around: Around<'a>,
    ) -> Runs<'a> {
        let behind = members.iter().flatten().map(Member::rounds).min().unwrap_or(0);
        let progress = Progress::new(around.mode, "train", total).from(behind);
        let ended = members.iter().map(|_| None).collect();
        Runs { members, ended, source, way, recipe, total, progress, around, peak: 0 }
    }
}

impl Runs<'_> {
    pub(super) fn go(mut self) -> Result<Vec<Option<Result<Outcome>>>> {
        // what was stopped behind its last step has its last epoch to end
        self.end_epoch(&self.those(|m| m.is_over() && m.state.taken > 0))?;
        self.finish()?;
        while let Some(epoch) = self.members.iter().flatten().map(Member::epoch).min() {
            self.epoch(epoch)?;
        }
        self.progress.finish();
        Ok(self.ended)
    }
    /// The places of those that this is true of.
    fn those(&self, which: impl Fn(&Member) -> bool) -> Vec<usize> {
        let is_one = |(i, m): (usize, &Option<Member>)| m.as_ref().filter(|m| which(m)).map(|_| i);
        self.members.iter().enumerate().filter_map(is_one).collect()
    }
    /// The rest of an epoch, for all that stand in it; some may be ahead of others.
    fn epoch(&mut self, number: u64) -> Result<()> {
        let (source, recipe) = (self.source, self.recipe.clone());
        let batches = source.batches(recipe.batch, recipe.order(number));
        for (n, step) in steps(batches, recipe.accumulation).enumerate() {
            let (step, here) = (step?, self.those(|m| m.epoch() == number && m.state.taken == n));
            if !here.is_empty() {
                self.step(&here, &step)?;
                self.between_steps(&here)?;
                self.end_epoch(&self.those(|m| m.epoch() == number && m.is_over()))?;
            }
            if self.those(|m| m.epoch() == number).is_empty() {
                return Ok(());
            }
        }
        if !self.those(|m| m.epoch() == number && m.state.taken == 0).is_empty() {
            return Err(Error::Labels("there is nothing to learn from: an epoch has no batch".into()));
        }
        self.end_epoch(&self.those(|m| m.epoch() == number))
    }
    /// One step of some, from the same batches.
    fn step(&mut self, here: &[usize], batches: &[Batch]) -> Result<()> {
        let began = Instant::now();
        let done = self.steps_of(here, batches)?;
        let all: usize = batches.iter().map(Batch::tokens).sum();
        let (seconds, bytes, mut losses) = (began.elapsed().as_secs_f64(), self.held(), vec![]);
        for (i, done) in done {
            let (examples, tokens) = match &self.way {
                Way::Mixed { numbers, .. } => size_of_each(batches, numbers[i].clone()),
                Way::Alike(_) => (batches.iter().map(|b| b.items.len()).sum(), all),
            };
            let taken = Taken { examples: examples as u64, tokens: tokens as u64, seconds, bytes };
            let result = done.transpose().map(|done| {
                losses.extend(done.map(|done| done.loss));
                self.members[i].iter_mut().for_each(|m| match done {
                    Some(done) => m.took(done, taken),
                    None => m.passed(false),
                });
            });
            self.unless_diverged(i, result)?;
        }
        let mean = losses.iter().sum::<f64>() / losses.len() as f64;
        self.progress.step(Some(mean).filter(|_| !losses.is_empty()), all as u64);
        Ok(())
    }
    /// What the device held since the last step, at the moment when it held most. From here on its
    /// ledger finds a peak anew, unless the device is recorded.
    fn held(&mut self) -> Bytes {
        let Some(m) = self.members.iter().flatten().next() else { return Bytes::default() };
        let ledger = m.learner.backbone().device().ledger();
        let usage = ledger.usage();
        self.peak = self.peak.max(usage.peak_total() as u64);
        if self.around.recording.is_none() {
            ledger.reset_peak();
        }
        Bytes::at_once(&usage)
    }
    /// What the step is for each of some; nothing where there is nothing for it to learn from.
    fn steps_of(&mut self, here: &[usize], batches: &[Batch]) -> Result<Vec<(usize, Option<Result<Step>>)>> {
        let members = self.members.iter_mut().enumerate();
        match &self.way {
            Way::Alike(_) => {
                let members = members.filter(|(i, _)| here.contains(i));
                let stepping = members.filter_map(|(_, m)| m.as_mut().map(Member::stepping)).collect();
                let done = step_together(stepping, batches)?;
                Ok(here.iter().copied().zip(done.into_iter().map(Some)).collect())
            }
            Way::Mixed { idle, .. } => {
                let mut seats = vec![];
                for ((i, member), (ended, idle)) in members.zip(self.ended.iter().zip(idle)) {
                    let left = || match ended {
                        Some(Ok(outcome)) => Some(&outcome.learner),
                        _ => idle.as_ref(),
                    };
                    seats.push(match (member, here.contains(&i)) {
                        (Some(m), true) => Seat::Learns(m.stepping()),
                        (Some(m), false) => Seat::Answers(&m.learner),
                        (None, _) => Seat::Answers(left().ok_or_else(|| {
                            Error::Model("nobody answers for the examples of a run that is over".into())
                        })?),
                    });
                }
                let done = step_mixed(seats, batches)?.into_iter().enumerate();
                Ok(done.filter(|(i, _)| here.contains(i)).collect())
            }
        }
    }
    /// What is due behind a step: an evaluation, a state that is saved, the end.
    fn between_steps(&mut self, here: &[usize]) -> Result<()> {
        let of = |runs: &Self, which: &dyn Fn(&Member) -> bool| -> Vec<usize> {
            runs.those(which).into_iter().filter(|i| here.contains(i)).collect()
        };
        self.check(&of(self, &|m| m.is_due(m.recipe.eval_every)))?;
        let rounds = self.members.iter().flatten().map(Member::rounds).min().unwrap_or(0);
        let is_paused =
            self.around.until.is_some_and(|share| rounds >= (share * self.total as f64).ceil() as u64);
        let stop = is_paused || self.around.stop.is_some_and(|stop| stop.load(Relaxed));
        let stop = stop && !self.those(|m| !m.is_over()).is_empty();
        if stop && is_paused {
            self.check(&self.those(|m| m.state.evaluated != m.steps()))?;
        }
        self.save(&of(self, &|m| m.is_due(m.recipe.checkpoint_every) || m.unsaved || stop))?;
        match stop {
            true => Err(Error::Stopped { step: rounds, of: self.total, directory: self.around.home.clone() }),
            false => Ok(()),
        }
    }
    /// Evaluates some.
    fn check(&mut self, which: &[usize]) -> Result<()> {
        let which: Vec<usize> = which
            .iter()
            .copied()
            .filter(|i| match &self.way {
                Way::Alike(eval) => eval.is_some(),
                Way::Mixed { eval, numbers, .. } => eval[numbers[*i].clone()].iter().any(Option::is_some),
            })
            .collect();
        if which.is_empty() {
            return Ok(());
        }
        self.progress.pause();
        let learners: Vec<&Learner> =
            which.iter().filter_map(|i| Some(&self.members[*i].as_ref()?.learner)).collect();
        let size = self.recipe.eval_batch;
        let found = match &self.way {
            Way::Alike(None) => return Ok(()),
            Way::Alike(Some(eval)) => {
                let found = evaluate_together(&learners, eval, size, Mode::Quiet)?;
                found.into_iter().map(Some).collect()
            }
            Way::Mixed { eval, numbers, .. } => {
                let own = which.iter().flat_map(|i| &eval[numbers[*i].clone()]).map(Option::as_ref);
                evaluate_mixed(&learners, &own.collect::<Vec<_>>(), size, Mode::Quiet)?
            }
        };
        self.progress.resume();
        let mut found = found.into_iter();
        for i in which {
            let Some(member) = &mut self.members[i] else { continue };
            let own: Vec<_> = found.by_ref().take(member.learner.parts().len()).collect();
            let judged = member.judge(own);
            self.unless_diverged(i, judged)?;
        }
        Ok(())
    }
    /// Ends the epoch of some, and those that are over.
    fn end_epoch(&mut self, which: &[usize]) -> Result<()> {
        let unchecked = self.those(Member::is_unchecked).into_iter().filter(|i| which.contains(i));
        self.check(&unchecked.collect::<Vec<_>>())?;
        for i in which {
            let Some(m) = &mut self.members[*i] else { continue };
            m.learner.prefix().map_or(Ok(()), |cache| cache.seal())?;
            self.progress.line(&m.end_epoch());
        }
        let going = which.iter().copied().filter(|i| self.members[*i].as_ref().is_some_and(|m| !m.is_over()));
        self.save(&going.collect::<Vec<_>>())?;
        self.finish()
    }
    /// Saves where some stand, and what they have learned.
    fn save(&mut self, which: &[usize]) -> Result<()> {
        self.progress.pause();
        for i in which {
            let saved = self.members[*i].as_mut().map_or(Ok(None), Member::save);
            let saved = saved.map(|wrong| self.without_reports(wrong));
            self.unless_diverged(*i, saved)?;
        }
        self.progress.resume();
        Ok(())
    }
    /// Ends those that are over.
    fn finish(&mut self) -> Result<()> {
        for i in self.those(Member::is_over) {
            self.held();
            let recording = self.around.recording.take();
            let Some(member) = self.members[i].take() else { continue };
            self.ended[i] = Some(match member.finish(recording, self.peak) {
                Err(e) if !e.has_diverged() => return Err(e),
                Err(e) => Err(e),
                Ok((outcome, wrong)) => {
                    self.without_reports(wrong);
                    Ok(outcome)
                }
            });
        }
        Ok(())
    }
    /// Says that what was learned is saved and reports are not.
    fn without_reports(&mut self, wrong: Option<Error>) {
        if let Some(wrong) = wrong {
            self.progress.line(&format!("warning: what was learned is saved, reports are not: {wrong}"));
        }
    }
    /// Ends a run that has left the numbers; other errors are passed on.
    fn unless_diverged(&mut self, i: usize, result: Result<()>) -> Result<()> {
        match result {
            Err(e) if e.has_diverged() => {
                if let Some(Member { name, learner, .. }) = self.members[i].take() {
                    name.into_iter().for_each(|name| self.progress.line(&format!("{name}: {e}")));
                    if let Way::Mixed { idle, .. } = &mut self.way {
                        idle[i] = Some(learner);
                    }
                }
                self.ended[i] = Some(Err(e));
                Ok(())
            }
            other => other,
        }
    }
}
