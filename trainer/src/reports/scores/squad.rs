//! Exact match and F1 of extracted answers: the scoring of SQuAD 1.1 and of SQuAD 2.0 (Rajpurkar
//! et al. 2016, 2018), in percent, as the official scripts and `transformers`' `squad_metrics`.
//!
//! ```
//! use engraft::reports::scores::squad::{self, Question};
//! let questions = [
//!     Question { answers: vec!["the Broncos", "Denver Broncos"], prediction: Some("Denver") },
//!     Question { answers: vec![], prediction: Some("") }, // it has no answer, and none was given
//! ];
//! let scores = squad::v2(&questions, Some(&[-3.5, 2.0]), None).unwrap();
//! assert_eq!((scores.exact, scores.no_answer.unwrap().exact), (50.0, 100.0));
//! ```
use crate::reports::metrics::{Better, Metric, Scores, Unit};
use regex::Regex;
use std::{collections::HashMap, sync::LazyLock};

/// The scores of [`V1::scores`], in its order.
pub const V1_METRICS: [Metric; 2] = [Metric::number("exact_match"), Metric::number("f1")];
/// The scores of [`V2::scores`], in its order.
pub const V2_METRICS: [Metric; 13] = [
    Metric::number("exact"),
    Metric::number("f1"),
    Metric::number("total"),
    Metric::number("HasAns_exact"),
    Metric::number("HasAns_f1"),
    Metric::number("HasAns_total"),
    Metric::number("NoAns_exact"),
    Metric::number("NoAns_f1"),
    Metric::number("NoAns_total"),
    Metric::number("best_exact"),
    Metric { name: "best_exact_thresh", better: Better::Less, unit: Unit::Number },
    Metric::number("best_f1"),
    Metric { name: "best_f1_thresh", better: Better::Less, unit: Unit::Number },
];

/// A question: its true answers and the one that was given.
#[derive(Debug, Clone, PartialEq)]
pub struct Question<'a> {
    /// Every answer that is right; none where the text does not say it (SQuAD 2.0).
    pub answers: Vec<&'a str>,
    /// What was predicted: empty for "no answer", none where nothing was predicted, which is never
    /// right.
    pub prediction: Option<&'a str>,
}

/// How well one question is answered: fractions, of which the best true answer counts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Answered {
    /// 1 if the answer is a true one, after [`normalise`].
    pub exact: f64,
    /// F1 of the words that it shares with a true one.
    pub f1: f64,
}

/// The scores of SQuAD 1.1, in percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct V1 {
    /// Questions with exactly a true answer.
    pub exact_match: f64,
    /// The mean F1.
    pub f1: f64,
}
impl V1 {
    /// Both, by their names.
    pub fn scores(&self) -> Scores {
        super::named(&V1_METRICS, [self.exact_match, self.f1].map(Some))
    }
}

/// A mean over questions, in percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// Questions with exactly a true answer.
    pub exact: f64,
    /// The mean F1.
    pub f1: f64,
    /// Questions.
    pub total: u64,
}

/// A score that a threshold for "no answer" could reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Best {
    /// The score, in percent.
    pub score: f64,
    /// Where a question's null odds are above it, the answer is "no answer".
    pub threshold: f64,
}

/// The scores of SQuAD 2.0, in percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct V2 {
    /// Questions with exactly a true answer.
    pub exact: f64,
    /// The mean F1.
    pub f1: f64,
    /// Questions.
    pub total: u64,
    /// Of the questions that have an answer; none if no question has.
    pub has_answer: Option<Part>,
    /// Of the questions that have none; none if all have.
    pub no_answer: Option<Part>,
    /// The best exact match; none where no null odds are given.
    pub best_exact: Option<Best>,
    /// The best F1.
    pub best_f1: Option<Best>,
}
impl V2 {
    /// Them all, by their names.
    pub fn scores(&self) -> Scores {
        let part = |p: Option<Part>| [p.map(|p| p.exact), p.map(|p| p.f1), p.map(|p| p.total as f64)];
        let best = |b: Option<Best>| [b.map(|b| b.score), b.map(|b| b.threshold)];
        let all = Part { exact: self.exact, f1: self.f1, total: self.total };
        let parts = [Some(all), self.has_answer, self.no_answer].map(part);
        let values = parts
            .into_iter()
            .flatten()
            .chain([self.best_exact, self.best_f1].map(best).into_iter().flatten());
        super::named(&V2_METRICS, values)
    }
}

/// Lower case, without the punctuation of ASCII and without English articles, words apart by one
/// space: `The U.S.` becomes `us`. Other punctuation stays.
pub fn normalise(text: &str) -> String {
    // what Python's `\b` looks for: letters and numbers, and no marks
    static RUNS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[\p{L}\p{N}]+").expect("a fixed pattern"));
    let text: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let text = RUNS.replace_all(&text, |run: &regex::Captures| match &run[0] {
        "a" | "an" | "the" => " ".to_string(),
        other => other.to_string(),
    });
    super::ngrams::split(&text).collect::<Vec<_>>().join(" ")
}

/// Whether two answers are the same after [`normalise`].
pub fn exact(prediction: &str, answer: &str) -> bool {
    normalise(prediction) == normalise(answer)
}
/// 2PR / (P + R) of the words of two answers, each as often as it is in both; 0 if they share none,
/// also where both are empty.
pub fn f1(prediction: &str, answer: &str) -> f64 {
    let (prediction, answer) = (normalise(prediction), normalise(answer));
    let words = |text: &str| super::ngrams::split(text).count() as f64;
    let mut left: HashMap<&str, u64> = HashMap::new();
    super::ngrams::split(&answer).for_each(|word| *left.entry(word).or_default() += 1);
    let mut shared = 0.0;
    for word in super::ngrams::split(&prediction) {
        if let Some(n) = left.get_mut(word).filter(|n| **n > 0) {
            *n -= 1;
            shared += 1.0;
        }
    }
    if shared == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (shared / words(&prediction), shared / words(&answer));
    2.0 * precision * recall / (precision + recall)
}
/// [`f1`] of SQuAD 2.0: 1 where both are empty.
fn f1_or_none(prediction: &str, answer: &str) -> f64 {
    let is_empty = |text: &str| normalise(text).is_empty();
    if is_empty(prediction) && is_empty(answer) { 1.0 } else { f1(prediction, answer) }
}

impl Question<'_> {
    /// By SQuAD 1.1: the best of the true answers. A question without true answers scores 0.
    pub fn v1(&self) -> Answered {
        self.best(&self.answers, f1)
    }
    /// By SQuAD 2.0: true answers of which nothing is left after [`normalise`] do not count, and if
    /// there is no other, the empty answer is the right one.
    pub fn v2(&self) -> Answered {
        let mut answers = self.answers.clone();
        answers.retain(|answer| !normalise(answer).is_empty());
        if answers.is_empty() {
            answers.push("");
        }
        self.best(&answers, f1_or_none)
    }
    fn best(&self, answers: &[&str], f1: fn(&str, &str) -> f64) -> Answered {
        let Some(prediction) = self.prediction else { return Answered::default() };
        let best = |score: &dyn Fn(&str) -> f64| answers.iter().map(|a| score(a)).fold(0.0, f64::max);
        Answered { exact: best(&|a| f64::from(exact(prediction, a))), f1: best(&|a| f1(prediction, a)) }
    }
}

/// The scores of SQuAD 1.1; none of no questions.
pub fn v1(questions: &[Question]) -> Option<V1> {
    let all: Vec<Answered> = questions.iter().map(Question::v1).collect();
    mean(&all).map(|Part { exact, f1, .. }| V1 { exact_match: exact, f1 })
}

/// The scores of SQuAD 2.0; none of no questions.
///
/// `null_odds` says of each question how much speaks for "no answer": the score of no answer less
/// that of the best one, or a probability. From it come the best scores over all thresholds;
/// `transformers` takes 0 for every question where it has none, which says little. With a
/// `threshold` the empty answer takes the place of those whose null odds are above it: `evaluate`
/// has 1.0, for probabilities.
pub fn v2(questions: &[Question], null_odds: Option<&[f64]>, threshold: Option<f64>) -> Option<V2> {
    let raw: Vec<Answered> = questions.iter().map(Question::v2).collect();
    let has_answer = |i: usize| !questions[i].answers.is_empty();
    if let Some(odds) = null_odds {
        assert_eq!(odds.len(), questions.len(), "null odds for every question");
    }
    let is_null = |i: usize| null_odds.zip(threshold).is_some_and(|(odds, most)| odds[i] > most);
    let settled = |i: usize| match (is_null(i), f64::from(!has_answer(i))) {
        (true, right) => Answered { exact: right, f1: right },
        (false, _) => raw[i],
    };
    let part = |keep: &dyn Fn(usize) -> bool| {
        let kept: Vec<Answered> = (0..raw.len()).filter(|i| keep(*i)).map(settled).collect();
        mean(&kept)
    };
    let all = part(&|_| true)?;
    let best = |score: fn(&Answered) -> f64| null_odds.map(|odds| best(questions, &raw, odds, score));
    Some(V2 {
        exact: all.exact,
        f1: all.f1,
        total: all.total,
        has_answer: part(&has_answer),
        no_answer: part(&|i| !has_answer(i)),
        best_exact: best(|a| a.exact),
        best_f1: best(|a| a.f1),
    })
}

/// The best threshold: at first every question counts as "no answer"; then, by rising null odds,
/// one after the other gets its answer.
fn best(questions: &[Question], raw: &[Answered], odds: &[f64], score: fn(&Answered) -> f64) -> Best {
    let predicted = |i: &usize| questions[*i].prediction.is_some();
    let mut order: Vec<usize> = (0..raw.len()).filter(predicted).collect();
    let key = |i: usize| odds[i] + 0.0; // -0 is 0
    order.sort_by(|&i, &j| key(i).total_cmp(&key(j)));
    let without = order.iter().filter(|i| questions[**i].answers.is_empty()).count();
    let mut now = without as f64;
    let (mut best, mut threshold) = (now, 0.0);
    for i in order {
        now += match (questions[i].answers.is_empty(), questions[i].prediction) {
            (false, _) => score(&raw[i]),
            (true, Some("")) => 0.0,
            (true, _) => -1.0,
        };
        if now > best {
            (best, threshold) = (now, odds[i]);
        }
    }
    Best { score: 100.0 * best / raw.len() as f64, threshold }
}

fn mean(all: &[Answered]) -> Option<Part> {
    let total = all.len() as f64;
    let of = |f: fn(&Answered) -> f64| 100.0 * all.iter().map(f).sum::<f64>() / total;
    (!all.is_empty()).then(|| Part { exact: of(|a| a.exact), f1: of(|a| a.f1), total: all.len() as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_normalised() {
        for (text, expected) in [
            ("The  brown-fox", "brownfox"),
            ("U.S.", "us"),
            ("an \u{201c}A\u{201d} \u{2013} \u{bd}", "\u{201c} \u{201d} \u{2013} \u{bd}"),
            ("a\u{301}b thea the_a theb\u{e4}", "\u{301}b thea thea theb\u{e4}"),
            ("\u{905}\u{93e} a\u{93e}", "\u{905}\u{93e} \u{93e}"),
            ("", ""),
        ] {
            assert_eq!(normalise(text), expected);
        }
    }
    #[test]
    fn empty_answers_differ_by_version() {
        let q = Question { answers: vec!["the"], prediction: Some("an") };
        assert_eq!((q.v1(), q.v2()), (Answered { exact: 1.0, f1: 0.0 }, Answered { exact: 1.0, f1: 1.0 }));
        let q = Question { answers: vec!["x y", "y"], prediction: Some("y z") };
        assert_eq!(q.v1(), Answered { exact: 0.0, f1: 2.0 / 3.0 });
    }
    #[test]
    fn a_missing_prediction_is_wrong() {
        let questions = [
            Question { answers: vec!["x"], prediction: None },
            Question { answers: vec!["x"], prediction: Some("X.") },
            Question { answers: vec![], prediction: None },
            Question { answers: vec![], prediction: Some("") },
        ];
        assert_eq!(v1(&questions[..2]), Some(V1 { exact_match: 50.0, f1: 50.0 }));
        let scores = v2(&questions, Some(&[0.0; 4]), None).unwrap();
        assert_eq!((scores.exact, scores.best_exact.unwrap().score, scores.total), (50.0, 50.0, 4));
        assert_eq!(scores.no_answer, Some(Part { exact: 50.0, f1: 50.0, total: 2 }));
    }
    #[test]
    fn thresholds_are_searched() {
        let q = |answers: &[&'static str], prediction| Question {
            answers: answers.to_vec(),
            prediction: Some(prediction),
        };
        let questions = [q(&["x"], "x"), q(&[], "y"), q(&["z"], "z"), q(&[], "w")];
        let odds = [-2.0, 1.0, 0.5, 3.0];
        let scores = v2(&questions, Some(&odds), None).unwrap();
        assert_eq!(scores.best_exact, Some(Best { score: 100.0, threshold: 0.5 }));
        assert_eq!(scores.exact, 50.0);
        assert_eq!(v2(&questions, Some(&odds), Some(0.5)).unwrap().exact, 100.0);
        let json = serde_json::to_value(v2(&questions[..1], None, None).unwrap().scores()).unwrap();
        assert_eq!((&json["HasAns_total"], &json["NoAns_exact"]), (&1.0.into(), &serde_json::Value::Null));
        assert_eq!((v1(&[]), v2(&[], None, None)), (None, None));
    }
}
