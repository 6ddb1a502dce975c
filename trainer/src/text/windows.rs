//! Sentences that are longer than a model takes, in windows of whole words that overlap.
//!
//! Every word is read in one window only: the one in which most tokens stand on its narrower side,
//! the earlier of equals.
use std::ops::Range;

/// Some words of a sentence, read together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its words.
    pub words: Range<usize>,
    /// Those of them that are read in this window and in no other.
    pub own: Range<usize>,
}

/// The windows of a sentence whose words have so many tokens. A window holds at most `room` tokens,
/// and windows that follow each other share at most `overlap`. A word of more tokens than there is
/// room counts as one that fills a window: it is to be cut.
pub fn windows(tokens: &[usize], room: usize, overlap: usize) -> Vec<Window> {
    let (room, words) = (room.max(1), tokens.len());
    // the tokens in front of each word
    let mut before = vec![0; words + 1];
    (0..words).for_each(|w| before[w + 1] = before[w] + tokens[w].min(room));
    let between = |range: Range<usize>| before[range.end] - before[range.start];

    let mut found: Vec<Range<usize>> = vec![];
    let mut start = 0;
    while found.last().is_none_or(|w| w.end < words) && start < words {
        let fits = (start + 1..=words).take_while(|end| between(start..*end) <= room);
        let end = fits.last().unwrap_or(start + 1);
        found.push(start..end);
        if end == words {
            break;
        }
        // as early as the overlap allows, and so late that the next word is in
        start += 1;
        while start < end && (between(start..end) > overlap || between(start..end + 1) > room) {
            start += 1;
        }
    }
    let margin = |window: &Range<usize>, w: usize| between(window.start..w).min(between(w + 1..window.end));
    let mut own: Vec<Range<usize>> = found.iter().map(|_| 0..0).collect();
    for w in 0..words {
        let holding = (0..found.len()).filter(|i| found[*i].contains(&w));
        // of equal ones the first: `max_by_key` would take the last
        let best = holding.rev().max_by_key(|i| margin(&found[*i], w)).unwrap_or(0);
        own[best] = if own[best].is_empty() { w..w + 1 } else { own[best].start..w + 1 };
    }
    found.into_iter().zip(own).map(|(words, own)| Window { words, own }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_fits_is_one_window() {
        assert_eq!(windows(&[1, 2, 1], 4, 1), [Window { words: 0..3, own: 0..3 }]);
        assert_eq!(windows(&[], 4, 1), []);
        assert_eq!(windows(&[9], 4, 1), [Window { words: 0..1, own: 0..1 }]);
    }

    #[test]
    fn a_word_is_read_where_it_has_most_around_it() {
        let found = windows(&[1; 10], 6, 4);
        let expected = [(0..6, 0..4), (2..8, 4..6), (4..10, 6..10)];
        assert_eq!(found, expected.map(|(words, own)| Window { words, own }));
    }

    proptest! {
        #[test]
        fn every_word_is_read_once(tokens in prop::collection::vec(0usize..9, 0..60), room in 1usize..12, overlap in 0usize..12) {
            let found = windows(&tokens, room, overlap);
            let own: Vec<usize> = found.iter().flat_map(|w| w.own.clone()).collect();
            prop_assert_eq!(own, (0..tokens.len()).collect::<Vec<_>>());
            for w in &found {
                prop_assert!(w.own.is_empty() || (w.words.start <= w.own.start && w.own.end <= w.words.end));
                let sum: usize = w.words.clone().map(|i| tokens[i].min(room)).sum();
                prop_assert!(sum <= room && !w.words.is_empty());
            }
            for pair in found.windows(2) {
                prop_assert!(pair[0].words.end < pair[1].words.end && pair[0].words.start < pair[1].words.start);
                let shared: usize = (pair[1].words.start..pair[0].words.end).map(|i| tokens[i].min(room)).sum();
                prop_assert!(shared <= overlap);
            }
        }
    }
}
