//! What the scores of texts share: words as Python splits them, n-grams, and how many of them two
//! texts have in common.
use std::{collections::HashMap, hash::Hash};

/// What Python's `str.split` splits at: Unicode's white space and the four separators of ASCII.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}
/// The words of a text, as Python's `str.split` has them.
pub(super) fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}
/// Every n-gram with the number of times that it occurs; `n` is at least one.
pub(super) fn ngrams<T: Hash + Eq>(tokens: &[T], n: usize) -> HashMap<&[T], u64> {
    let mut counts = HashMap::new();
    tokens.windows(n).for_each(|ngram| *counts.entry(ngram).or_default() += 1);
    counts
}
/// How many n-grams there are in a text of so many tokens.
pub(super) fn number(tokens: usize, n: usize) -> u64 {
    (tokens + 1).saturating_sub(n) as u64
}
/// The n-grams in both, each as often as it is in both.
pub(super) fn shared<T: Hash + Eq>(a: &HashMap<T, u64>, b: &HashMap<T, u64>) -> u64 {
    a.iter().map(|(ngram, n)| b.get(ngram).map_or(0, |m| *n.min(m))).sum()
}
/// A part of a whole; 0 of nothing.
pub(super) fn share(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}
/// The sum of statistics.
pub(super) fn sum<const N: usize>(all: &[[f64; N]]) -> [f64; N] {
    all.iter().fold([0.0; N], |sum, one| std::array::from_fn(|i| sum[i] + one[i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_python() {
        let text = " a\u{a0}b\u{1c}c\u{1f}\u{85}d\u{2028}e\t\u{3000}f\u{200b}g\u{180e}h ";
        assert_eq!(split(text).collect::<Vec<_>>(), ["a", "b", "c", "d", "e", "f\u{200b}g\u{180e}h"]);
    }
    #[test]
    fn ngrams_are_counted() {
        let tokens = [1, 2, 1, 2];
        assert_eq!(ngrams(&tokens, 2), HashMap::from([(&[1, 2][..], 2), (&[2, 1], 1)]));
        assert_eq!((number(4, 2), number(1, 2), number(0, 1)), (3, 0, 0));
        assert_eq!(shared(&ngrams(&tokens, 2), &ngrams(&[1, 2, 3], 2)), 1);
        assert!(ngrams(&tokens, 5).is_empty());
    }
}
