//! The numbers that sum up an evaluation: named scores, of which a task says in which direction
//! they are better.
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value};

/// A score that a task computes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    /// Its name, in options and reports.
    pub name: &'static str,
    /// In which direction it is better.
    pub better: Better,
    /// How it is written for people.
    pub unit: Unit,
}

/// In which direction a score is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// More is better.
    More,
    /// Less is better.
    Less,
}

/// How a score is written for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A share, in percent.
    Share,
    /// A number.
    Number,
}

impl Metric {
    /// A share, of which more is better.
    pub const fn share(name: &'static str) -> Metric {
        Metric { name, better: Better::More, unit: Unit::Share }
    }
    /// A number, of which more is better.
    pub const fn number(name: &'static str) -> Metric {
        Metric { name, better: Better::More, unit: Unit::Number }
    }
    /// A loss, or what is counted like one: less is better.
    pub const fn loss(name: &'static str) -> Metric {
        Metric { name, better: Better::Less, unit: Unit::Number }
    }
    /// Whether one value is better than another; a NaN never is.
    pub fn is_better(&self, value: f64, than: f64) -> bool {
        let (a, b) = match self.better {
            Better::More => (value, than),
            Better::Less => (-value, -than),
        };
        a > b || (b.is_nan() && !a.is_nan())
    }
    /// A value, for people: `accuracy 81.25 %`, `perplexity 31.4159`.
    pub fn show(&self, value: f64) -> String {
        match self.unit {
            Unit::Share => format!("{} {:.2} %", self.name, 100.0 * value),
            Unit::Number => format!("{} {value:.4}", self.name),
        }
    }
}

/// Values by name, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scores(pub Vec<(String, f64)>);

impl Scores {
    /// One of them.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| *value)
    }
}
impl<const N: usize> From<[(&str, f64); N]> for Scores {
    fn from(scores: [(&str, f64); N]) -> Scores {
        Scores(scores.map(|(name, value)| (name.into(), value)).to_vec())
    }
}
impl Serialize for Scores {
    /// An object; what is no number is null.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        self.0.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
        map.end()
    }
}
impl<'de> Deserialize<'de> for Scores {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = Map::deserialize(deserializer)?;
        Ok(Scores(map.into_iter().map(|(name, v)| (name, v.as_f64().unwrap_or(f64::NAN))).collect()))
    }
}

/// A whole evaluation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics {
    /// The numbers that sum it up; the first is the mean loss.
    pub scores: Scores,
    /// Records of the data.
    pub examples: u64,
    /// What else the task has to say: classes, types of entities. Lists and objects, no numbers.
    pub details: Map<String, Value>,
}
impl Serialize for Metrics {
    /// One flat object: scores, `examples`, details.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.scores.0.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
        map.serialize_entry("examples", &self.examples)?;
        self.details.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
        map.end()
    }
}
impl<'de> Deserialize<'de> for Metrics {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut metrics = Metrics::default();
        for (name, value) in Map::deserialize(deserializer)? {
            match value {
                Value::Number(n) if name == "examples" => metrics.examples = n.as_u64().unwrap_or_default(),
                Value::Number(n) => metrics.scores.0.push((name, n.as_f64().unwrap_or(f64::NAN))),
                Value::Null => metrics.scores.0.push((name, f64::NAN)),
                other => drop(metrics.details.insert(name, other)),
            }
        }
        Ok(metrics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_direction_decides() {
        let (accuracy, loss) = (Metric::share("accuracy"), Metric::loss("loss"));
        assert!(accuracy.is_better(0.5, 0.4) && !accuracy.is_better(0.4, 0.5));
        assert!(loss.is_better(0.4, 0.5) && !loss.is_better(0.5, 0.4) && !loss.is_better(0.5, 0.5));
        assert!(loss.is_better(0.5, f64::NAN) && !loss.is_better(f64::NAN, 0.5));
        assert_eq!((accuracy.show(0.5), loss.show(0.5)), ("accuracy 50.00 %".into(), "loss 0.5000".into()));
    }

    #[test]
    fn json_is_flat() {
        let details = Map::from_iter([("classes".to_string(), serde_json::json!(["a"]))]);
        let metrics = Metrics { scores: [("loss", 0.5), ("f1", f64::NAN)].into(), examples: 3, details };
        let json = serde_json::to_string(&metrics).unwrap();
        assert_eq!(json, r#"{"loss":0.5,"f1":null,"examples":3,"classes":["a"]}"#);
        let read: Metrics = serde_json::from_str(&json).unwrap();
        assert_eq!((read.examples, read.details, read.scores.get("loss")), (3, metrics.details, Some(0.5)));
        assert!(read.scores.get("f1").unwrap().is_nan());
    }
}
