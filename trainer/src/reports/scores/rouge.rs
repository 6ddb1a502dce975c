//! ROUGE (Lin 2004) as `rouge_score` 0.1.2 computes it with `use_stemmer=True`: shared n-grams
//! (`rouge1`, `rouge2`) and longest common subsequences, of whole texts (`rougeL`) and of their
//! sentences (`rougeLsum`). Words are runs of `a` to `z` and `0` to `9` in lower case, those of
//! more than three letters stemmed ([`stem`]); other scripts have none and score 0: see
//! [`has_words`].
//!
//! ```
//! use engraft::reports::scores::rouge::{Rouge, rouge};
//! let one = rouge("Gunman killed by police.", &["The police killed the gunman."]).unwrap();
//! assert_eq!((one.rouge1.precision, one.rouge1.recall), (0.75, 0.6));
//! let all = Rouge::mean(&[one, rouge("no word of it", &["something else"]).unwrap()]).unwrap();
//! assert_eq!(all.rouge1.precision, 0.375);
//! ```
use super::{
    ngrams::{ngrams, number, share, shared, split},
    porter::stem,
};
use crate::reports::metrics::{Metric, Scores};
use std::collections::{BTreeSet, HashMap};

/// The scores of [`Rouge::scores`], in its order: F1, in percent.
pub const METRICS: [Metric; 4] = [
    Metric::number("rouge1"),
    Metric::number("rouge2"),
    Metric::number("rougeL"),
    Metric::number("rougeLsum"),
];

/// Precision, recall and F1, as fractions.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Overlap {
    /// Of the candidate, the share that is in the reference.
    pub precision: f64,
    /// Of the reference, the share that is in the candidate.
    pub recall: f64,
    /// 2PR / (P + R); 0 where both are 0.
    pub f1: f64,
}
impl Overlap {
    fn of(hits: u64, candidate: u64, reference: u64) -> Overlap {
        let (precision, recall) =
            (share(hits as f64, candidate as f64), share(hits as f64, reference as f64));
        Overlap { precision, recall, f1: share(2.0 * precision * recall, precision + recall) }
    }
}

/// The four scores of a text, or their means.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rouge {
    /// Shared words.
    pub rouge1: Overlap,
    /// Shared pairs of words.
    pub rouge2: Overlap,
    /// The longest common subsequence of words.
    pub rouge_l: Overlap,
    /// The same sentence by sentence: lines are sentences.
    pub rouge_l_sum: Overlap,
}

impl Rouge {
    /// The mean over texts, which `evaluate` resamples without a seed and so only comes near to;
    /// none of no texts.
    pub fn mean(all: &[Rouge]) -> Option<Rouge> {
        let n = all.len() as f64;
        let mean = |part: fn(&Rouge) -> Overlap| {
            let of = |f: fn(&Overlap) -> f64| all.iter().map(|r| f(&part(r))).sum::<f64>() / n;
            Overlap { precision: of(|o| o.precision), recall: of(|o| o.recall), f1: of(|o| o.f1) }
        };
        (!all.is_empty()).then(|| Rouge {
            rouge1: mean(|r| r.rouge1),
            rouge2: mean(|r| r.rouge2),
            rouge_l: mean(|r| r.rouge_l),
            rouge_l_sum: mean(|r| r.rouge_l_sum),
        })
    }
    /// The four F1 by their names, in percent as in Hugging Face's scripts.
    pub fn scores(&self) -> Scores {
        let all = [self.rouge1, self.rouge2, self.rouge_l, self.rouge_l_sum];
        super::named(&METRICS, all.map(|o| Some(100.0 * o.f1)))
    }
}

/// ROUGE of a text against one or more references: for each kind the one with the best F1, the
/// first of equal ones. None without a reference.
pub fn rouge<S: AsRef<str>>(candidate: &str, references: &[S]) -> Option<Rouge> {
    let candidate = Text::new(candidate);
    let all = references.iter().map(|reference| candidate.against(&Text::new(reference.as_ref())));
    let better = |a: Overlap, b: Overlap| if b.f1 > a.f1 { b } else { a };
    all.reduce(|a, b| Rouge {
        rouge1: better(a.rouge1, b.rouge1),
        rouge2: better(a.rouge2, b.rouge2),
        rouge_l: better(a.rouge_l, b.rouge_l),
        rouge_l_sum: better(a.rouge_l_sum, b.rouge_l_sum),
    })
}

/// The words that ROUGE sees in a text.
pub fn words(text: &str) -> Vec<String> {
    let text = text.to_lowercase();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words
        .map(|word| if word.len() > 3 { stem(word) } else { word.to_string() })
        .filter(|w| !w.is_empty())
        .collect()
}

/// Whether ROUGE sees anything in a text: a reference of which it does not is worth a warning,
/// since its score is 0 whatever was written.
pub fn has_words(text: &str) -> bool {
    text.to_lowercase().contains(|c: char| c.is_ascii_alphanumeric())
}

/// A text with a line for each sentence, for [`Rouge::rouge_l_sum`]: besides lines, a sentence ends
/// at `.`, `!` or `?`, closing quotes and brackets included, where a space and a capital, a digit
/// or an opening quote or bracket follow. Hugging Face's scripts use NLTK's trained splitter, which
/// knows abbreviations, so that the two differ after some of them.
pub fn sentences(text: &str) -> String {
    let mut lines = vec![];
    for line in text.split('\n') {
        let mut sentence: Vec<&str> = vec![];
        for word in split(line) {
            let ends = |word: &&str| word.trim_end_matches(CLOSING).ends_with(['.', '!', '?']);
            let begins =
                word.starts_with(|c: char| c.is_uppercase() || c.is_ascii_digit() || OPENING.contains(&c));
            if begins && sentence.last().is_some_and(ends) {
                lines.push(std::mem::take(&mut sentence).join(" "));
            }
            sentence.push(word);
        }
        lines.push(sentence.join(" "));
    }
    lines.retain(|line| !line.is_empty());
    lines.join("\n")
}
const OPENING: [char; 8] = ['"', '\'', '(', '[', '\u{201c}', '\u{2018}', '\u{ab}', '\u{201e}'];
const CLOSING: [char; 7] = ['"', '\'', ')', ']', '\u{201d}', '\u{2019}', '\u{bb}'];

/// A text as ROUGE sees it.
struct Text {
    words: Vec<String>,
    /// The words of each line.
    lines: Vec<Vec<String>>,
}
impl Text {
    fn new(text: &str) -> Text {
        let lines = text.split('\n').filter(|line| !line.is_empty());
        Text { words: words(text), lines: lines.map(words).collect() }
    }
    fn against(&self, reference: &Text) -> Rouge {
        let (own, of) = (self.words.len(), reference.words.len());
        let grams = |n: usize| {
            let hits = shared(&ngrams(&self.words, n), &ngrams(&reference.words, n));
            Overlap::of(hits, number(own, n), number(of, n))
        };
        let longest = Table::of(&reference.words, &self.words).length;
        Rouge {
            rouge1: grams(1),
            rouge2: grams(2),
            rouge_l: Overlap::of(longest, own as u64, of as u64),
            rouge_l_sum: self.line_by_line(reference),
        }
    }
    /// For each line of the reference, its words that are in a longest common subsequence with any
    /// line of the candidate; no word counts more often than it stands in either text.
    fn line_by_line(&self, reference: &Text) -> Overlap {
        let (mut left_in_reference, mut left) = (counts(&reference.lines), counts(&self.lines));
        let mut hits = 0;
        for line in &reference.lines {
            let union: BTreeSet<usize> =
                self.lines.iter().flat_map(|own| Table::of(line, own).subsequence(line, own)).collect();
            for at in union {
                let word = line[at].as_str();
                if let (Some(a @ 1..), Some(b @ 1..)) = (left.get_mut(word), left_in_reference.get_mut(word))
                {
                    *a -= 1;
                    *b -= 1;
                    hits += 1;
                }
            }
        }
        let number = |lines: &[Vec<String>]| lines.iter().map(|line| line.len() as u64).sum();
        Overlap::of(hits, number(&self.lines), number(&reference.lines))
    }
}
fn counts(lines: &[Vec<String>]) -> HashMap<&str, u64> {
    let mut counts = HashMap::new();
    lines.iter().flatten().for_each(|word| *counts.entry(word.as_str()).or_default() += 1);
    counts
}

/// The table of longest common subsequences of all beginnings of two lists. Of its numbers only two
/// lines are held, and what the way back needs: a byte for each pair of words.
struct Table {
    length: u64,
    /// Whether the beginnings less the candidate's last word have the longer one.
    is_left: Vec<bool>,
}
impl Table {
    fn of(reference: &[String], candidate: &[String]) -> Table {
        let mut above = vec![0; candidate.len() + 1];
        let mut is_left = Vec::with_capacity(reference.len() * candidate.len());
        for word in reference {
            let mut line = vec![0; candidate.len() + 1];
            for (j, other) in candidate.iter().enumerate() {
                line[j + 1] = if word == other { above[j] + 1 } else { line[j].max(above[j + 1]) };
                is_left.push(line[j] > above[j + 1]);
            }
            above = line;
        }
        Table { length: above.last().copied().unwrap_or(0), is_left }
    }
    /// Where the words of one longest subsequence stand in the reference.
    fn subsequence(&self, reference: &[String], candidate: &[String]) -> Vec<usize> {
        let (mut i, mut j, mut found) = (reference.len(), candidate.len(), vec![]);
        while i > 0 && j > 0 {
            if reference[i - 1] == candidate[j - 1] {
                (i, j) = (i - 1, j - 1);
                found.push(i);
            } else if self.is_left[(i - 1) * candidate.len() + j - 1] {
                j -= 1;
            } else {
                i -= 1;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        let reference = "The police killed the gunman.\nHe was running quickly from the bank.";
        let candidate = "Gunman killed by police officers.\nPolice were running from banks quickly.";
        let r = rouge(candidate, &[reference]).unwrap();
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a}, expected {b}");
        near(r.rouge1.precision, 7.0 / 11.0);
        near(r.rouge1.recall, 7.0 / 12.0);
        near(r.rouge1.f1, 0.608696);
        assert_eq!(r.rouge2, Overlap::default());
        near(r.rouge_l.f1, 0.347826);
        near(r.rouge_l_sum.f1, 0.347826);
        near(r.scores().get("rougeL").unwrap(), 34.7826087);
    }
    #[test]
    fn the_best_reference_counts_for_each_kind() {
        let r = rouge("a b c", &["a x b y c", "b c"]).unwrap();
        let [whole, end] = ["a x b y c", "b c"].map(|reference| rouge("a b c", &[reference]).unwrap());
        assert_eq!((r.rouge2, r.rouge1), (end.rouge2, end.rouge1));
        assert!(whole.rouge_l.f1 < end.rouge_l.f1 && r.rouge_l == end.rouge_l);
        assert_eq!(rouge::<&str>("a", &[]), None);
        assert_eq!(Rouge::mean(&[]), None);
    }
    #[test]
    fn what_has_no_words_scores_zero() {
        for (candidate, reference) in
            [("", "a b"), ("a b", ""), ("", ""), ("\n\n", "\n"), ("Привет", "Привет")]
        {
            assert_eq!(rouge(candidate, &[reference]), Some(Rouge::default()));
        }
        assert!(has_words("мир 5") && !has_words("Привет, мир!"));
        // U+212A is a letter of other alphabets that is a `k` in lower case
        assert_eq!(words("\u{212a}ing's X-rays, İ 3.5%"), ["king", "s", "x", "ray", "i", "3", "5"]);
    }
    #[test]
    fn sentences_get_a_line_each() {
        let text = "He came. \"Who?\" I said! it was 3.5 p.m. then\nNo. (Yes.) 5 more?";
        let expected = "He came.\n\"Who?\"\nI said! it was 3.5 p.m. then\nNo.\n(Yes.)\n5 more?";
        assert_eq!(sentences(text), expected);
    }
}
