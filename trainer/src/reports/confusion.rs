//! How well classes are told apart, all from the confusion matrix, with scikit-learn's definitions.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// How well one class is found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassScores {
    /// The class's name.
    pub label: String,
    /// Of the texts put in this class, the share that belongs there.
    pub precision: f64,
    /// Of the texts that belong there, the share put there.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
    /// Texts that belong there.
    pub support: u64,
}

/// Of so many classes at most a report has the whole matrix and every class; of more, what occurs.
pub const MATRIX: usize = 100;
/// Of so many classes at most the matrix is printed beside the table.
const COLUMNS: usize = 20;
/// The most rows of a table.
pub const ROWS: usize = 50;

/// Counts of true against predicted classes. Only what occurs is held, so that memory is that of
/// the classes and the texts and not of the pairs of classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion {
    /// Texts by (true class, predicted class).
    cells: BTreeMap<(u32, u32), u64>,
    /// Texts of each class.
    support: Vec<u64>,
    /// Texts put in each class.
    predicted: Vec<u64>,
}

impl Confusion {
    /// No counts yet, for `n` classes.
    pub fn new(n: usize) -> Self {
        Self { cells: BTreeMap::new(), support: vec![0; n], predicted: vec![0; n] }
    }

    /// Counts from two lists of equal length.
    pub fn of(n: usize, truth: &[u32], predicted: &[u32]) -> Self {
        assert_eq!(truth.len(), predicted.len(), "a prediction for every truth");
        let mut confusion = Self::new(n);
        truth.iter().zip(predicted).for_each(|(&t, &p)| confusion.add(t, p));
        confusion
    }

    /// Counts one text; both classes are below `n`.
    pub fn add(&mut self, truth: u32, predicted: u32) {
        self.add_all(truth, predicted, 1);
    }

    fn add_all(&mut self, truth: u32, predicted: u32, texts: u64) {
        self.support[truth as usize] += texts;
        self.predicted[predicted as usize] += texts;
        *self.cells.entry((truth, predicted)).or_default() += texts;
    }

    /// Number of classes.
    fn n(&self) -> usize {
        self.support.len()
    }

    /// Texts of one class that are put in another, or in the same one.
    fn cell(&self, truth: usize, predicted: usize) -> u64 {
        self.cells.get(&(truth as u32, predicted as u32)).copied().unwrap_or(0)
    }

    fn right(&self, class: usize) -> u64 {
        self.cell(class, class)
    }

    fn all_right(&self) -> u64 {
        self.cells.iter().filter(|((t, p), _)| t == p).map(|(_, texts)| texts).sum()
    }

    /// Whether there are texts of this class, or put in it.
    fn occurs(&self, class: usize) -> bool {
        self.support[class] + self.predicted[class] > 0
    }

    /// Number of texts.
    pub fn total(&self) -> u64 {
        self.cells.values().sum()
    }

    /// The share of right predictions; 0 of no texts.
    pub fn accuracy(&self) -> f64 {
        share(self.all_right(), self.total())
    }

    /// 2 right / (true + predicted) of one class; 0 where there are neither (`zero_division=0`).
    fn f1(&self, class: usize) -> f64 {
        share(2 * self.right(class), self.support[class] + self.predicted[class])
    }

    /// The mean F1 of the classes that occur, in truth or in prediction, as
    /// `f1_score(average="macro", zero_division=0)`.
    pub fn macro_f1(&self) -> f64 {
        let present: Vec<usize> = (0..self.n()).filter(|&class| self.occurs(class)).collect();
        let sum: f64 = present.iter().map(|&class| self.f1(class)).sum();
        if present.is_empty() { 0.0 } else { sum / present.len() as f64 }
    }

    /// The F1 of the second of two classes, which GLUE calls the positive one, as `f1_score` by
    /// default; none where there are not two.
    pub fn binary_f1(&self) -> Option<f64> {
        (self.n() == 2).then(|| self.f1(1))
    }

    /// F1 over all decisions: one label per text, one prediction per text, so precision, recall and
    /// F1 are all the accuracy.
    pub fn micro_f1(&self) -> f64 {
        self.accuracy()
    }

    /// The Matthews correlation for any number of classes (Gorodkin 2004), as `matthews_corrcoef`:
    /// (c s - sum p_k t_k) / sqrt((s^2 - sum p_k^2) (s^2 - sum t_k^2)) with s texts, c right, t_k
    /// of class k and p_k put there; 0 where a factor of the root is 0.
    pub fn matthews(&self) -> f64 {
        let dot = |a: &[u64], b: &[u64]| -> i128 {
            a.iter().zip(b).map(|(a, b)| i128::from(*a) * i128::from(*b)).sum()
        };
        let (truth, predicted) = (&self.support, &self.predicted);
        let (s, c) = (i128::from(self.total()), i128::from(self.all_right()));
        let covariance = c * s - dot(predicted, truth);
        let spread = (s * s - dot(predicted, predicted), s * s - dot(truth, truth));
        if spread.0 == 0 || spread.1 == 0 {
            return 0.0;
        }
        covariance as f64 / (spread.0 as f64 * spread.1 as f64).sqrt()
    }

    /// How well each class is found; `labels` names them. Of more than [`MATRIX`] classes those
    /// that occur, in truth or in prediction.
    pub fn classes(&self, labels: &[String]) -> Vec<ClassScores> {
        assert_eq!(labels.len(), self.n(), "a name for every class");
        let listed = (0..self.n()).filter(|&k| self.n() <= MATRIX || self.occurs(k));
        listed.map(|k| self.class(k, &labels[k])).collect()
    }

    fn class(&self, k: usize, label: &str) -> ClassScores {
        ClassScores {
            label: label.into(),
            precision: share(self.right(k), self.predicted[k]),
            recall: share(self.right(k), self.support[k]),
            f1: self.f1(k),
            support: self.support[k],
        }
    }

    /// What a report has of it: `classes`, and `confusion`, a row for each true class with a count
    /// for each predicted one. Of more than [`MATRIX`] classes there is `confusion_pairs` in its
    /// place, [true label, predicted label, count] for each pair that occurs.
    pub fn details(&self, labels: &[String]) -> Map<String, Value> {
        let mut details = Map::from_iter([("classes".to_string(), json!(self.classes(labels)))]);
        if self.n() <= MATRIX {
            let row = |t| (0..self.n()).map(|p| self.cell(t, p)).collect();
            let rows: Vec<Vec<u64>> = (0..self.n()).map(row).collect();
            details.insert("confusion".into(), json!(rows));
        } else {
            let pair =
                |((t, p), n): (&(u32, u32), &u64)| json!([labels[*t as usize], labels[*p as usize], n]);
            details.insert("confusion_pairs".into(), self.cells.iter().map(pair).collect());
        }
        details
    }

    /// A table for people: the scores of each class, and what its texts were taken for. Of more
    /// than [`ROWS`] classes those with the most texts.
    pub fn table(&self, labels: &[String]) -> Vec<String> {
        let mut listed: Vec<usize> = (0..self.n()).collect();
        if self.n() > ROWS {
            listed.sort_by_key(|&k| std::cmp::Reverse(self.support[k]));
            listed.truncate(ROWS);
        }
        let is_matrix = self.n() <= COLUMNS;
        let last = |t: usize| -> String {
            if is_matrix {
                return (0..self.n()).map(|p| format!("{:>6}", self.cell(t, p))).collect();
            }
            let wrong = self.cells.range((t as u32, 0)..=(t as u32, u32::MAX)).filter(|((t, p), _)| t != p);
            // of equal ones the first: `max_by_key` would take the last
            match wrong.rev().max_by_key(|(_, texts)| **texts) {
                Some(((_, p), texts)) => format!("{} ({texts})", labels[*p as usize]),
                None => "-".into(),
            }
        };
        let width = listed.iter().map(|&k| labels[k].chars().count()).max().unwrap_or(0).max(5);
        let title = if is_matrix { "predicted as" } else { "most often mistaken for" };
        let mut lines = vec![format!("{:width$}  precision  recall      F1  texts   {title}", "label")];
        for &k in &listed {
            let ClassScores { label, precision, recall, f1, support } = self.class(k, &labels[k]);
            let gap = if is_matrix { "" } else { " " };
            let last = last(k);
            lines.push(format!(
                "{label:width$}  {precision:>9.4}  {recall:.4}  {f1:.4}  {support:>5}  {gap}{last}"
            ));
        }
        lines.extend(more(self.n()));
        lines
    }
}

/// A last line for a table of which only [`ROWS`] rows are shown.
pub fn more(rows: usize) -> Option<String> {
    (rows > ROWS).then(|| format!("and {} more with fewer", rows - ROWS))
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        truth: &'static [u32],
        predicted: &'static [u32],
        accuracy: f64,
        macro_f1: f64,
        matthews: f64,
        precision: [f64; 3],
        recall: [f64; 3],
        f1: [f64; 3],
    }

    /// scikit-learn 1.9.1: `accuracy_score(t, p)`,
    /// `f1_score(t, p, average="macro", zero_division=0)`,
    /// `matthews_corrcoef(t, p)`,
    /// `precision_recall_fscore_support(t, p, labels=range(3), zero_division=0)`.
    const CASES: [Case; 5] = [
        Case {
            truth: &[0, 1, 1, 0, 1, 0, 1, 1],
            predicted: &[0, 1, 0, 0, 1, 1, 1, 1],
            accuracy: 0.75,
            macro_f1: 0.7333333333333334,
            matthews: 0.4666666666666667,
            precision: [2.0 / 3.0, 0.8, 0.0],
            recall: [2.0 / 3.0, 0.8, 0.0],
            f1: [2.0 / 3.0, 0.8, 0.0],
        },
        Case {
            truth: &[0, 1, 2, 2, 1, 0, 2, 1, 0, 2],
            predicted: &[0, 2, 2, 2, 1, 0, 1, 1, 2, 0],
            accuracy: 0.6,
            macro_f1: 0.611111111111111,
            matthews: 0.3939393939393939,
            precision: [2.0 / 3.0, 2.0 / 3.0, 0.5],
            recall: [2.0 / 3.0, 2.0 / 3.0, 0.5],
            f1: [2.0 / 3.0, 2.0 / 3.0, 0.5],
        },
        Case {
            truth: &[0, 0, 2, 2, 0],
            predicted: &[0, 1, 2, 0, 0],
            accuracy: 0.6,
            macro_f1: 0.4444444444444444,
            matthews: 0.3086066999241838,
            precision: [2.0 / 3.0, 0.0, 1.0],
            recall: [2.0 / 3.0, 0.0, 0.5],
            f1: [2.0 / 3.0, 0.0, 2.0 / 3.0],
        },
        Case {
            truth: &[0, 1, 1, 0],
            predicted: &[1, 1, 1, 1],
            accuracy: 0.5,
            macro_f1: 0.3333333333333333,
            matthews: 0.0,
            precision: [0.0, 0.5, 0.0],
            recall: [0.0, 1.0, 0.0],
            f1: [0.0, 2.0 / 3.0, 0.0],
        },
        Case {
            truth: &[1, 1],
            predicted: &[1, 1],
            accuracy: 1.0,
            macro_f1: 1.0,
            matthews: 0.0,
            precision: [0.0, 1.0, 0.0],
            recall: [0.0, 1.0, 0.0],
            f1: [0.0, 1.0, 0.0],
        },
    ];

    fn names() -> Vec<String> {
        ["a", "b", "c"].map(String::from).to_vec()
    }

    #[test]
    fn equals_scikit_learn() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-14, "{a}, expected {b}");
        for case in &CASES {
            let c = Confusion::of(3, case.truth, case.predicted);
            near(c.accuracy(), case.accuracy);
            near(c.macro_f1(), case.macro_f1);
            near(c.micro_f1(), case.accuracy);
            near(c.matthews(), case.matthews);
            for (k, class) in c.classes(&names()).iter().enumerate() {
                near(class.precision, case.precision[k]);
                near(class.recall, case.recall[k]);
                near(class.f1, case.f1[k]);
            }
        }
        let details = Confusion::of(3, CASES[1].truth, CASES[1].predicted).details(&names());
        let matrix = json!([[2, 0, 1], [0, 2, 1], [1, 1, 2]]);
        assert_eq!(details["confusion"], matrix, "confusion_matrix(t, p)");
    }

    #[test]
    fn nothing_to_count_is_zero() {
        let c = Confusion::new(3);
        assert_eq!((c.accuracy(), c.macro_f1(), c.matthews(), c.total()), (0.0, 0.0, 0.0, 0));
    }

    #[test]
    fn many_texts_do_not_overflow() {
        let mut confusion = Confusion::new(2);
        (0..2).for_each(|k| confusion.add_all(k, k, 1 << 40));
        assert_eq!(confusion.matthews(), 1.0);
    }

    #[test]
    fn many_classes_cost_what_occurs() {
        let n = 1 << 24; // a matrix would have 2^48 counts
        let labels: Vec<String> = vec![String::new(); n];
        let c = Confusion::of(n, &[5, 5, 7], &[5, 9, 7]);
        assert_eq!((c.accuracy(), c.total()), (2.0 / 3.0, 3));
        assert_eq!(c.details(&labels)["classes"].as_array().unwrap().len(), 3);

        let labels: Vec<String> = (0..MATRIX + 1).map(|k| format!("c{k}")).collect();
        let (truth, predicted) = ([3, 3, 3, 3, 4], [3, 8, 7, 7, 4]);
        let c = Confusion::of(labels.len(), &truth, &predicted);
        let details = c.details(&labels);
        let pairs = json!([["c3", "c3", 1], ["c3", "c7", 2], ["c3", "c8", 1], ["c4", "c4", 1]]);
        assert_eq!((details.get("confusion"), &details["confusion_pairs"]), (None, &pairs));
        let listed: Vec<_> = c.classes(&labels).into_iter().map(|c| c.label).collect();
        assert_eq!(listed, ["c3", "c4", "c7", "c8"]);
        let table = c.table(&labels);
        assert_eq!(table.len(), 1 + ROWS + 1);
        assert_eq!(table[1], "c3        1.0000  0.2500  0.4000      4   c7 (2)");
        assert_eq!(table[ROWS + 1], "and 51 more with fewer");
        let few = Confusion::of(3, CASES[1].truth, CASES[1].predicted).table(&names());
        assert_eq!(few[0], "label  precision  recall      F1  texts   predicted as");
        assert_eq!(few[3], "c         0.5000  0.5000  0.5000      4       1     1     2");
    }
}
