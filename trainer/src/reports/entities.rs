//! Entities in sequences of tags, and how well they are found: the definitions of `seqeval` 1.2.2
//! in its default mode, which are those of CoNLL's `conlleval`. What it calls strict is in
//! [`super::scores::schemes`].
//!
//! A tag such as `B-PER` is a letter and a type; the type of a tag without one is `_`. An entity
//! begins at `B` and `S`, at `I` and `E` after `O`, `E` and `S`, and wherever the type changes; it
//! ends in front of `B`, `S` and `O`, behind `E` and `S`, and wherever the type changes. So
//! `I-PER I-PER` without a beginning is an entity, the same as `B-PER I-PER`.
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};

/// Precision, recall and F1, with the number of entities in the truth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Of the entities that were predicted, the share that is right.
    pub precision: f64,
    /// Of the entities in the truth, the share that was predicted.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
    /// Entities in the truth.
    pub support: u64,
}

/// Entities counted in truth and prediction, and in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    truth: u64,
    predicted: u64,
    right: u64,
}
impl Counts {
    fn found(self) -> Found {
        let (precision, recall) = (share(self.right, self.predicted), share(self.right, self.truth));
        let sum = precision + recall;
        let f1 = if sum == 0.0 { 0.0 } else { 2.0 * precision * recall / sum };
        Found { precision, recall, f1, support: self.truth }
    }
}
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Counts over sentences.
#[derive(Clone, Debug, Default)]
pub struct Entities {
    types: BTreeMap<String, Counts>,
    words: u64,
    right: u64,
    truth: Scan,
    predicted: Scan,
}

impl Entities {
    /// No sentences yet.
    pub fn new() -> Entities {
        Entities::default()
    }
    /// Counts a sentence: the tags of its words, in truth and as predicted.
    pub fn add(&mut self, truth: &[&str], predicted: &[&str]) {
        let (in_truth, in_prediction) = (self.truth.sentence(truth), self.predicted.sentence(predicted));
        self.count((truth, &in_truth), (predicted, &in_prediction));
    }
    /// Counts a sentence of which the entities are known: its tags and its entities, in truth and as
    /// predicted.
    pub(super) fn count(
        &mut self,
        (truth, in_truth): (&[&str], &HashSet<Entity>),
        (predicted, in_prediction): (&[&str], &HashSet<Entity>),
    ) {
        assert_eq!(truth.len(), predicted.len(), "a prediction for every tag");
        self.words += truth.len() as u64;
        self.right += truth.iter().zip(predicted).filter(|(t, p)| t == p).count() as u64;
        let mut count = |of: &HashSet<Entity>, f: fn(&mut Counts) -> &mut u64| {
            of.iter().for_each(|(kind, ..)| *f(self.types.entry(kind.clone()).or_default()) += 1);
        };
        count(in_truth, |c| &mut c.truth);
        count(in_prediction, |c| &mut c.predicted);
        count(&in_truth.intersection(in_prediction).cloned().collect(), |c| &mut c.right);
    }
    /// Words.
    pub fn words(&self) -> u64 {
        self.words
    }
    /// The share of words with the right tag, those outside of entities included.
    pub fn accuracy(&self) -> f64 {
        share(self.right, self.words)
    }
    /// Every type that is in the truth or was predicted, in the order of names.
    pub fn by_type(&self) -> Vec<(&str, Found)> {
        self.types.iter().map(|(kind, c)| (kind.as_str(), c.found())).collect()
    }
    /// All entities together.
    pub fn micro(&self) -> Found {
        self.total().found()
    }
    /// Entities that are right, predicted and true: what [`f1`](super::scores::significance::f1)
    /// resamples, sentence by sentence.
    pub fn statistics(&self) -> [f64; 3] {
        let Counts { truth, predicted, right } = self.total();
        [right, predicted, truth].map(|n| n as f64)
    }
    fn total(&self) -> Counts {
        let add = |a: Counts, b: &Counts| Counts {
            truth: a.truth + b.truth,
            predicted: a.predicted + b.predicted,
            right: a.right + b.right,
        };
        self.types.values().fold(Counts::default(), add)
    }
    /// The mean over types.
    pub fn macro_mean(&self) -> Found {
        self.mean(|_| 1.0)
    }
    /// The mean over types, weighted by their number in the truth.
    pub fn weighted_mean(&self) -> Found {
        self.mean(|f| f.support as f64)
    }
    fn mean(&self, weight: impl Fn(&Found) -> f64) -> Found {
        let all: Vec<Found> = self.types.values().map(|c| c.found()).collect();
        let weights: f64 = all.iter().map(&weight).sum();
        let of = |f: fn(&Found) -> f64| match weights > 0.0 {
            true => all.iter().map(|x| f(x) * weight(x)).sum::<f64>() / weights,
            false => 0.0,
        };
        let support = all.iter().map(|f| f.support).sum();
        Found { precision: of(|f| f.precision), recall: of(|f| f.recall), f1: of(|f| f.f1), support }
    }
}

/// Type, first word and last word, words counted through all sentences.
pub(super) type Entity = (String, usize, usize);

/// Reads one tag after the other. Sentences are one sequence with an `O` behind each, as in the
/// library: in tags that are no tags at all, an entity may so begin in an earlier sentence.
#[derive(Clone, Debug)]
struct Scan {
    at: usize,
    begin: usize,
    letter: char,
    kind: String,
}
impl Default for Scan {
    fn default() -> Scan {
        Scan { at: 0, begin: 0, letter: 'O', kind: String::new() }
    }
}
impl Scan {
    /// The entities that end in a sentence.
    fn sentence(&mut self, tags: &[&str]) -> HashSet<Entity> {
        tags.iter().chain(&["O"]).filter_map(|tag| self.tag(tag)).collect()
    }
    /// The entity that ends in front of this tag, if one does.
    fn tag(&mut self, tag: &str) -> Option<Entity> {
        let mut rest = tag.chars();
        let letter = rest.next().unwrap_or('O');
        let rest = rest.as_str();
        let kind = match rest.split_once('-').map_or(rest, |(_, kind)| kind) {
            "" => "_",
            kind => kind,
        };
        let (was, changed) = (self.letter, self.kind != kind);
        let ends = matches!(was, 'E' | 'S')
            || matches!((was, letter), ('B' | 'I', 'B' | 'S' | 'O'))
            || (!matches!(was, 'O' | '.') && changed);
        let starts = matches!(letter, 'B' | 'S')
            || matches!((was, letter), ('E' | 'S' | 'O', 'E' | 'I'))
            || (!matches!(letter, 'O' | '.') && changed);
        let kind = if changed { kind.to_string() } else { self.kind.clone() };
        let before = std::mem::replace(&mut self.kind, kind);
        let ended = ends.then(|| (before, self.begin, self.at.saturating_sub(1)));
        if starts {
            self.begin = self.at;
        }
        (self.letter, self.at) = (letter, self.at + 1);
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(truth: &[&str], predicted: &[&str]) -> Entities {
        let mut e = Entities::new();
        for (t, p) in truth.iter().zip(predicted) {
            let split = |s: &'static str| s.split(' ').collect::<Vec<_>>();
            e.add(&split(Box::leak(t.to_string().into())), &split(Box::leak(p.to_string().into())));
        }
        e
    }
    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a}, expected {b}");
    }

    #[test]
    fn a_beginning_is_not_needed() {
        let e =
            count(&["B-PER I-PER O B-LOC", "O B-ORG I-ORG O"], &["I-PER I-PER O B-LOC", "O B-ORG I-LOC O"]);
        let micro = e.micro();
        near(micro.precision, 0.5);
        near(micro.recall, 2.0 / 3.0);
        near(micro.f1, 4.0 / 7.0);
        near(e.macro_mean().f1, 5.0 / 9.0);
        near(e.accuracy(), 0.75);
        assert_eq!(e.statistics(), [2.0, 4.0, 3.0]);
        near(count(&["B-PER E-PER S-PER"], &["B-PER I-PER S-PER"]).micro().f1, 1.0);
    }

    #[test]
    fn nothing_to_find_is_zero() {
        let e = count(&["O O"], &["O O"]);
        assert_eq!((e.micro(), e.macro_mean(), e.accuracy()), (Found::default(), Found::default(), 1.0));
        assert_eq!(Entities::new().accuracy(), 0.0);
    }

    /// `tests/reference` made them with seqeval 1.2.2, malformed tags included.
    #[test]
    fn equals_seqeval() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/seqeval/cases.json");
        let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let cases = json["cases"].as_array().unwrap();
        assert!(cases.len() >= 200, "{}", cases.len());
        let tags = |s: &serde_json::Value| -> Vec<Vec<String>> { serde_json::from_value(s.clone()).unwrap() };
        for case in cases {
            let mut e = Entities::new();
            for (t, p) in tags(&case["truth"]).iter().zip(&tags(&case["prediction"])) {
                let of =
                    |s: &[String]| s.iter().map(|t| Box::leak(t.clone().into_boxed_str()) as &str).collect();
                let (t, p): (Vec<&str>, Vec<&str>) = (of(t), of(p));
                e.add(&t, &p);
            }
            let same = |found: Found, expected: &serde_json::Value| {
                let number = |i: usize| expected[i].as_f64().unwrap();
                near(found.precision, number(0));
                near(found.recall, number(1));
                near(found.f1, number(2));
                assert_eq!(found.support as f64, number(3));
            };
            near(e.accuracy(), case["accuracy"].as_f64().unwrap());
            let types = case["types"].as_object().unwrap();
            assert_eq!(e.by_type().len(), types.len(), "{case}");
            e.by_type().into_iter().for_each(|(kind, found)| same(found, &types[kind]));
            if !types.is_empty() {
                same(e.micro(), &case["micro"]);
                same(e.macro_mean(), &case["macro"]);
                same(e.weighted_mean(), &case["weighted"]);
            }
        }
    }
}
