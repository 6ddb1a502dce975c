//! chrF2 and chrF2++ (Popović 2015, 2017) of a corpus, as sacreBLEU 2.6.0 computes them: F of
//! character n-grams up to six, without white space, recall counting for twice as much; chrF2++
//! adds words and pairs of words.
//!
//! ```
//! use engraft::reports::scores::chrf::{self, Kind};
//! let references = [["The cat is sitting on the mat."]];
//! let score = Kind::Chrf2.corpus(&["The cat sat on the mat."], &references).unwrap();
//! assert_eq!(format!("{score:.2}"), "49.65");
//! let settings = "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:engraft-";
//! assert!(Kind::Chrf2.signature(&references).starts_with(settings));
//! ```
use super::ngrams::{is_space, ngrams, number, shared, split, sum};
use crate::reports::metrics::Metric;
use std::hash::Hash;

/// The longest n-grams of characters.
const CHARACTERS: usize = 6;
/// The longest n-grams of words.
const WORDS: usize = 2;
/// Recall counts for this square: beta is two.
const FACTOR: f64 = 4.0;

/// The scores, in percent.
pub const METRICS: [Metric; 2] = [Metric::number("chrF2"), Metric::number("chrF2++")];

/// What chrF needs of a segment: n-grams of the hypothesis, n-grams of the reference and n-grams of
/// both, for every order of characters, then of words (0 in [`Kind::Chrf2`]). Sums of it belong to
/// sums of segments.
pub type Statistics = [f64; 3 * (CHARACTERS + WORDS)];

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Characters alone.
    Chrf2,
    /// Characters and words.
    Chrf2PlusPlus,
}

impl Kind {
    /// The score of hypotheses, each with one or more references, in percent. None without
    /// segments, and where a segment has no reference.
    pub fn corpus<H: AsRef<str>, R: AsRef<[S]>, S: AsRef<str>>(
        self,
        hypotheses: &[H],
        references: &[R],
    ) -> Option<f64> {
        assert_eq!(hypotheses.len(), references.len(), "references for every hypothesis");
        let segments = hypotheses.iter().zip(references).map(|(h, r)| self.segment(h.as_ref(), r.as_ref()));
        let segments: Vec<Statistics> = segments.collect::<Option<_>>()?;
        (!segments.is_empty()).then(|| score(&sum(&segments)))
    }
    /// What chrF needs of a segment: of the references the one with the best score, the first of
    /// equal ones. None without a reference.
    pub fn segment<S: AsRef<str>>(self, hypothesis: &str, references: &[S]) -> Option<Statistics> {
        let hypothesis = self.text(hypothesis);
        let all = references.iter().map(|reference| hypothesis.against(&self.text(reference.as_ref())));
        all.reduce(|a, b| if score(&b) > score(&a) { b } else { a })
    }
    /// How the score was made, as sacreBLEU says it, with engraft's version in the place of its
    /// own.
    pub fn signature<R: AsRef<[S]>, S>(self, references: &[R]) -> String {
        let words = if self == Kind::Chrf2 { 0 } else { WORDS };
        super::signature(references, &format!("case:mixed|eff:yes|nc:{CHARACTERS}|nw:{words}|space:no"))
    }
    fn text(self, text: &str) -> Text<'_> {
        let words = if self == Kind::Chrf2 { vec![] } else { words(text) };
        Text { characters: text.chars().filter(|c| !is_space(*c)).collect(), words }
    }
}

/// The score of the sum of segments' statistics, in percent: (1 + 4) P R / (4 P + R), P and R being
/// means over the orders of which both sides have n-grams.
pub fn score(statistics: &Statistics) -> f64 {
    let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0.0);
    for order in statistics.chunks(3).filter(|order| order[0] > 0.0 && order[1] > 0.0) {
        precision += order[2] / order[0];
        recall += order[2] / order[1];
        orders += 1.0;
    }
    if precision + recall == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (precision / orders, recall / orders);
    100.0 * ((1.0 + FACTOR) * precision * recall / (FACTOR * precision + recall))
}

/// The words of a text, one mark of ASCII punctuation at the end of a word being a word of its own;
/// if there is none, one at the beginning.
fn words(text: &str) -> Vec<&str> {
    let mut words = vec![];
    for word in split(text) {
        let mut letters = word.char_indices();
        match (letters.next(), letters.next_back()) {
            (Some(_), Some((at, last))) if last.is_ascii_punctuation() => {
                words.extend([&word[..at], &word[at..]])
            }
            (Some((_, first)), Some(_)) if first.is_ascii_punctuation() => {
                words.extend([&word[..1], &word[1..]])
            }
            _ => words.push(word),
        }
    }
    words
}

/// A text as chrF sees it.
struct Text<'a> {
    characters: Vec<char>,
    words: Vec<&'a str>,
}
impl Text<'_> {
    fn against(&self, reference: &Text) -> Statistics {
        let mut statistics = [0.0; 3 * (CHARACTERS + WORDS)];
        let (characters, words) = statistics.split_at_mut(3 * CHARACTERS);
        fill(characters, &self.characters, &reference.characters);
        fill(words, &self.words, &reference.words);
        statistics
    }
}
fn fill<T: Hash + Eq>(statistics: &mut [f64], own: &[T], reference: &[T]) {
    for (order, n) in statistics.chunks_mut(3).zip(1..) {
        let (of_own, of_reference) = (number(own.len(), n), number(reference.len(), n));
        // what no reference could have does not count against the hypothesis
        order[0] = if of_reference == 0 { 0.0 } else { of_own as f64 };
        order[1] = of_reference as f64;
        order[2] = shared(&ngrams(own, n), &ngrams(reference, n)) as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        let hypotheses = ["The cat sat on the mat.", "It isn't 3.5% better, he said."];
        let references = [["The cat is sitting on the mat."], ["It is not 3.5% better, he said."]];
        for (kind, expected) in [(Kind::Chrf2, 67.60417418775234), (Kind::Chrf2PlusPlus, 68.66013047819796)] {
            let score = kind.corpus(&hypotheses, &references).unwrap();
            assert!((score - expected).abs() < 1e-9, "{score}, expected {expected}");
        }
        assert!(Kind::Chrf2PlusPlus.signature(&references).contains("|nw:2|"));
    }
    #[test]
    fn punctuation_is_split_off_once() {
        assert_eq!(
            words("(hi) \"a b\u{e9}? ... \u{bf}qu\u{e9} -"),
            ["(hi", ")", "\"", "a", "b\u{e9}", "?", "..", ".", "\u{bf}qu\u{e9}", "-"]
        );
    }
    #[test]
    fn what_is_empty_scores_zero() {
        for (hypothesis, reference) in [("", "a b"), ("a", ""), (" ", "\n")] {
            assert_eq!(Kind::Chrf2PlusPlus.corpus(&[hypothesis], &[[reference]]), Some(0.0));
        }
        assert_eq!(Kind::Chrf2.corpus(&["a"], &[[""; 0]]), None);
        // one character has no pairs: only the orders that both have count
        assert_eq!(Kind::Chrf2.corpus(&["a"], &[["a"]]), Some(100.0));
    }
}
