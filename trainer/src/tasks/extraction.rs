//! From the scores of tokens to answers: the rules of transformers' `utils_qa.py`, which go back to
//! those of BERT.
//!
//! Of each window the best starts and the best ends are put together in every way that makes a part of
//! the text no longer than an answer may be. The best of all windows of a question are its answers,
//! with the sum of both scores as theirs and the softmax of these as their probabilities. Where a
//! question may have no answer, that counts as one of them: its score is that of the first token as
//! start and as end, in the window in which it is lowest.
use crate::text::{batch::Batch, example::IGNORED};
use std::cmp::Ordering;

/// The best rows of a window, with their scores.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BestRows {
    /// Those of the first row, which stand for no answer.
    pub null: (f32, f32),
    /// Rows in which an answer starts.
    pub starts: Vec<(u32, f32)>,
    /// Rows in which one ends.
    pub ends: Vec<(u32, f32)>,
}

/// What makes an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// How many answers are kept, and how many starts and ends of a window.
    pub n_best: usize,
    /// The most tokens of an answer.
    pub max_length: usize,
    /// Whether there may be none.
    pub may_be_none: bool,
    /// There is none if its score is above that of the best answer by more than this.
    pub threshold: f64,
}

/// One of the answers to a question.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The answer; empty for "no answer".
    pub text: String,
    /// Its code points; none if it is no part of the text.
    pub range: Option<(usize, usize)>,
    /// Scores of its first and its last token.
    pub logits: (f32, f32),
    /// Among the answers that are kept.
    pub probability: f64,
}

/// The answers to a question.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extracted {
    /// The one that is given; empty for "no answer".
    pub answer: String,
    /// Its code points; none if it is no part of the text.
    pub range: Option<(usize, usize)>,
    /// The best ones, from the best on.
    pub n_best: Vec<Candidate>,
    /// Where there may be none: how much more speaks for that than for the best answer.
    pub null_odds: Option<f64>,
}

/// The `n` best rows of each column; of equal ones the last comes first, as in a stable sort that is
/// read from its end.
pub fn best_rows(starts: &[f32], ends: &[f32], n: usize) -> BestRows {
    let best = |scores: &[f32]| -> Vec<(u32, f32)> {
        let mut rows: Vec<(u32, f32)> = (0..).zip(scores.iter().copied()).collect();
        rows.sort_by(|a, b| falling(a.1, b.1).then(b.0.cmp(&a.0)));
        rows.truncate(n);
        rows
    };
    let first = |scores: &[f32]| scores.first().copied().unwrap_or_default();
    BestRows { null: (first(starts), first(ends)), starts: best(starts), ends: best(ends) }
}

/// The larger one first, of which -0 is none.
fn falling(a: f32, b: f32) -> Ordering {
    (b + 0.0).total_cmp(&(a + 0.0))
}

/// A window of the text: its best rows, and of each row the code points of the text that it stands
/// for.
pub type Window = (BestRows, Vec<Option<(usize, usize)>>);

/// An answer before its text is looked up.
#[derive(Clone, Copy)]
struct Found {
    range: (usize, usize),
    logits: (f32, f32),
}
impl Found {
    fn score(&self) -> f32 {
        self.logits.0 + self.logits.1
    }
}

/// The answers to a question about `context`, from all its windows.
pub fn extract(context: &str, windows: &[Window], rules: Rules) -> Extracted {
    let (mut found, mut null) = (vec![], None::<Found>);
    for (best, places) in windows {
        let none = Found { range: (0, 0), logits: best.null };
        if null.is_none_or(|null| null.score() > none.score()) {
            null = Some(none);
        }
        for (start, a) in &best.starts {
            for (end, b) in &best.ends {
                let place = |row: &u32| places.get(*row as usize).copied().flatten();
                let (Some((from, _)), Some((_, to))) = (place(start), place(end)) else { continue };
                if end < start || (end - start) as usize >= rules.max_length {
                    continue;
                }
                found.push(Found { range: (from, to), logits: (*a, *b) });
            }
        }
    }
    let null = null.filter(|_| rules.may_be_none);
    found.extend(null);
    found.sort_by(|a, b| falling(a.score(), b.score()));
    found.truncate(rules.n_best);
    if !found.iter().any(|f| f.range == (0, 0)) {
        found.extend(null);
    }
    let mut n_best = with_texts(context, &found);
    // the library's place-holder
    if n_best.is_empty() || matches!(&n_best[..], [one] if one.text.is_empty()) {
        let empty = Candidate { text: "empty".into(), range: None, logits: (0.0, 0.0), probability: 0.0 };
        n_best.insert(0, empty);
    }
    softmax(&mut n_best);
    let Some(null) = null else {
        let Candidate { text, range, .. } = n_best[0].clone();
        return Extracted { answer: text, range, n_best, null_odds: None };
    };
    // where all are empty the library goes beyond the end of them
    let best = n_best.iter().find(|one| !one.text.is_empty());
    let odds = best.map_or(0.0, |one| null.score() - one.logits.0 - one.logits.1);
    let given = best.filter(|_| f64::from(odds) <= rules.threshold);
    let (answer, range) = given.map_or((String::new(), None), |one| (one.text.clone(), one.range));
    Extracted { answer, range, n_best, null_odds: Some(odds.into()) }
}

/// Answers with their texts.
fn with_texts(context: &str, found: &[Found]) -> Vec<Candidate> {
    let mut at: Vec<usize> = context.char_indices().map(|(at, _)| at).collect();
    at.push(context.len());
    let byte = |point: usize| at[point.min(at.len() - 1)];
    let one = |f: &Found| {
        let (from, to) = (byte(f.range.0), byte(f.range.1));
        let text = context.get(from..to).unwrap_or_default().to_string();
        let range = Some(f.range).filter(|_| !text.is_empty());
        Candidate { text, range, logits: f.logits, probability: 0.0 }
    };
    found.iter().map(one).collect()
}

fn softmax(all: &mut [Candidate]) {
    let score = |one: &Candidate| f64::from(one.logits.0 + one.logits.1);
    let top = all.iter().map(score).fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = all.iter().map(|one| (score(one) - top).exp()).sum();
    all.iter_mut().for_each(|one| one.probability = (score(one) - top).exp() / sum);
}

/// The rows of start and end of an answer in a window; the first row twice if it is not in it as a
/// whole, or if there is none.
///
/// The answer starts in the last row of the text that begins no later than it, and ends in the first
/// that ends no earlier. Where several rows share one code point they are taken in their order.
pub fn rows_of(answer: Option<(usize, usize)>, places: &[Option<(u32, u32)>]) -> (usize, usize) {
    let text: Vec<(usize, (usize, usize))> = places
        .iter()
        .enumerate()
        .filter_map(|(row, place)| place.map(|(from, to)| (row, (from as usize, to as usize))))
        .collect();
    let (Some((from, to)), Some(first), Some(last)) = (answer, text.first(), text.last()) else {
        return (0, 0);
    };
    if first.1.0 > from || last.1.1 < to {
        return (0, 0);
    }
    let start = text.iter().take_while(|(_, place)| place.0 <= from).last();
    let end = text.iter().rev().take_while(|(_, place)| place.1 >= to).last();
    let (start, end) = (start.unwrap_or(first).0, end.unwrap_or(last).0);
    (start.min(end), start.max(end))
}

/// The rows of start and end of every example of a batch, from the first one of the example on, one
/// after the other: the row of the start is labelled with how many rows further the end is. Both are
/// [`IGNORED`] where no row has a label.
pub fn targets(batch: &Batch) -> Vec<u32> {
    let mut rest = batch.labels.as_slice();
    let one = |rows: usize| {
        let (own, behind) = rest.split_at(rows.min(rest.len()));
        rest = behind;
        let start = own.iter().position(|label| *label != IGNORED);
        start.map_or([IGNORED; 2], |start| [start as u32, (start as u32).saturating_add(own[start])])
    };
    batch.counts().flat_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_labelled_in_windows() {
        let places = [None, None, Some((0, 2)), Some((3, 5)), Some((5, 6)), Some((7, 9)), None];
        assert_eq!(rows_of(Some((3, 6)), &places), (3, 4));
        assert_eq!(rows_of(Some((0, 9)), &places), (2, 5));
        assert_eq!(rows_of(Some((4, 5)), &places), (3, 3), "a part of a token");
        assert_eq!(rows_of(Some((7, 9)), &places), (5, 5), "padding has no place behind it");
        assert_eq!([rows_of(Some((7, 10)), &places), rows_of(None, &places)], [(0, 0); 2]);
        assert_eq!(rows_of(Some((0, 1)), &[None, Some((1, 2))]), (0, 0), "in an earlier window");
        assert_eq!(rows_of(Some((0, 1)), &[None]), (0, 0));
        // three bytes of one character
        let bytes = [None, Some((0, 1)), Some((1, 2)), Some((1, 2)), Some((1, 2))];
        assert_eq!(rows_of(Some((1, 2)), &bytes), (2, 4));
    }

    fn rules() -> Rules {
        Rules { n_best: 20, max_length: 30, may_be_none: true, threshold: 0.0 }
    }

    #[test]
    fn an_answer_is_given_unless_none_is_more_likely() {
        let places = vec![None, Some((0, 1)), Some((2, 4))];
        let window = |none: f32| vec![(best_rows(&[none, 2.0, 1.0], &[none, 0.0, 3.0], 20), places.clone())];
        let e = extract("a bé", &window(2.0), rules());
        assert_eq!((e.answer.as_str(), e.range, e.null_odds), ("a bé", Some((0, 4)), Some(-1.0)));
        assert_eq!(e.n_best.iter().map(|c| c.text.as_str()).collect::<Vec<_>>(), ["a bé", "bé", "", "a"]);
        assert!((e.n_best.iter().map(|c| c.probability).sum::<f64>() - 1.0).abs() < 1e-12);
        let e = extract("a bé", &window(3.0), rules());
        assert_eq!((e.answer.as_str(), e.null_odds), ("", Some(1.0)));
        let later = Rules { threshold: 1.0, ..rules() };
        assert_eq!(extract("a bé", &window(3.0), later).answer, "a bé");
        let short = Rules { max_length: 1, may_be_none: false, ..rules() };
        let e = extract("a bé", &window(9.0), short);
        assert_eq!((e.answer.as_str(), e.null_odds, e.n_best.len()), ("bé", None, 2));
    }

    #[test]
    fn nothing_to_choose_from_is_no_panic() {
        for may_be_none in [false, true] {
            let rules = Rules { may_be_none, ..rules() };
            let none = extract("", &[], rules);
            assert_eq!((none.answer.as_str(), none.n_best.len()), ("empty", 1));
            let only = extract("a", &[(best_rows(&[1.0], &[1.0], 20), vec![None])], rules);
            assert_eq!(only.answer, if may_be_none { "" } else { "empty" });
            // a token of which nothing stands in the text
            let blank = vec![(best_rows(&[0.0; 2], &[0.0; 2], 1), vec![None, Some((0, 0))])];
            assert!(extract("a", &blank, rules).n_best.len() > 1);
            let nan = vec![(best_rows(&[f32::NAN; 2], &[0.0, f32::NAN], 2), vec![None, Some((0, 1))])];
            extract("a", &nan, rules);
        }
    }
}
