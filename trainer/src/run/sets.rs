//! Evaluations on several data sets as one: that on the first, with the scores of each other one
//! under their names with its name behind them, as `accuracy_NAME`.
use super::evaluate::{Encoded, Found};
use serde_json::{Map, json};

/// Where all scores of each data set are, by its name, among what else an evaluation says.
pub const SETS: &str = "sets";

/// What was found on a data set, with what was found on the others beside it.
pub(super) fn together(first: Found, on: &Encoded, others: Vec<Found>) -> Found {
    if on.others.is_empty() {
        return first;
    }
    let own = on.name.clone().unwrap_or_default();
    let mut sets = Map::from_iter([(own, json!(first.metrics))]);
    let mut all = first;
    for (set, found) in on.others.iter().zip(others) {
        let name = set.name.clone().unwrap_or_default();
        let scores = found.metrics.scores.0.iter().map(|(score, value)| (format!("{score}_{name}"), *value));
        all.metrics.scores.0.extend(scores);
        all.batches += found.batches;
        all.seconds += found.seconds;
        sets.insert(name, json!(found.metrics));
    }
    all.metrics.details.insert(SETS.into(), sets.into());
    all
}

impl Encoded {
    /// Itself, and the data sets beside it.
    pub fn sets(&self) -> impl Iterator<Item = &Encoded> {
        std::iter::once(self).chain(&self.others)
    }
}
