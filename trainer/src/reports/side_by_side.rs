//! Runs side by side: what they came to, and in which settings they differ.
use super::{
    bytes::show,
    history::History,
    left::REPORT,
    page::{keys, runs},
    picture::number,
    progress::clock,
    report::Report,
    results::{STATE, history},
};
use crate::{Error, Result};
use engraft_engine::output;
use serde::Serialize;
use std::path::Path;

/// Settings that say nothing about what is learned.
const ASIDE: [&str; 9] =
    ["out", "name", "json", "quiet", "threads", "report", "tensorboard", "log-every", "profile"];

/// A run that is over.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Left {
    /// Its directory.
    pub run: String,
    /// What it came to.
    pub report: Report,
    /// What it noted on its way; nothing where it left no `trainer_state.json`.
    #[serde(skip)]
    pub history: History,
    /// Its settings: of each what it is set to.
    #[serde(skip)]
    pub settings: Vec<(String, Vec<String>)>,
}

/// Rows of a table, and its columns' names.
pub struct Table {
    /// The names of the columns, the first that of the runs.
    pub head: Vec<String>,
    /// A row for each run.
    pub rows: Vec<Vec<String>>,
}

impl Left {
    /// The run in a directory; where several runs were made in it, all of them, in the order of
    /// their names.
    pub fn read(directory: &Path) -> Result<Vec<Left>> {
        if let Some(one) = Left::of(directory)? {
            return Ok(vec![one]);
        }
        let failed = |source| Error::Read { path: directory.into(), source };
        let mut folders = vec![];
        for entry in std::fs::read_dir(directory).map_err(failed)? {
            folders.push(entry.map_err(failed)?.path());
        }
        folders.retain(|folder| folder.is_dir());
        folders.sort();
        let mut all = vec![];
        for folder in folders {
            all.extend(Left::of(&folder)?);
        }
        match all.is_empty() {
            true => {
                Err(Error::file(directory, format!("no run came to its end in it: there is no {REPORT}")))
            }
            false => Ok(all),
        }
    }
    /// The run in a directory, if one is there that is over.
    pub fn of(directory: &Path) -> Result<Option<Left>> {
        let _held = output::reading(directory)?;
        let read = |name: &str| {
            let path = directory.join(name);
            match std::fs::read(&path) {
                Ok(bytes) => Ok(Some((path, bytes))),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(Error::Read { path, source }),
            }
        };
        let wrong = |path: &Path, e: serde_json::Error| Error::file(path, e.to_string());
        let Some((path, json)) = read(REPORT)? else { return Ok(None) };
        let value: serde_json::Value = serde_json::from_slice(&json).map_err(|e| wrong(&path, e))?;
        if value.get("task").is_none() {
            return Ok(None); // that of several runs
        }
        let report = serde_json::from_value(value).map_err(|e| wrong(&path, e))?;
        let history = match read(STATE)? {
            Some((path, state)) => history(&state).map_err(|e| wrong(&path, e))?,
            None => History::default(),
        };
        let settings = read("run.toml")?.map(|(_, text)| keys(&String::from_utf8_lossy(&text)));
        let run = directory.to_string_lossy().into_owned();
        Ok(Some(Left { run, report, history, settings: settings.unwrap_or_default() }))
    }
    fn setting(&self, key: &str) -> String {
        let found = self.settings.iter().find(|(k, _)| k == key);
        found.map_or_else(|| "-".into(), |(_, values)| values.join(" "))
    }
}

/// What runs came to: their scores, and what they took.
pub fn results(all: &[Left]) -> Table {
    let mut scores: Vec<&str> = vec![];
    for (name, _) in all.iter().flat_map(|run| &run.report.metrics).flat_map(|m| &m.scores.0) {
        if !scores.contains(&name.as_str()) {
            scores.push(name);
        }
    }
    // the scores that are asked for first, then the losses
    scores.sort_by_key(|name| *name == "loss");
    let title = |name: &&str| if *name == "loss" { "held-out loss".to_string() } else { name.to_string() };
    let others = ["training loss", "time", "tokens/s", "trained", "memory"].map(String::from);
    let head = ["run".to_string()].into_iter().chain(scores.iter().map(title)).chain(others).collect();
    let row = |run: &Left| {
        let r = &run.report;
        let score = |name: &&str| r.metrics.as_ref()?.scores.get(name).map(number);
        let scores = scores.iter().map(|name| score(name).unwrap_or_else(|| "-".into()));
        let others = [
            r.epochs.last().map_or_else(|| "-".into(), |e| number(e.loss)),
            clock(r.train_seconds),
            number(r.tokens_per_second.round()),
            number(r.trainable_parameters as f64),
            show(r.ledger_peak_bytes as usize),
        ];
        [run.run.clone()].into_iter().chain(scores).chain(others).collect()
    };
    Table { head, rows: all.iter().map(row).collect() }
}

/// The settings in which runs differ; none if there are none.
pub fn differences(all: &[Left]) -> Option<Table> {
    let mut keys: Vec<&str> = all.iter().flat_map(|run| &run.settings).map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    let first = all.first()?;
    let differs =
        |key: &&str| !ASIDE.contains(key) && all.iter().any(|run| run.setting(key) != first.setting(key));
    keys.retain(differs);
    let head = ["run"].into_iter().chain(keys.iter().copied()).map(String::from).collect();
    let row =
        |run: &Left| [run.run.clone()].into_iter().chain(keys.iter().map(|key| run.setting(key))).collect();
    (!keys.is_empty()).then(|| Table { head, rows: all.iter().map(row).collect() })
}

impl Table {
    /// Lines of a terminal: numbers at the right of their columns, and the names of runs at the
    /// left.
    pub fn lines(&self) -> Vec<String> {
        let rows = || [&self.head].into_iter().chain(&self.rows);
        let width = |i: usize| rows().map(|row| row[i].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let cell = |(i, text): (usize, &String)| match i {
            0 => format!("{text:<w$}", w = widths[i]),
            _ => format!("{text:>w$}", w = widths[i]),
        };
        let line = |row: &Vec<String>| row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ");
        rows().map(|row| line(row).trim_end().to_string()).collect()
    }
}

/// The page of several runs.
pub fn html(all: &[Left]) -> String {
    let histories: Vec<(&str, &History)> = all.iter().map(|run| (run.run.as_str(), &run.history)).collect();
    let (results, differences) = (results(all), differences(all));
    let of = |table: &Table| (table.head.clone(), table.rows.clone());
    runs(&histories, of(&results), differences.as_ref().map(of))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reports::{metrics::Metrics, report::Epoch};

    fn run(name: &str, lr: &str) -> Left {
        let scores = [("loss", 0.25), ("accuracy", 0.75)].into();
        let report = Report {
            task: "classification".into(),
            metrics: Some(Metrics { scores, examples: 4, ..Metrics::default() }),
            epochs: vec![Epoch { loss: 0.5, ..Epoch::default() }],
            train_seconds: 65.0,
            tokens_per_second: 1234.4,
            peak_rss_bytes: None,
            ledger_peak_bytes: 2 << 20,
            trainable_parameters: 1000,
            total_parameters: 2000,
            out: name.into(),
            profile: None,
        };
        let settings = keys(&format!("lr = {lr}\nseed = 1\nout = \"{name}\"\n"));
        Left { run: name.into(), report, history: History::default(), settings }
    }

    #[test]
    fn runs_stand_in_columns_that_fit() {
        let mut all = [run("a", "0.1"), run("much-longer", "0.2")];
        all[1].report.metrics = None;
        assert_eq!(
            results(&all).lines(),
            [
                "run          accuracy  held-out loss  training loss   time  tokens/s  trained   memory",
                "a                0.75           0.25            0.5  1m05s      1234     1000  2.0 MiB",
                "much-longer         -              -            0.5  1m05s      1234     1000  2.0 MiB",
            ]
        );
        let differences = differences(&all).unwrap();
        assert_eq!(differences.head, ["run", "lr"]);
        assert_eq!(differences.rows, [["a", "0.1"], ["much-longer", "0.2"]]);
        assert!(super::differences(&all[..1]).is_none());
        let page = html(&[run("<a>", "0.1"), run("b", "0.2")]);
        assert!(page.contains("&lt;a&gt;") && !page.contains("<a>") && page.contains("0.2"));
    }
}
