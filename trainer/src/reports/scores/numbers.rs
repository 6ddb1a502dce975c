//! How near numbers come to numbers: what GLUE reports of STS-B, and the errors of a regression.
//!
//! ```
//! use engraft::reports::scores::numbers::Regression;
//! let predicted = [1.2, 1.9, 3.0, 3.9, 5.0, 3.0];
//! let truth = [1.0, 2.0, 2.0, 4.0, 5.5, 3.0];
//! let scores = Regression::of(&predicted, &truth).scores();
//! assert!((scores.get("pearson").unwrap() - 0.958_465_227_708_383_6).abs() < 1e-12);
//!
//! // a correlation with what never changes is not defined: null in JSON
//! assert_eq!(Regression::of(&predicted, &[2.0; 6]).pearson, None);
//! ```
use crate::reports::metrics::{Metric, Scores};

/// The scores, in the order in which [`Regression::scores`] has them.
pub const METRICS: [Metric; 5] = [
    Metric::number("pearson"),
    Metric::number("spearmanr"),
    Metric::loss("mse"),
    Metric::loss("mae"),
    Metric::number("r2"),
];

/// Numbers that were predicted, against those that are true. What is not defined is none: of no
/// numbers, of numbers that are NaN, of sums beyond `f64`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Regression {
    /// [`pearson`].
    pub pearson: Option<f64>,
    /// [`spearman`].
    pub spearmanr: Option<f64>,
    /// The mean of (y - z)^2, for truths y and predictions z.
    pub mse: Option<f64>,
    /// The mean of |y - z|.
    pub mae: Option<f64>,
    /// 1 - sum (y - z)^2 / sum (y - mean y)^2: the share of the truth's variance that is explained.
    /// None where the truth does not vary; scikit-learn says 0 or 1 there, by `force_finite`.
    pub r2: Option<f64>,
}

impl Regression {
    /// The scores of two lists of equal length.
    pub fn of(predicted: &[f64], truth: &[f64]) -> Regression {
        assert_eq!(truth.len(), predicted.len(), "a prediction for every truth");
        let n = truth.len() as f64;
        let sum = |f: fn(f64) -> f64| truth.iter().zip(predicted).map(|(y, z)| f(y - z)).sum::<f64>();
        let (squares, sizes) = (sum(|d| d * d), sum(f64::abs));
        let variation: f64 = deviations(truth).iter().map(|d| d * d).sum();
        Regression {
            pearson: pearson(predicted, truth),
            spearmanr: spearman(predicted, truth),
            mse: finite(squares / n),
            mae: finite(sizes / n),
            r2: if is_constant(truth) { None } else { finite(1.0 - squares / variation) },
        }
    }
    /// Them all, by their names.
    pub fn scores(&self) -> Scores {
        super::named(&METRICS, [self.pearson, self.spearmanr, self.mse, self.mae, self.r2])
    }
}

/// Pearson's correlation, sum a b / sqrt(sum a^2 sum b^2) with a and b the distances from the
/// means, as `scipy.stats.pearsonr`; none where a side is constant or has fewer than two numbers.
pub fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    assert_eq!(x.len(), y.len(), "two lists of equal length");
    if is_constant(x) || is_constant(y) {
        return None;
    }
    let (a, b) = (deviations(x), deviations(y));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let (a, b) = (scaled(a), scaled(b));
    finite(dot(&a, &b) / (dot(&a, &a).sqrt() * dot(&b, &b).sqrt())).map(|r| r.clamp(-1.0, 1.0))
}

/// Spearman's correlation: [`pearson`] of [`ranks`], as `scipy.stats.spearmanr`.
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    assert_eq!(x.len(), y.len(), "two lists of equal length");
    if x.iter().chain(y).any(|v| v.is_nan()) {
        return None;
    }
    pearson(&ranks(x), &ranks(y))
}

/// The rank of each number, from one; equal numbers have the mean of their ranks. A NaN comes last.
pub fn ranks(x: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    let key = |i: usize| x[i] + 0.0; // -0 is 0
    order.sort_by(|&i, &j| key(i).total_cmp(&key(j)));
    let mut ranks = vec![0.0; x.len()];
    let mut first = 0;
    for equal in order.chunk_by(|&i, &j| x[i] == x[j]) {
        let mean = first as f64 + (equal.len() + 1) as f64 / 2.0;
        equal.iter().for_each(|&i| ranks[i] = mean);
        first += equal.len();
    }
    ranks
}

fn is_constant(x: &[f64]) -> bool {
    x.iter().all(|v| *v == x[0])
}
/// What a number is away from the mean. The mean is corrected by that of the distances from it, so
/// that what varies little around a large number loses no digits.
fn deviations(x: &[f64]) -> Vec<f64> {
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let first = mean(x);
    let away: Vec<f64> = x.iter().map(|v| v - first).collect();
    let rest = mean(&away);
    away.iter().map(|v| v - rest).collect()
}
/// The same direction, with 1 as the largest number: squares stay within `f64`.
fn scaled(x: Vec<f64>) -> Vec<f64> {
    let largest = x.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    x.into_iter().map(|v| v / largest).collect()
}
fn finite(x: f64) -> Option<f64> {
    x.is_finite().then_some(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: Option<f64>, b: f64) {
        let a = a.unwrap();
        assert!((a - b).abs() < 1e-12, "{a}, expected {b}");
    }

    #[test]
    fn golden() {
        let (x, y) = ([1.0, 2.0, 2.0, 4.0, 5.5, 3.0], [1.2, 1.9, 3.0, 3.9, 5.0, 3.0]);
        near(pearson(&x, &y), 0.9584652277083836);
        near(spearman(&x, &y), 0.9558823529411764);
        let scores = Regression::of(&y, &x);
        near(scores.mse, 1.31 / 6.0);
        near(scores.mae, 1.9 / 6.0);
        assert_eq!(ranks(&x), [1.0, 2.5, 2.5, 5.0, 6.0, 4.0]);
    }
    #[test]
    fn what_is_not_defined_is_none() {
        assert_eq!(Regression::of(&[], &[]), Regression::default());
        let one = Regression::of(&[2.0], &[1.0]);
        assert_eq!(
            (one.pearson, one.spearmanr, one.mse, one.mae, one.r2),
            (None, None, Some(1.0), Some(1.0), None)
        );
        assert_eq!(Regression::of(&[f64::NAN, 1.0], &[1.0, 2.0]), Regression::default());
        // the mean of these is not 0.1
        assert_eq!(pearson(&[0.1; 3], &[1.0, 2.0, 3.0]), None);
        let json = serde_json::to_string(&one.scores()).unwrap();
        assert_eq!(json, r#"{"pearson":null,"spearmanr":null,"mse":1.0,"mae":1.0,"r2":null}"#);
    }
    #[test]
    fn large_and_small_numbers_lose_nothing() {
        let (x, y) = ([1e12, 1e12 + 1.0, 1e12 + 3.0], [1e-200, 2e-200, 4e-200]);
        near(pearson(&x, &y), 1.0);
        near(pearson(&[1e200, 2e200, 4e200], &y), 1.0);
        near(spearman(&[f64::NEG_INFINITY, 0.0, f64::INFINITY], &y), 1.0);
    }
}
