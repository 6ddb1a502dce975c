//! Runs that follow each other on one backbone: the folds of a cross-validation, several seeds, a
//! learning curve, or all of these together. Each is a run like any other, in a directory of its
//! own; what lies below their adapters is computed once where it is a constant.
use super::common::Common;
use super::options::Settings;
use super::print::tell;
use super::runs::{Going, is_done, is_same_run, report_file, report_in, take, train};
use engraft::{
    Error, Result,
    reports::{
        metrics::{Metric, Unit},
        progress::Mode,
        report::Report,
        spread::Spread,
    },
    run::portion::Fold,
};
use serde_json::{Map, Value, json};

/// One of the runs.
pub struct Run {
    /// Its name, and that of its directory.
    name: String,
    settings: Settings,
}

/// What the runs came to.
pub struct Series {
    /// Reports by name, and the scores summed up.
    pub report: Value,
    summary: Vec<Point>,
    metrics: Vec<Metric>,
    /// What went wrong with the first of them that failed.
    pub failed: Option<Error>,
}

/// Runs that differ in nothing but fold and seed.
struct Point {
    /// The examples that they learn from; all if `None`.
    examples: Option<usize>,
    scores: Vec<(String, Spread)>,
}

impl Settings {
    /// The runs that these settings ask for one after the other; none if it is one run.
    pub fn series(&self) -> Option<Vec<Run>> {
        if self.folds.is_none() && self.seeds.is_none() && self.curve.is_none() {
            return None;
        }
        let folds: Vec<_> =
            self.folds.map_or(vec![None], |of| (1..=of).map(|number| Some(Fold { number, of })).collect());
        let some = |list: Option<Vec<u64>>| list.map_or(vec![None], |l| l.into_iter().map(Some).collect());
        let curve = some(self.curve.as_ref().map(|c| c.iter().map(|n| *n as u64).collect()));
        let mut runs = vec![];
        for examples in curve {
            for fold in &folds {
                for seed in some(self.seeds.clone()) {
                    let parts = [
                        examples.map(|n| format!("examples-{n}")),
                        fold.map(|fold| format!("fold-{}", fold.number)),
                        seed.map(|seed| format!("seed-{seed}")),
                    ];
                    let name = parts.into_iter().flatten().collect::<Vec<_>>().join("+");
                    let settings = Settings {
                        folds: None,
                        seeds: None,
                        curve: None,
                        fold: fold.or(self.fold),
                        seed: seed.unwrap_or(self.seed),
                        train_examples: examples.map(|n| n as usize).or(self.train_examples),
                        out: self.out.join(&name),
                        ..self.clone()
                    };
                    runs.push(Run { name, settings });
                }
            }
        }
        Some(runs)
    }
}

/// Trains all of them, one after the other. A run whose numbers are no numbers any more fails alone;
/// whatever else goes wrong ends all of them. One that is stopped goes on with the run that was
/// under way.
pub fn train_series(s: &Settings, runs: Vec<Run>, mode: Mode, going: Going<'_>) -> Result<Series> {
    let (mut home, _) = take(s, false)?;
    let mut common = Common::within(&s.out);
    let (mut reports, mut failed) = (Map::new(), None);
    for (number, run) in runs.iter().enumerate() {
        let goes_on = going.resume && is_same_run(&run.settings);
        if mode != Mode::Quiet {
            tell(&format!("{} ({} of {})", run.name, number + 1, runs.len()));
        }
        if !(goes_on && is_done(&run.settings)) {
            let going = Going { resume: goes_on, ..going };
            let outcome = train(&run.settings, mode, going, &mut common)?.pop().map(|(_, outcome)| outcome);
            if let Some(Err(e)) = outcome {
                reports.insert(run.name.clone(), json!({"error": e.to_string()}));
                failed = failed.or(Some(e.within("run", &run.name)));
                continue;
            }
        }
        reports.insert(run.name.clone(), report_in(&run.settings.out)?);
    }
    let (commit, metrics) = (common.commit(), std::mem::take(&mut common.metrics));
    common.close()?;
    let summary = summary(&runs, &reports);
    let points = summary.iter().map(Point::json).collect::<Vec<_>>();
    let report = json!({"runs": reports, "summary": points});
    home.set_settings(Settings { model_commit: commit, ..s.clone() }.file());
    home.save(Some(&[]), &[report_file(&report, &s.out)?], None, &[])?;
    Ok(Series { report, summary, metrics, failed })
}

fn summary(runs: &[Run], reports: &Map<String, Value>) -> Vec<Point> {
    let mut points: Vec<Point> = vec![];
    for examples in runs.iter().map(|run| run.settings.train_examples) {
        if points.iter().any(|point| point.examples == examples) {
            continue;
        }
        let own = runs.iter().filter(|run| run.settings.train_examples == examples);
        // a run that failed has none
        let read = |run: &Run| {
            let report: Report = serde_json::from_value(reports.get(&run.name)?.clone()).ok()?;
            Some((run.settings.fold, report.metrics?.scores))
        };
        let found: Vec<_> = own.filter_map(read).collect();
        let names = found.first().map(|(_, scores)| scores.0.iter().map(|(name, _)| name.clone()));
        let of = |name: String| {
            let values = found.iter().filter_map(|(fold, scores)| Some((*fold, scores.get(&name)?)));
            let values: Vec<(Option<Fold>, f64)> = values.collect();
            let spread = Spread::of(&by_fold(&values), values.first()?.0.is_some())?;
            Some((name, spread))
        };
        points.push(Point { examples, scores: names.into_iter().flatten().filter_map(of).collect() });
    }
    points
}

/// Scores of different data: of several seeds on one fold their mean.
fn by_fold(values: &[(Option<Fold>, f64)]) -> Vec<f64> {
    let Some((Some(Fold { of, .. }), _)) = values.first() else {
        return values.iter().map(|(_, value)| *value).collect();
    };
    let own = |number| {
        let own = values.iter().filter(move |(fold, _)| fold.is_some_and(|f| f.number == number));
        let own: Vec<f64> = own.map(|(_, value)| *value).collect();
        (!own.is_empty()).then(|| own.iter().sum::<f64>() / own.len() as f64)
    };
    (1..=*of).filter_map(own).collect()
}

impl Point {
    fn json(&self) -> Value {
        let scores: Map<String, Value> =
            self.scores.iter().map(|(name, spread)| (name.clone(), json!(spread))).collect();
        json!({"train_examples": self.examples, "scores": scores})
    }
}

impl Series {
    /// The scores for people, a line for each.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![];
        for point in &self.summary {
            if let Some(n) = point.examples {
                lines.push(format!("{n} examples:"));
            }
            for (name, spread) in &point.scores {
                lines.push(line(name, self.metrics.iter().find(|m| m.name == name), spread));
            }
        }
        lines
    }
}

/// `accuracy 81.25 % +- 0.50, between 80.01 and 82.49 (95 %), 4 runs`
fn line(name: &str, metric: Option<&Metric>, spread: &Spread) -> String {
    let number = |x: f64| match metric.map(|m| m.unit) {
        Some(Unit::Share) => format!("{:.2}", 100.0 * x),
        _ => format!("{x:.4}"),
    };
    let mut line = metric.map_or(format!("{name} {}", number(spread.mean)), |m| m.show(spread.mean));
    if let (Some(deviation), Some(low), Some(high)) = (spread.deviation, spread.low, spread.high) {
        line += &format!(" +- {}, between {} and {} (95 %)", number(deviation), number(low), number(high));
    }
    line + &format!(", {} runs", spread.runs)
}
