//! How well classes are told apart, all from the confusion matrix, with scikit-learn's definitions.

use serde::{Deserialize, Serialize};

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

/// Counts of true against predicted classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion {
    n: usize,
    counts: Vec<u64>, // (n, n), row: truth
}

impl Confusion {
    /// No counts yet, for `n` classes.
    pub fn new(n: usize) -> Self {
        Self { n, counts: vec![0; n * n] }
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
        assert!((predicted as usize) < self.n, "class {predicted} of {}", self.n);
        self.counts[truth as usize * self.n + predicted as usize] += 1;
    }

    fn right(&self, class: usize) -> u64 {
        self.counts[class * self.n + class]
    }

    fn all_right(&self) -> u64 {
        (0..self.n).map(|class| self.right(class)).sum()
    }

    /// Texts of this class.
    fn support(&self, class: usize) -> u64 {
        self.counts[class * self.n..][..self.n].iter().sum()
    }

    /// Texts put in this class.
    fn predicted(&self, class: usize) -> u64 {
        self.counts.iter().skip(class).step_by(self.n).sum()
    }

    /// Number of texts.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The share of right predictions; 0 of no texts.
    pub fn accuracy(&self) -> f64 {
        share(self.all_right(), self.total())
    }

    /// 2 right / (true + predicted) of one class; 0 where there are neither (`zero_division=0`).
    fn f1(&self, class: usize) -> f64 {
        share(2 * self.right(class), self.support(class) + self.predicted(class))
    }

    /// The mean F1 of the classes that occur, in truth or in prediction, as
    /// `f1_score(average="macro", zero_division=0)`.
    pub fn macro_f1(&self) -> f64 {
        let occurs = |&class: &usize| self.support(class) + self.predicted(class) > 0;
        let present: Vec<usize> = (0..self.n).filter(occurs).collect();
        let sum: f64 = present.iter().map(|&class| self.f1(class)).sum();
        if present.is_empty() { 0.0 } else { sum / present.len() as f64 }
    }

    /// F1 over all decisions: one label per text, one prediction per text, so precision, recall and F1 are
    /// all the accuracy.
    pub fn micro_f1(&self) -> f64 {
        self.accuracy()
    }

    /// The Matthews correlation for any number of classes (Gorodkin 2004), as `matthews_corrcoef`:
    /// (c s - sum p_k t_k) / sqrt((s^2 - sum p_k^2) (s^2 - sum t_k^2)) with s texts, c right, t_k of class k
    /// and p_k put there; 0 where a factor of the root is 0.
    pub fn matthews(&self) -> f64 {
        let dot = |a: &dyn Fn(usize) -> u64, b: &dyn Fn(usize) -> u64| -> i128 {
            (0..self.n).map(|k| i128::from(a(k)) * i128::from(b(k))).sum()
        };
        let (truth, predicted) = (|k| self.support(k), |k| self.predicted(k));
        let (s, c) = (i128::from(self.total()), i128::from(self.all_right()));
        let covariance = c * s - dot(&predicted, &truth);
        let spread = (s * s - dot(&predicted, &predicted), s * s - dot(&truth, &truth));
        if spread.0 == 0 || spread.1 == 0 {
            return 0.0;
        }
        covariance as f64 / (spread.0 as f64 * spread.1 as f64).sqrt()
    }

    /// How well each class is found; `labels` names them.
    pub fn classes(&self, labels: &[String]) -> Vec<ClassScores> {
        assert_eq!(labels.len(), self.n, "a name for every class");
        let class = |(k, label): (usize, &String)| ClassScores {
            label: label.clone(),
            precision: share(self.right(k), self.predicted(k)),
            recall: share(self.right(k), self.support(k)),
            f1: self.f1(k),
            support: self.support(k),
        };
        labels.iter().enumerate().map(class).collect()
    }

    /// Rows: the true class; columns: the predicted one.
    pub fn rows(&self) -> Vec<Vec<u64>> {
        self.counts.chunks(self.n.max(1)).map(<[u64]>::to_vec).collect()
    }
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

    /// scikit-learn 1.9.1: `accuracy_score(t, p)`, `f1_score(t, p, average="macro", zero_division=0)`,
    /// `matthews_corrcoef(t, p)`, `precision_recall_fscore_support(t, p, labels=range(3), zero_division=0)`.
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
        let confusion = Confusion::of(3, CASES[1].truth, CASES[1].predicted);
        assert_eq!(confusion.rows(), [[2, 0, 1], [0, 2, 1], [1, 1, 2]], "confusion_matrix(t, p)");
    }

    #[test]
    fn nothing_to_count_is_zero() {
        let c = Confusion::new(3);
        assert_eq!((c.accuracy(), c.macro_f1(), c.matthews(), c.total()), (0.0, 0.0, 0.0, 0));
    }

    #[test]
    fn many_texts_do_not_overflow() {
        let confusion = Confusion { n: 2, counts: vec![1 << 40, 0, 0, 1 << 40] };
        assert_eq!(confusion.matthews(), 1.0);
    }
}
