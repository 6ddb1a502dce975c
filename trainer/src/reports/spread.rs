//! What several runs have of one score.
use super::scores::significance::mean_interval;
use serde::Serialize;

/// The scores of several runs, summed up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// How many there are.
    pub runs: usize,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation, with n - 1; null of one run.
    pub deviation: Option<f64>,
    /// The lower end of the interval in which the mean lies with a confidence of 95 %; null of one
    /// run.
    pub low: Option<f64>,
    /// Its upper end.
    pub high: Option<f64>,
}

impl Spread {
    /// Of the scores of runs that differ in nothing but chance; `folds`, if they are those of a
    /// cross-validation, whose training data overlap: see [`mean_interval`]. Scores that are no
    /// numbers make a mean that is none.
    ///
    /// ```
    /// use engraft::reports::spread::Spread;
    /// let of_seeds = Spread::of(&[0.8, 0.9, 0.7, 0.8], false).unwrap();
    /// let of_folds = Spread::of(&[0.8, 0.9, 0.7, 0.8], true).unwrap();
    /// assert!((of_seeds.mean - 0.8).abs() < 1e-12 && of_folds.low < of_seeds.low);
    /// assert_eq!(Spread::of(&[0.5], false).unwrap().deviation, None);
    /// assert_eq!(Spread::of(&[], false), None);
    /// ```
    pub fn of(scores: &[f64], folds: bool) -> Option<Spread> {
        let n = scores.len() as f64;
        if scores.is_empty() {
            return None;
        }
        let mean = scores.iter().sum::<f64>() / n;
        let squares = scores.iter().map(|s| (s - mean) * (s - mean)).sum::<f64>();
        let deviation = (scores.len() > 1).then(|| (squares / (n - 1.0)).sqrt());
        // of k folds each is tested on 1 / k and learns from the rest
        let (test, train) = if folds { (1.0, n - 1.0) } else { (0.0, 1.0) };
        let interval = mean_interval(scores, test, train);
        let (low, high) = (interval.map(|i| i.low), interval.map(|i| i.high));
        Some(Spread { runs: scores.len(), mean, deviation, low, high })
    }
}
