//! What a run notes as it goes on, step by step and evaluation by evaluation, in the words of
//! transformers' `Trainer`: what its logs, TensorBoard and reports are made of.
use super::{bytes::Bytes, metrics::Scores};
use engraft_engine::Class;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// An entry of a log: values by name.
pub type Entry = BTreeMap<String, Value>;

/// What stands before the name of a score of an evaluation.
pub const EVAL: &str = "eval_";
/// What stands before the name of a class of bytes.
const MEMORY: &str = "memory_";

/// What was noted, in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History(pub Vec<Note>);

/// What was noted after a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// The optimiser step, counted from one.
    pub step: u64,
    /// Epochs that are over, and the share of the one under way.
    pub epoch: f64,
    /// Seconds since 1970; 0 where it is not known.
    pub time: f64,
    /// What it is about.
    pub of: Of,
}

/// What a note is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Of {
    /// Training since the note before.
    Training(Training),
    /// An evaluation.
    Evaluation(Evaluation),
}

/// Some steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// The mean of the losses of the steps.
    pub loss: f64,
    /// The norm of all gradients before clipping, of the last step.
    pub norm: f64,
    /// The learning rate of the last step.
    pub rate: f64,
    /// What was held, at the moment in these steps when most was held in all.
    pub bytes: Bytes,
}

/// An evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The scores.
    pub scores: Scores,
    /// Examples.
    pub examples: u64,
    /// Batches.
    pub batches: u64,
    /// Seconds that it took.
    pub seconds: f64,
}

/// How long something took, and how much of what it did in a second: `eval_runtime`,
/// `eval_samples_per_second`.
pub fn speed<const N: usize>(prefix: &str, seconds: f64, of: [(&str, u64); N]) -> Entry {
    let mut all = Entry::from([(format!("{prefix}runtime"), json!(seconds))]);
    let each =
        |(name, n): (&str, u64)| (format!("{prefix}{name}_per_second"), json!(n as f64 / seconds.max(1e-9)));
    all.extend(of.map(each));
    all
}

impl Evaluation {
    /// Its scores and how fast it was, as transformers names them.
    pub fn named(&self) -> Entry {
        let mut all = Entry::new();
        all.extend(self.scores.0.iter().map(|(name, value)| (format!("{EVAL}{name}"), json!(value))));
        all.extend(speed(EVAL, self.seconds, [("samples", self.examples), ("steps", self.batches)]));
        all
    }
}

impl Note {
    /// As an entry of transformers' log, with what a step held in memory.
    pub fn entry(&self) -> Entry {
        let mut all = match &self.of {
            Of::Evaluation(e) => e.named(),
            Of::Training(t) => {
                let bytes = t.bytes.by_class().map(|(class, n)| (format!("{MEMORY}{class}"), json!(n)));
                let said = [("loss", t.loss), ("grad_norm", t.norm), ("learning_rate", t.rate)];
                said.map(|(name, x)| (name.to_string(), json!(x))).into_iter().chain(bytes).collect()
            }
        };
        all.insert("step".into(), self.step.into());
        all.insert("epoch".into(), json!(self.epoch));
        all
    }
    /// What an entry says; none if it is about neither steps nor an evaluation.
    pub fn of_entry(entry: &Entry) -> Option<Note> {
        let number = |name: &str| entry.get(name).map(|v| v.as_f64().unwrap_or(f64::NAN));
        let (step, epoch) = (entry.get("step")?.as_u64()?, number("epoch").unwrap_or(f64::NAN));
        let of = match (number("loss"), number("eval_loss")) {
            (Some(loss), _) => {
                let held = |class: Class| entry.get(&format!("{MEMORY}{}", class.name()))?.as_u64();
                let bytes = Bytes::of(|class| held(class).unwrap_or(0) as usize);
                let (norm, rate) = (number("grad_norm")?, number("learning_rate")?);
                Of::Training(Training { loss, norm, rate, bytes })
            }
            (None, Some(_)) => {
                let seconds = number("eval_runtime").unwrap_or(f64::NAN);
                let count = |name: &str| (number(name).unwrap_or(0.0) * seconds).round() as u64;
                let (examples, batches) = (count("eval_samples_per_second"), count("eval_steps_per_second"));
                let is_score = |name: &str| name != "runtime" && !name.ends_with("_per_second");
                let scores = entry.iter().filter_map(|(name, value)| {
                    let name = name.strip_prefix(EVAL).filter(|name| is_score(name))?;
                    Some((name.to_string(), value.as_f64().unwrap_or(f64::NAN)))
                });
                let scores = Scores(scores.collect());
                Of::Evaluation(Evaluation { scores, examples, batches, seconds })
            }
            (None, None) => return None,
        };
        Some(Note { step, epoch, time: 0.0, of })
    }
}

impl History {
    /// (step, value) of what is noted about steps.
    pub fn training(&self, value: impl Fn(&Training) -> f64) -> Vec<(f64, f64)> {
        let one = |note: &Note| match &note.of {
            Of::Training(t) => Some((note.step as f64, value(t))),
            Of::Evaluation(_) => None,
        };
        self.0.iter().filter_map(one).collect()
    }
    /// (step, value) of a score.
    pub fn score(&self, name: &str) -> Vec<(f64, f64)> {
        let one = |note: &Note| match &note.of {
            Of::Evaluation(e) => Some((note.step as f64, e.scores.get(name)?)),
            Of::Training(_) => None,
        };
        self.0.iter().filter_map(one).collect()
    }
    /// The names of all scores, in the order of the first evaluation.
    pub fn scores(&self) -> Vec<&str> {
        let first = self.0.iter().find_map(|note| match &note.of {
            Of::Evaluation(e) => Some(e),
            Of::Training(_) => None,
        });
        first.iter().flat_map(|e| &e.scores.0).map(|(name, _)| name.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let bytes = Bytes { backbone: 5, saved: 1 << 40, ..Bytes::default() };
        let training = Training { loss: 0.5, norm: 0.1 + 0.2, rate: 1e-3, bytes };
        let scores = [("accuracy", 0.75), ("loss", 0.25)].into();
        let evaluation = Evaluation { scores, examples: 100, batches: 3, seconds: 0.7 };
        let all = [Of::Training(training), Of::Evaluation(evaluation)];
        let history = History(all.map(|of| Note { step: 7, epoch: 1.25, time: 0.0, of }).into());
        let again = history.0.iter().map(|n| Note::of_entry(&n.entry()));
        assert_eq!(again.collect::<Option<Vec<_>>>().unwrap(), history.0);
        let names: Vec<String> = history.0[1].entry().into_keys().collect();
        let speeds = ["eval_runtime", "eval_samples_per_second", "eval_steps_per_second"];
        assert_eq!(names, [&["epoch", "eval_accuracy", "eval_loss"][..], &speeds, &["step"]].concat());
        let json = serde_json::to_string(&history).unwrap();
        assert_eq!(serde_json::from_str::<History>(&json).unwrap(), history);
        assert_eq!((history.scores(), history.score("loss")), (vec!["accuracy", "loss"], vec![(7.0, 0.25)]));
        assert_eq!(history.training(|t| t.loss), [(7.0, 0.5)]);
        assert_eq!(Note::of_entry(&Entry::from([("train_loss".into(), json!(1.0))])), None);
    }
}
