//! What the best of a run is best at, and the scores of several tasks as one evaluation.
use crate::{
    Error, Result,
    learner::Part,
    reports::metrics::{Metric, Metrics, Scores},
};
use serde_json::{Map, json};

/// The name of the mean of several tasks' scores.
const MEAN: &str = "mean";

/// A score of a task, or the mean of scores of several.
pub(super) struct Aim {
    /// Of each the key among all scores, the task's name if it is one of several, and what it is.
    scores: Vec<(String, Option<String>, Metric)>,
}

/// The key of a task's score among those of several.
pub fn key(task: &str, score: &str) -> String {
    format!("{task}_{score}")
}

impl Aim {
    /// What a recipe asks for: a score of the task, its first one if nothing is said. Of several
    /// tasks `TASK.SCORE`, or some of them with commas between, of which the mean counts; `mean`,
    /// or nothing, stands for the first score of each task that is evaluated.
    pub fn new(asked: Option<&str>, parts: &[Part], is_evaluated: impl Fn(usize) -> bool) -> Result<Aim> {
        let refused = |value: &str, why: String| {
            Err(Error::Option { option: "metric", value: format!("`{value}`"), why })
        };
        if let [part] = parts {
            let metric = one(part, asked)?;
            return Ok(Aim { scores: vec![(metric.name.into(), None, metric)] });
        }
        let named = |part: &Part, metric: Metric| {
            (key(part.name(), metric.name), Some(part.name().to_string()), metric)
        };
        let mut scores = vec![];
        match asked.filter(|asked| *asked != MEAN) {
            None => {
                for (_, part) in parts.iter().enumerate().filter(|(n, _)| is_evaluated(*n)) {
                    scores.push(named(part, one(part, None)?));
                }
            }
            Some(list) => {
                for text in list.split(',').map(str::trim) {
                    let found = text.split_once('.').and_then(|(task, score)| {
                        let n = parts.iter().position(|part| part.name() == task)?;
                        Some((n, score))
                    });
                    let Some((n, score)) = found else {
                        let names: Vec<&str> = parts.iter().map(Part::name).collect();
                        let why = format!("it is `{MEAN}`, or TASK.SCORE with one of {}", names.join(", "));
                        return refused(text, why);
                    };
                    if !is_evaluated(n) {
                        return refused(text, "there is no data to evaluate this task on".into());
                    }
                    scores.push(named(&parts[n], one(&parts[n], Some(score))?));
                }
            }
        }
        if let Some((_, _, other)) = scores.iter().find(|(.., m)| m.better != scores[0].2.better) {
            let why = format!(
                "of `{}` more is better and of `{}` less, or the other way round, so their mean says nothing: name \
                 TASK.SCORE",
                scores[0].2.name, other.name
            );
            return refused(asked.unwrap_or(MEAN), why);
        }
        Ok(Aim { scores })
    }
    /// Its value among the scores of an evaluation.
    pub fn value(&self, scores: &Scores) -> f64 {
        let all = self.scores.iter().map(|(key, ..)| scores.get(key).unwrap_or(f64::NAN));
        all.sum::<f64>() / self.scores.len() as f64
    }
    /// Whether the scores of one evaluation are better than those of another.
    pub fn is_better(&self, scores: &Scores, than: &Scores) -> bool {
        self.scores.first().is_some_and(|(_, _, m)| m.is_better(self.value(scores), self.value(than)))
    }
    /// The scores that it is about, for people, but for the loss of a single task, which is shown
    /// anyway.
    pub fn show(&self, scores: &Scores) -> Vec<String> {
        let one = |(key, task, metric): &(String, Option<String>, Metric)| {
            let shown = metric.show(scores.get(key)?);
            match task {
                Some(task) => Some(format!("{task} {shown}")),
                None => Some(shown).filter(|_| metric.name != "loss"),
            }
        };
        self.scores.iter().filter_map(one).collect()
    }
    /// What was found of each part, as one evaluation; none if nothing was. Of several tasks each
    /// has its scores under [`key`], and all of its own evaluation under its name in `tasks`; the
    /// mean that this aims at stands in front.
    pub fn all(&self, parts: &[Part], mut found: Vec<Option<Metrics>>) -> Option<Metrics> {
        if parts.len() == 1 {
            return found.pop()?;
        }
        let (mut scores, mut examples, mut tasks) = (vec![], 0, Map::new());
        for (part, metrics) in parts.iter().zip(found) {
            let Some(metrics) = metrics else { continue };
            let own = metrics.scores.0.iter();
            scores.extend(own.map(|(name, value)| (key(part.name(), name), *value)));
            examples += metrics.examples;
            tasks.insert(part.name().into(), json!(metrics));
        }
        if tasks.is_empty() {
            return None;
        }
        let mut scores = Scores(scores);
        if self.scores.len() > 1 {
            scores.0.insert(0, (MEAN.to_string(), self.value(&scores)));
        }
        let details = Map::from_iter([("tasks".to_string(), tasks.into())]);
        Some(Metrics { scores, examples, details })
    }
    /// Whether a loss among the scores is no number.
    pub fn has_diverged(parts: &[Part], scores: &Scores) -> bool {
        let loss = |part: &Part| match parts.len() {
            1 => scores.get("loss"),
            _ => scores.get(&key(part.name(), "loss")),
        };
        parts.iter().filter_map(loss).any(|loss| !loss.is_finite())
    }
}

/// A score of a task; the first if none is asked for.
fn one(part: &Part, asked: Option<&str>) -> Result<Metric> {
    let all = part.task().metrics();
    let Some(name) = asked else {
        return all.first().copied().ok_or_else(|| Error::Model("the task computes no score".into()));
    };
    all.iter().find(|m| m.name == name).copied().ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|m| m.name).collect();
        let why = format!("{} computes {}", part.task().name(), names.join(", "));
        Error::Option { option: "metric", value: format!("`{name}`"), why }
    })
}
