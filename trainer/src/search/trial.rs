//! What was tried, in a file that another program can read on: one JSON object a line, whose keys are
//! those of Optuna's `create_trial`.
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, path::Path};

/// The name of the file.
pub const FILE: &str = "trials.jsonl";

/// What became of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// It waits for its next budget.
    Waiting,
    /// It came to its end.
    Complete,
    /// Others were better.
    Pruned,
    /// Its numbers were no numbers any more.
    Fail,
}

/// One configuration, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// Which one, from 0.
    pub number: usize,
    /// The values of the options that are searched.
    pub params: Map<String, Value>,
    /// What became of it.
    pub state: State,
    /// Its score, the last one that is known.
    pub value: Option<f64>,
    /// The scores behind so many percent of all steps.
    #[serde(default)]
    pub intermediate: BTreeMap<u32, f64>,
    /// The seed of its run.
    pub seed: u64,
    /// Seconds of training.
    pub seconds: f64,
}

/// The trials of a file; none if there is no file.
pub fn read(path: &Path) -> Result<Vec<Trial>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(source) => return Err(Error::Read { path: path.into(), source }),
    };
    let mut trials = vec![];
    for (line, text) in text.lines().enumerate() {
        let trial: Trial =
            serde_json::from_str(text).map_err(|e| Error::line(path, line + 1, e.to_string()))?;
        if trial.number != line {
            return Err(Error::line(path, line + 1, format!("trial {} where {line} comes", trial.number)));
        }
        trials.push(trial);
    }
    Ok(trials)
}

/// The bytes of a file of these trials.
pub fn write(trials: &[Trial]) -> Vec<u8> {
    let line = |trial: &Trial| serde_json::to_string(trial).expect("a trial has string keys only") + "\n";
    trials.iter().map(line).collect::<String>().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trials_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        assert_eq!(read(&path).unwrap(), []);
        let params =
            Map::from_iter([("lr".to_string(), 1e-3.into()), ("adapter".to_string(), "lora".into())]);
        let one = Trial {
            number: 0,
            params,
            state: State::Complete,
            value: Some(0.5),
            intermediate: [(11, 0.25)].into(),
            seed: 42,
            seconds: 1.5,
        };
        let two = Trial { number: 1, state: State::Fail, value: None, ..one.clone() };
        let all = [one, two];
        std::fs::write(&path, write(&all)).unwrap();
        assert_eq!(read(&path).unwrap(), all);
        for bad in ["{", "{\"number\":0}", "[]"] {
            std::fs::write(&path, [&write(&all[..1])[..], bad.as_bytes()].concat()).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("trials.jsonl:2"), "{error}");
        }
        std::fs::write(&path, write(&all[1..])).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("trial 1 where 0 comes"));
    }
}
