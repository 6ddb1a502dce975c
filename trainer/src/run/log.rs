//! What a run notes on its way and what its reports are made of: a part of its state, so that a run
//! that goes on goes on with its curves.
use super::{evaluate::Found, step::Step};
use crate::reports::{
    by_example::{ExamplePrediction, hardest},
    bytes::Bytes,
    events,
    history::{Evaluation, History, Note, Of, Training},
};
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

/// How many of the hardest examples are kept.
const HARDEST: usize = 20;
/// About how many notes a run makes of its steps unless it is told how often.
const NOTES: u64 = 1000;

/// The notes of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Log {
    /// What was noted.
    pub history: History,
    /// Examples that were learned from, each as often as it was.
    pub examples: u64,
    /// Epochs before the one under way; a part of one where a run ended within it.
    over: f64,
    /// Examples of the epoch under way.
    in_epoch: u64,
    /// Examples of an epoch that is over.
    of_epoch: Option<u64>,
    /// The sum of the losses of all steps.
    losses: f64,
    /// Steps since the last note.
    since: Since,
    /// The best evaluation, and the step behind which it was.
    pub best: Option<(u64, Evaluation)>,
    /// The examples with the highest losses in it, the highest first.
    pub hardest: Vec<ExamplePrediction>,
    /// How many notes are in files of events, and the second that the last of them is called by.
    written: (usize, u64),
}

/// Steps that no note has yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Since {
    steps: u64,
    losses: f64,
    bytes: Bytes,
}

/// What a step took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Taken {
    /// Examples that it learned from.
    pub examples: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Seconds.
    pub seconds: f64,
    /// What the device held when it held most in it.
    pub bytes: Bytes,
}

/// Every so many of all steps something is noted.
pub fn every(asked: Option<u64>, total: u64) -> u64 {
    asked.unwrap_or(total.div_ceil(NOTES).min(NOTES)).max(1)
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

impl Log {
    /// Epochs that are over, and the share of the one under way as far as it is known; `samples`
    /// are the examples of an epoch.
    pub fn epoch(&self, samples: Option<u64>) -> f64 {
        self.over + self.share(samples).unwrap_or(0.0)
    }
    fn share(&self, samples: Option<u64>) -> Option<f64> {
        let all = samples.or(self.of_epoch)?;
        Some((self.in_epoch as f64 / all.max(1) as f64).min(1.0))
    }
    /// The mean of the losses of so many steps, which are all.
    pub fn loss(&self, steps: u64) -> f64 {
        self.losses / steps.max(1) as f64
    }
    /// Examples of an epoch that is over.
    pub fn of_epoch(&self) -> Option<u64> {
        self.of_epoch
    }
    /// A step.
    pub fn took(&mut self, done: &Step, taken: &Taken) {
        self.examples += taken.examples;
        self.in_epoch += taken.examples;
        self.losses += done.loss;
        let bytes = [self.since.bytes, taken.bytes].into_iter().max_by_key(Bytes::total).unwrap_or_default();
        self.since = Since { steps: self.since.steps + 1, losses: self.since.losses + done.loss, bytes };
    }
    /// Notes the steps since the last note.
    pub fn note(&mut self, step: u64, epoch: f64, norm: f64, rate: f64) {
        let Since { steps, losses, bytes } = std::mem::take(&mut self.since);
        let of = Of::Training(Training { loss: losses / steps.max(1) as f64, norm, rate, bytes });
        self.history.0.push(Note { step, epoch, time: now(), of });
    }
    /// Notes an evaluation.
    pub fn evaluated(&mut self, step: u64, epoch: f64, found: &Found, is_best: bool) {
        let evaluation = found.evaluation();
        if is_best {
            self.hardest = hardest(&found.examples, HARDEST);
            self.best = Some((step, evaluation.clone()));
        }
        self.history.0.push(Note { step, epoch, time: now(), of: Of::Evaluation(evaluation) });
    }
    /// An epoch is over, or the run in it.
    pub fn end_epoch(&mut self, samples: Option<u64>) {
        self.over += self.share(samples).unwrap_or(1.0);
        let seen = std::mem::take(&mut self.in_epoch);
        self.of_epoch = self.of_epoch.max(Some(seen));
    }
    /// A file of the events that are in none yet, if there are some, and the notes that know of it.
    pub fn events(&self) -> Option<(Log, (String, Vec<u8>))> {
        let (written, before) = self.written;
        let notes = self.history.0.get(written..).filter(|notes| !notes.is_empty())?;
        // TensorBoard reads files in the order of their names, and none again
        let second = (notes[0].time as u64).max(before + 1);
        let file = (events::name(second), events::file(notes));
        Some((Log { written: (self.history.0.len(), second), ..self.clone() }, file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_means_since_the_last_one() {
        let mut log = Log::default();
        let bytes = |saved| Bytes { saved, ..Bytes::default() };
        for (loss, saved) in [(1.0, 5), (2.0, 9), (4.0, 7)] {
            let taken = Taken { examples: 2, bytes: bytes(saved), ..Taken::default() };
            log.took(&Step { loss, labels: 2, norm: 1.0 }, &taken);
            if loss != 1.0 {
                log.note(loss as u64, log.epoch(Some(8)), 1.0, 0.1);
            }
        }
        let noted: Vec<_> = log.history.0.iter().map(|n| (n.step, n.epoch, n.of.clone())).collect();
        let training =
            |loss, saved| Of::Training(Training { loss, norm: 1.0, rate: 0.1, bytes: bytes(saved) });
        assert_eq!(noted, [(2, 0.5, training(1.5, 9)), (4, 0.75, training(4.0, 7))]);
        assert_eq!((log.loss(3), log.examples, log.epoch(None)), (7.0 / 3.0, 6, 0.0));
        let mut ended = log.clone();
        ended.end_epoch(Some(8));
        assert_eq!(ended.epoch(Some(8)), 0.75, "the run ends within it");
        log.end_epoch(None);
        assert_eq!((log.epoch(None), log.of_epoch()), (1.0, Some(6)));
    }

    #[test]
    fn every_note_is_in_one_file() {
        let mut log = Log::default();
        assert!(log.events().is_none());
        log.note(1, 0.5, 1.0, 0.1);
        let (after, (first, _)) = log.events().unwrap();
        assert!(after.events().is_none());
        let mut log = after;
        log.note(2, 1.0, 1.0, 0.1);
        let (_, (second, bytes)) = log.events().unwrap();
        assert!(first < second, "even within a second: {first} {second}");
        assert_eq!(bytes.windows(10).filter(|w| w == b"train/loss").count(), 1, "only what is new");
    }

    #[test]
    fn long_runs_make_about_as_many_notes() {
        assert_eq!([every(None, 2), every(None, 5000), every(None, u64::MAX)], [1, 5, 1000]);
        assert_eq!([every(Some(7), 2), every(Some(0), 2)], [7, 1]);
    }
}
