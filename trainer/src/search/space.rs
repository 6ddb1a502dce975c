//! What is tried, and which values come next.
//!
//! A space is a TOML file with a table for each option of a run that is searched:
//!
//! ```
//! use engraft::search::{Sampler, Space};
//! let space = Space::parse("space.toml", r#"
//!     lr = { low = 1e-5, high = 1e-2, log = true }
//!     bottleneck = { low = 8, high = 64, step = 8 }
//!     adapter = { choices = ["houlsby", "lora[r=8]"] }
//! "#)?;
//! let first = space.suggest(Sampler::Random, &[], 0, 42)?;
//! assert!((1e-5..=1e-2).contains(&first["lr"].as_f64().unwrap()));
//! assert_eq!(first["bottleneck"].as_i64().unwrap() % 8, 0);
//! # Ok::<(), engraft::Error>(())
//! ```
use crate::{
    error::{Error, Result, list},
    reports::parallel::{Along, Axis},
    text::shuffle::numbers,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::path::Path;
use tpe::{TpeOptimizerBuilder, categorical_range, histogram_estimator, parzen_estimator, range};

choices! {
    /// Which values are tried next.
    pub enum Sampler {
        /// Tree-structured Parzen estimator: more often such as those of the best tenth of the
        /// trials, after ten at random
        Tpe = "tpe",
        /// At random
        Random = "random",
    }
}

/// Trials at random before those that the Parzen estimator is told of count.
const STARTUP: usize = 10;
/// Candidates of which the most promising is tried.
const CANDIDATES: usize = 24;
/// The most trials that are good.
const GOOD: usize = 25;

/// The options that are searched, with the values that they may have.
#[derive(Clone, Debug, PartialEq)]
pub struct Space {
    dimensions: Vec<(String, Dimension)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Dimension {
    /// From `low` to `high`, on a logarithmic scale if `log`; of whole numbers, or in steps from the
    /// low end.
    Range { low: f64, high: f64, log: bool, step: Option<f64>, whole: bool },
    /// One of these.
    Choices(Vec<Value>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    low: Option<Value>,
    high: Option<Value>,
    #[serde(default)]
    log: bool,
    step: Option<Value>,
    choices: Option<Vec<Value>>,
}

impl Space {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Space> {
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
        Space::parse(path, &text)
    }
    /// Reads the text of a file; `path` names it in errors.
    pub fn parse(path: impl AsRef<Path>, text: &str) -> Result<Space> {
        let path = path.as_ref();
        let bad = |why: String| Error::file(path, why.replace('\n', " "));
        let table: toml::Table = toml::from_str(text).map_err(|e| match e.span() {
            Some(span) => Error::line(
                path,
                1 + text[..span.start].matches('\n').count(),
                e.message().replace('\n', " "),
            ),
            None => bad(e.message().into()),
        })?;
        let mut dimensions = vec![];
        for (key, value) in table {
            let fields: Fields =
                value.try_into().map_err(|e: toml::de::Error| bad(format!("`{key}`: {}", e.message())))?;
            dimensions
                .push((key.clone(), Dimension::of(fields).map_err(|why| bad(format!("`{key}`: {why}")))?));
        }
        match dimensions.is_empty() {
            true => Err(bad("there is no option in it to search".into())),
            false => Ok(Space { dimensions }),
        }
    }
    /// The names of the options.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.dimensions.iter().map(|(key, _)| key.as_str())
    }
    /// An axis for each option, as pictures have it.
    pub fn axes(&self) -> Vec<Axis> {
        let axis = |(name, dimension): &(String, Dimension)| {
            let along = match dimension {
                Dimension::Range { low, high, log, .. } => {
                    Along::Numbers { low: *low, high: *high, log: *log }
                }
                Dimension::Choices(all) => Along::Points(all.iter().map(shown).collect()),
            };
            Axis { name: name.clone(), along, falls: false }
        };
        self.dimensions.iter().map(axis).collect()
    }
    /// Where the values of a trial lie on these axes.
    pub fn on_axes(&self, values: &Map<String, Value>) -> Vec<Option<f64>> {
        let place = |(name, dimension): &(String, Dimension)| {
            let value = values.get(name)?;
            match dimension {
                Dimension::Range { .. } => value.as_f64(),
                Dimension::Choices(all) => all.iter().position(|one| one == value).map(|i| i as f64),
            }
        };
        self.dimensions.iter().map(place).collect()
    }
    /// The values of a trial, the same for ever for its number, a seed and what was `told`: the values
    /// of trials with their scores, of which less is better.
    pub fn suggest(
        &self,
        sampler: Sampler,
        told: &[(Map<String, Value>, f64)],
        number: usize,
        seed: u64,
    ) -> Result<Map<String, Value>> {
        let mut rng = numbers(seed, number as u64);
        let good = told.len().div_ceil(10).min(GOOD);
        let gamma = good as f64 / told.len().max(1) as f64;
        let learns = sampler == Sampler::Tpe && told.len() >= STARTUP;
        let failed = |e: String| Error::Model(format!("the sampler: {e}"));
        let mut values = Map::new();
        for (key, dimension) in &self.dimensions {
            let (low, high) = dimension.interval();
            let mut builder = TpeOptimizerBuilder::new();
            builder.gamma(gamma).candidates(if learns { CANDIDATES } else { 1 });
            let (estimator, range) = match dimension {
                Dimension::Range { .. } => (parzen_estimator(), range(low, high)),
                Dimension::Choices(all) => (histogram_estimator(), categorical_range(all.len())),
            };
            let range = range.map_err(|e| failed(e.to_string()))?;
            let mut optimiser = builder.build(estimator, range).map_err(|e| failed(e.to_string()))?;
            let known = told.iter().filter(|_| learns);
            for (values, score) in known {
                if let Some(at) = values.get(key).and_then(|v| dimension.place(v)) {
                    optimiser.tell(at, *score).map_err(|e| failed(e.to_string()))?;
                }
            }
            let at = optimiser.ask(&mut rng).map_err(|e| failed(e.to_string()))?;
            values.insert(key.clone(), dimension.value(at));
        }
        Ok(values)
    }
}

/// A value for people.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), String::from)
}

impl Dimension {
    fn of(fields: Fields) -> Result<Dimension, String> {
        let number = |name: &str, v: &Value| {
            v.as_f64().filter(|x| x.is_finite()).ok_or_else(|| format!("`{name}` is no number: {v}"))
        };
        match fields {
            Fields { low: Some(low), high: Some(high), log, step, choices: None } => {
                let is_whole = |v: &Value| v.is_i64() || v.is_u64();
                let whole = is_whole(&low) && is_whole(&high) && step.as_ref().is_none_or(is_whole);
                let (low, high) = (number("low", &low)?, number("high", &high)?);
                let step = step.map(|step| number("step", &step)).transpose()?;
                if low >= high {
                    return Err(format!("`low` is {low}, and `high` is {high}"));
                }
                if log && low <= 0.0 {
                    return Err("a logarithmic scale begins above 0".into());
                }
                if step.is_some_and(|step| step <= 0.0 || step > high - low) {
                    return Err("`step` is above 0 and at most the width of the range".into());
                }
                if log && step.is_some() {
                    return Err("there are no steps on a logarithmic scale".into());
                }
                Ok(Dimension::Range { low, high, log, step, whole })
            }
            Fields { low: None, high: None, log: false, step: None, choices: Some(all) } => {
                let mut shown: Vec<String> = all.iter().map(Value::to_string).collect();
                shown.sort();
                shown.dedup();
                match (shown.len() == all.len(), all.len()) {
                    (false, _) => Err("a choice stands twice".into()),
                    (_, 0) => Err("there are no choices".into()),
                    _ => Ok(Dimension::Choices(all)),
                }
            }
            _ => {
                let fields = list(&["low", "high", "log", "step"].map(String::from));
                Err(format!("it has {fields}, or `choices`"))
            }
        }
    }
    /// The interval in which the sampler works.
    fn interval(&self) -> (f64, f64) {
        match self {
            Dimension::Range { low, high, log: true, whole, .. } => {
                let half = if *whole { 0.5 } else { 0.0 };
                ((low - half).ln(), (high + half).ln())
            }
            // every step has an interval of its own, of the same length
            Dimension::Range { low, high, step: Some(step), .. } => {
                (-0.5, ((high - low) / step + 1e-9).floor() + 0.5)
            }
            Dimension::Range { low, high, whole: true, .. } => (low - 0.5, high + 0.5),
            Dimension::Range { low, high, .. } => (*low, *high),
            Dimension::Choices(all) => (0.0, all.len() as f64),
        }
    }
    /// The value at a place of the interval.
    fn value(&self, at: f64) -> Value {
        match self {
            Dimension::Range { low, high, log, step, whole } => {
                let x = match (log, step) {
                    (true, _) => at.exp(),
                    (_, Some(step)) => low + at.round().max(0.0) * step,
                    _ => at,
                };
                let x = x.clamp(*low, *high);
                if *whole { json!(x.round() as i64) } else { json!(x) }
            }
            Dimension::Choices(all) => all[(at as usize).min(all.len() - 1)].clone(),
        }
    }
    /// Where a value lies; none if it is none of this dimension's.
    fn place(&self, value: &Value) -> Option<f64> {
        match self {
            Dimension::Range { low, log, step, .. } => {
                let x = value.as_f64()?;
                let at = match (log, step) {
                    (true, _) => x.ln(),
                    (_, Some(step)) => (x - low) / step,
                    _ => x,
                };
                let (low, high) = self.interval();
                (low..=high).contains(&at).then(|| at.min(high.next_down()))
            }
            Dimension::Choices(all) => all.iter().position(|one| one == value).map(|i| i as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn space(text: &str) -> Result<Space> {
        Space::parse("space.toml", text)
    }

    #[test]
    fn what_is_no_space_is_refused() {
        for (text, words) in [
            ("", "no option"),
            ("lr = 1", "`lr`"),
            ("lr = { low = 1 }", "`low`, `high`"),
            ("lr = { low = 2, high = 1 }", "`low` is 2"),
            ("lr = { low = 0, high = 1, log = true }", "above 0"),
            ("lr = { low = 0, high = 1, step = 2 }", "`step`"),
            ("lr = { low = 1, high = 9, step = 2, log = true }", "no steps"),
            ("lr = { low = 'a', high = 1 }", "no number"),
            ("lr = { choices = [] }", "no choices"),
            ("lr = { choices = [1, 2, 1] }", "twice"),
            ("lr = { choices = [1], low = 1 }", "or `choices`"),
            ("lr = { lower = 1 }", "lower"),
            ("a = 1\nlr = {", "space.toml:2"),
        ] {
            let error = space(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn the_estimator_comes_closer() {
        let space = space("x = { low = -5.0, high = 5.0 }\ny = { choices = ['a', 'b', 'c'] }").unwrap();
        let run = |sampler| {
            let mut told = vec![];
            for number in 0..60 {
                let values = space.suggest(sampler, &told, number, 7).unwrap();
                let x = values["x"].as_f64().unwrap();
                let score = (x - 2.0).powi(2) + if values["y"] == "b" { 0.0 } else { 4.0 };
                told.push((values, score));
            }
            let late = &told[40..];
            late.iter().map(|(_, score)| score).sum::<f64>() / late.len() as f64
        };
        let (estimated, random) = (run(Sampler::Tpe), run(Sampler::Random));
        assert!(estimated < 0.5 * random, "{estimated}, at random {random}");
    }

    proptest! {
        #[test]
        fn values_are_in_the_space(seed: u64, number in 0usize..99) {
            let space = space("a = { low = 1, high = 4 }\nb = { low = 1, high = 1000, log = true }\n\
                c = { low = 0.0, high = 1.0, step = 0.3 }\nd = { low = 1e-6, high = 1e-2, log = true }\n\
                e = { choices = [true, 'x', 3] }\nf = { low = 2, high = 9, step = 3 }").unwrap();
            let values = space.suggest(Sampler::Random, &[], number, seed).unwrap();
            prop_assert_eq!(&values, &space.suggest(Sampler::Random, &[], number, seed).unwrap());
            prop_assert!((1..=4).contains(&values["a"].as_i64().unwrap()));
            prop_assert!((1..=1000).contains(&values["b"].as_i64().unwrap()));
            let c = values["c"].as_f64().unwrap() / 0.3;
            prop_assert!((c - c.round()).abs() < 1e-9 && (0.0..3.5).contains(&c));
            prop_assert!((1e-6..=1e-2).contains(&values["d"].as_f64().unwrap()));
            prop_assert!([2, 5, 8].contains(&values["f"].as_i64().unwrap()));
            for (key, dimension) in &space.dimensions {
                prop_assert!(dimension.place(&values[key]).is_some(), "{}", key);
            }
        }
    }
}
