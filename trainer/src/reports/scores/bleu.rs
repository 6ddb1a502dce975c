//! BLEU (Papineni et al. 2002) of a corpus, as sacreBLEU 2.6.0 computes it by default: case kept,
//! the tokenizer of `mteval-v13a`, n-grams up to four, exponential smoothing.
//!
//! ```
//! use engraft::reports::scores::bleu::{self, Bleu};
//! let hypotheses = ["The cat sat on the mat.", "It isn't 3.5% better, he said."];
//! let references = [["The cat is sitting on the mat."], ["It is not 3.5% better, he said."]];
//! let bleu = Bleu::corpus(&hypotheses, &references).unwrap();
//! assert_eq!(
//!     bleu.to_string(),
//!     "BLEU = 57.66 87.5/71.4/58.3/50.0 (BP = 0.882 ratio = 0.889 hyp_len = 16 ref_len = 18)"
//! );
//! let settings = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:engraft-";
//! assert!(bleu::signature(&references).starts_with(settings));
//! ```
use super::ngrams::{ngrams, number, shared, split, sum};
use crate::reports::metrics::{Metric, Scores};
use regex::Regex;
use std::{collections::HashMap, fmt, sync::LazyLock};

/// The longest n-grams.
const ORDER: usize = 4;

/// The score of [`Bleu::scores`], in percent.
pub const METRICS: [Metric; 1] = [Metric::number("bleu")];

/// What BLEU needs of a segment: words of the hypothesis, words of the closest reference, matches
/// of 1- to 4-grams, 1- to 4-grams of the hypothesis. Sums of it belong to sums of segments, which
/// is what [`significance`](super::significance) resamples.
pub type Statistics = [f64; 2 + 2 * ORDER];

/// BLEU, and what it is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bleu {
    /// The score, in percent.
    pub score: f64,
    /// n-grams that are in a reference, for n from one to four.
    pub counts: [u64; ORDER],
    /// n-grams of the hypotheses.
    pub totals: [u64; ORDER],
    /// Their quotient in percent, smoothed where nothing matches.
    pub precisions: [f64; ORDER],
    /// The brevity penalty, 1 where the hypotheses are not shorter than the references.
    pub bp: f64,
    /// Words of the hypotheses.
    pub sys_len: u64,
    /// Words of the references, of each segment the closest in length.
    pub ref_len: u64,
}

impl Bleu {
    /// BLEU of hypotheses, each with one or more references; not all need to have the same number.
    /// None without segments, and where a segment has no reference.
    pub fn corpus<H: AsRef<str>, R: AsRef<[S]>, S: AsRef<str>>(
        hypotheses: &[H],
        references: &[R],
    ) -> Option<Bleu> {
        assert_eq!(hypotheses.len(), references.len(), "references for every hypothesis");
        let segments = hypotheses.iter().zip(references).map(|(h, r)| segment(h.as_ref(), r.as_ref()));
        let segments: Vec<Statistics> = segments.collect::<Option<_>>()?;
        (!segments.is_empty()).then(|| Bleu::of(&sum(&segments)))
    }
    /// BLEU of one sentence, by as many orders as it has (sacreBLEU's `effective_order`); none
    /// without a reference.
    pub fn sentence<S: AsRef<str>>(hypothesis: &str, references: &[S]) -> Option<Bleu> {
        segment(hypothesis, references).map(|statistics| Bleu::with(&statistics, true))
    }
    /// BLEU of the sum of segments' statistics.
    pub fn of(statistics: &Statistics) -> Bleu {
        Bleu::with(statistics, false)
    }
    /// BP exp(sum over n of ln p_n / 4). An order without n-grams ends it with precision 0; one
    /// without matches has 1/2 of a match, the next such 1/4, and so on.
    fn with(statistics: &Statistics, is_effective: bool) -> Bleu {
        let [own, reference, ..] = *statistics;
        let (matches, totals) = statistics[2..].split_at(ORDER);
        let bp = match own {
            _ if own >= reference => 1.0,
            0.0 => 0.0,
            _ => (1.0 - reference / own).exp(),
        };
        let (mut precisions, mut orders, mut smooth) = ([0.0; ORDER], ORDER, 1.0);
        let mut score = 0.0;
        if matches.iter().any(|n| *n > 0.0) {
            for (n, precision) in precisions.iter_mut().enumerate() {
                if totals[n] == 0.0 {
                    break;
                }
                if is_effective {
                    orders = n + 1;
                }
                *precision = match matches[n] {
                    0.0 => {
                        smooth *= 2.0;
                        100.0 / (smooth * totals[n])
                    }
                    found => 100.0 * found / totals[n],
                };
            }
            let ln = |p: &f64| if *p == 0.0 { -9_999_999_999.0 } else { p.ln() };
            score = bp * (precisions[..orders].iter().map(ln).sum::<f64>() / orders as f64).exp();
        }
        let whole = |x: &[f64]| std::array::from_fn(|n| x[n] as u64);
        let (counts, totals) = (whole(matches), whole(totals));
        Bleu { score, counts, totals, precisions, bp, sys_len: own as u64, ref_len: reference as u64 }
    }
    /// The score by its name.
    pub fn scores(&self) -> Scores {
        super::named(&METRICS, [Some(self.score)])
    }
}
impl fmt::Display for Bleu {
    /// As sacreBLEU prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ratio = if self.ref_len == 0 { 0.0 } else { self.sys_len as f64 / self.ref_len as f64 };
        let precisions = self.precisions.map(|p| format!("{p:.1}")).join("/");
        write!(
            f,
            "BLEU = {:.2} {precisions} (BP = {:.3} ratio = {ratio:.3} hyp_len = {} ref_len = {})",
            self.score, self.bp, self.sys_len, self.ref_len
        )
    }
}

/// How the score was made, as sacreBLEU says it, with engraft's version in the place of its own.
pub fn signature<R: AsRef<[S]>, S>(references: &[R]) -> String {
    super::signature(references, "case:mixed|eff:no|tok:13a|smooth:exp")
}

/// What BLEU needs of a segment; none without a reference.
pub fn segment<S: AsRef<str>>(hypothesis: &str, references: &[S]) -> Option<Statistics> {
    let hypothesis = tokenize(hypothesis);
    let references: Vec<String> = references.iter().map(|r| tokenize(r.as_ref())).collect();
    let words: Vec<&str> = split(&hypothesis).collect();
    let references: Vec<Vec<&str>> = references.iter().map(|r| split(r).collect()).collect();
    let lengths = references.iter().map(Vec::len);
    let closest = lengths.min_by_key(|length| (length.abs_diff(words.len()), *length))?;
    let mut statistics = [0.0; 2 + 2 * ORDER];
    (statistics[0], statistics[1]) = (words.len() as f64, closest as f64);
    for n in 1..=ORDER {
        let mut most: HashMap<&[&str], u64> = HashMap::new();
        for (ngram, count) in references.iter().flat_map(|reference| ngrams(reference, n)) {
            let most = most.entry(ngram).or_default();
            *most = count.max(*most);
        }
        statistics[1 + n] = shared(&ngrams(&words, n), &most) as f64;
        statistics[1 + ORDER + n] = number(words.len(), n) as f64;
    }
    Some(statistics)
}

/// A text with spaces around what `mteval-v13a` takes for a word of its own: punctuation and
/// symbols of ASCII, but `.` and `,` only where they are not between digits, `-` only behind a
/// digit and `'` never.
pub fn tokenize(text: &str) -> String {
    static PASSES: LazyLock<[(Regex, &str); 4]> = LazyLock::new(|| {
        [
            (r"([\{-~\[-` -&\(-\+:-@/])", " $1 "),
            (r"([^0-9])([.,])", "$1 $2 "),
            (r"([.,])([^0-9])", " $1 $2"),
            (r"([0-9])(-)", "$1 $2 "),
        ]
        .map(|(pattern, instead)| (Regex::new(pattern).expect("a fixed pattern"), instead))
    });
    let mut text = text.trim_end_matches(super::ngrams::is_space).replace("<skipped>", "");
    for (from, to) in
        [("-\n", ""), ("\n", " "), ("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")]
    {
        text = text.replace(from, to);
    }
    let mut text = format!(" {text} ");
    for (pattern, instead) in PASSES.iter() {
        text = pattern.replace_all(&text, *instead).into_owned();
    }
    split(&text).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        let hypotheses = ["The cat sat on the mat.", "It isn't 3.5% better, he said."];
        let references = [["The cat is sitting on the mat."], ["It is not 3.5% better, he said."]];
        let bleu = Bleu::corpus(&hypotheses, &references).unwrap();
        assert!((bleu.score - 57.66401708974538).abs() < 1e-9, "{}", bleu.score);
        assert_eq!((bleu.counts, bleu.totals), ([14, 10, 7, 5], [16, 14, 12, 10]));
        assert_eq!((bleu.sys_len, bleu.ref_len), (16, 18));
        let references = [["a b c d f", "a b c e"], ["x y", "x y z w"]];
        let bleu = Bleu::corpus(&["a b c d e", "x y z"], &references).unwrap();
        assert!((bleu.score - 74.76743906106104).abs() < 1e-9, "{}", bleu.score);
        assert!(signature(&references).starts_with("nrefs:2|"));
        assert!(signature(&[vec!["a"], vec!["a", "b"]]).starts_with("nrefs:var|"));
    }
    #[test]
    fn tokens() {
        let text = r#"he said: "A-1 (ok) 5-6 U.S. 1,000.""#;
        assert_eq!(tokenize(text), r#"he said : " A-1 ( ok ) 5 - 6 U . S . 1,000 . ""#);
        assert_eq!(tokenize("&lt;b&amp;quot; a-\nb <skipped>\u{1c}c "), "< b & quot ; ab c");
    }
    #[test]
    fn what_is_empty_scores_zero() {
        for (hypothesis, reference) in [("", "a b"), ("a", ""), ("", "")] {
            assert_eq!(Bleu::corpus(&[hypothesis], &[[reference]]).unwrap().score, 0.0);
        }
        assert_eq!(Bleu::corpus(&["a"], &[[""; 0]]), None);
        assert_eq!(Bleu::corpus::<&str, [&str; 1], &str>(&[], &[]), None);
    }
}
