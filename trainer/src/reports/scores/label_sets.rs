//! How well sets of labels are told, where a text has any number of them: scikit-learn's
//! definitions of F1, exact match and Hamming loss, with `zero_division=0`.
//!
//! ```
//! use engraft::reports::scores::label_sets::LabelSets;
//! let mut sets = LabelSets::new(3); // three labels
//! sets.add(&[0, 2], &[0]); // truth, prediction
//! sets.add(&[], &[]);
//! assert_eq!(sets.f1(), 2.0 / 3.0);
//! assert_eq!(sets.accuracy(), Some(0.5)); // the whole set is right
//! ```
use super::ngrams::share;
use crate::reports::metrics::{Better, Metric, Scores};

/// The scores, in the order in which [`LabelSets::scores`] has them; `f1` is the micro average.
pub const METRICS: [Metric; 8] = [
    Metric::share("f1"),
    Metric::share("macro_f1"),
    Metric::share("weighted_f1"),
    Metric::share("samples_f1"),
    Metric::share("precision"),
    Metric::share("recall"),
    Metric::share("accuracy"),
    Metric { better: Better::Less, ..Metric::share("hamming_loss") },
];

/// Texts with a label, texts for which it was predicted, and texts with both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Texts that have it.
    pub truth: u64,
    /// Texts for which it was predicted.
    pub predicted: u64,
    /// Texts with both.
    pub right: u64,
}
impl Counts {
    /// Of the predictions, the share that is right.
    pub fn precision(&self) -> f64 {
        share(self.right as f64, self.predicted as f64)
    }
    /// Of what is to be found, the share that was predicted.
    pub fn recall(&self) -> f64 {
        share(self.right as f64, self.truth as f64)
    }
    /// What is right, predicted and true: what [`f1`](super::significance::f1) resamples.
    pub fn statistics(&self) -> [f64; 3] {
        [self.right, self.predicted, self.truth].map(|n| n as f64)
    }
    /// 2 right / (truth + predicted); 0 where there are neither.
    pub fn f1(&self) -> f64 {
        share(2.0 * self.right as f64, (self.truth + self.predicted) as f64)
    }
}

/// Counts over texts.
#[derive(Debug, Clone)]
pub struct LabelSets {
    labels: Vec<Counts>,
    texts: u64,
    /// Texts with exactly the right set.
    exact: u64,
    /// The sum of each text's F1.
    f1: f64,
}

impl LabelSets {
    /// No texts yet, for `n` labels.
    pub fn new(n: usize) -> LabelSets {
        LabelSets { labels: vec![Counts::default(); n], texts: 0, exact: 0, f1: 0.0 }
    }
    /// Counts a text: its labels and those predicted, all below `n`, in any order. What stands
    /// twice counts once.
    pub fn add(&mut self, truth: &[u32], predicted: &[u32]) {
        let set = |labels: &[u32]| {
            let mut labels = labels.to_vec();
            labels.sort_unstable();
            labels.dedup();
            labels
        };
        let (truth, predicted) = (set(truth), set(predicted));
        let right: Vec<u32> = truth.iter().filter(|l| predicted.binary_search(l).is_ok()).copied().collect();
        truth.iter().for_each(|l| self.labels[*l as usize].truth += 1);
        predicted.iter().for_each(|l| self.labels[*l as usize].predicted += 1);
        right.iter().for_each(|l| self.labels[*l as usize].right += 1);
        let number = |labels: &[u32]| labels.len() as u64;
        let own = Counts { truth: number(&truth), predicted: number(&predicted), right: number(&right) };
        self.f1 += own.f1();
        self.texts += 1;
        self.exact += u64::from(truth == predicted);
    }
    /// Texts.
    pub fn texts(&self) -> u64 {
        self.texts
    }
    /// Each label by itself.
    pub fn labels(&self) -> &[Counts] {
        &self.labels
    }
    /// All labels of all texts together.
    pub fn micro(&self) -> Counts {
        self.labels.iter().fold(Counts::default(), |a, b| Counts {
            truth: a.truth + b.truth,
            predicted: a.predicted + b.predicted,
            right: a.right + b.right,
        })
    }
    /// The F1 of all labels of all texts together: the micro average.
    pub fn f1(&self) -> f64 {
        self.micro().f1()
    }
    /// The mean F1 of all labels, those that never occur included.
    pub fn macro_f1(&self) -> f64 {
        share(self.labels.iter().map(Counts::f1).sum(), self.labels.len() as f64)
    }
    /// The mean F1 of all labels, weighted by how many texts have them.
    pub fn weighted_f1(&self) -> f64 {
        let sum = self.labels.iter().map(|l| l.f1() * l.truth as f64).sum();
        share(sum, self.micro().truth as f64)
    }
    /// The mean over texts of their own F1, which is 0 where both sets are empty; none of no texts.
    pub fn samples_f1(&self) -> Option<f64> {
        self.mean(self.f1)
    }
    /// The share of texts whose set is right to the last label; none of no texts.
    pub fn accuracy(&self) -> Option<f64> {
        self.mean(self.exact as f64)
    }
    /// The share of wrong decisions among all, one for every text and label; none of no decisions.
    pub fn hamming_loss(&self) -> Option<f64> {
        let micro = self.micro();
        let wrong = micro.truth + micro.predicted - 2 * micro.right;
        let decisions = self.texts as f64 * self.labels.len() as f64;
        (decisions > 0.0).then(|| wrong as f64 / decisions)
    }
    fn mean(&self, sum: f64) -> Option<f64> {
        (self.texts > 0).then(|| sum / self.texts as f64)
    }
    /// Them all, by their names.
    pub fn scores(&self) -> Scores {
        let micro = self.micro();
        let values = [
            Some(self.f1()),
            Some(self.macro_f1()),
            Some(self.weighted_f1()),
            self.samples_f1(),
            Some(micro.precision()),
            Some(micro.recall()),
            self.accuracy(),
            self.hamming_loss(),
        ];
        super::named(&METRICS, values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        let truth: [&[u32]; 4] = [&[0, 2], &[1], &[], &[1, 0]];
        let predicted: [&[u32]; 4] = [&[0], &[2, 1, 1], &[], &[0]];
        let mut sets = LabelSets::new(3);
        truth.iter().zip(predicted).for_each(|(t, p)| sets.add(t, p));
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a}, expected {b}");
        near(sets.f1(), 2.0 / 3.0);
        near(sets.macro_f1(), 5.0 / 9.0);
        near(sets.weighted_f1(), 2.0 / 3.0);
        near(sets.samples_f1().unwrap(), 0.5);
        near(sets.accuracy().unwrap(), 0.25);
        near(sets.hamming_loss().unwrap(), 0.25);
        assert_eq!(sets.labels()[1], Counts { truth: 2, predicted: 1, right: 1 });
        assert_eq!(sets.micro().statistics(), [3.0, 4.0, 5.0]);
    }
    #[test]
    fn nothing_to_count_is_null_or_zero() {
        let json = serde_json::to_value(LabelSets::new(2).scores()).unwrap();
        assert_eq!((&json["f1"], &json["accuracy"]), (&0.0.into(), &serde_json::Value::Null));
        assert_eq!(LabelSets::new(0).hamming_loss(), None);
    }
}
