//! Scores as pure functions, each equal to that of the library whose name it has: every file has
//! its formula, its source and an example. Classes stand in [`super::confusion`], entities without
//! a scheme in [`super::entities`].
//!
//! | file | scores | as in |
//! |---|---|---|
//! | [`numbers`] | Pearson, Spearman, squared and absolute error, R2 | scipy, scikit-learn |
//! | [`label_sets`] | F1, exact match and Hamming loss of several labels | scikit-learn |
//! | [`schemes`] | strict entities of IOB1, IOB2, IOE2, IOBES and BILOU | seqeval |
//! | [`squad`] | exact match and F1 of answers | SQuAD 1.1 and 2.0 |
//! | [`rouge`] with [`porter`] | ROUGE-1, -2, -L, -Lsum | rouge_score, NLTK |
//! | [`bleu`], [`chrf`] | BLEU, chrF2, chrF2++ | sacreBLEU |
//! | [`significance`] | intervals, and whether two runs differ | scipy, sacreBLEU |
//! | [`folds`] | the parts of a cross-validation | scikit-learn |
//!
//! What is not defined is none, and null in JSON.
pub mod bleu;
pub mod chrf;
pub mod folds;
pub mod label_sets;
mod ngrams;
pub mod numbers;
pub mod porter;
pub mod rouge;
pub mod schemes;
pub mod significance;
pub mod squad;

use super::metrics::{Metric, Scores};

/// Values under the names of their metrics; what is none is NaN there, which JSON has as null.
fn named(metrics: &[Metric], values: impl IntoIterator<Item = Option<f64>>) -> Scores {
    let pairs = metrics.iter().zip(values);
    Scores(pairs.map(|(metric, value)| (metric.name.into(), value.unwrap_or(f64::NAN))).collect())
}

/// sacreBLEU's line of settings: the number of references (`var` if segments differ), what is
/// special to a score, and whose version it is.
fn signature<R: AsRef<[S]>, S>(references: &[R], settings: &str) -> String {
    let mut numbers = references.iter().map(|r| r.as_ref().len());
    let first = numbers.next().unwrap_or(0);
    let nrefs = if numbers.all(|n| n == first) { first.to_string() } else { "var".into() };
    format!("nrefs:{nrefs}|{settings}|version:engraft-{}", env!("CARGO_PKG_VERSION"))
}
