//! Token sequences for language models: documents in blocks, and what is to be predicted of them.
use super::example::IGNORED;

/// Documents one after the other, the token `end` behind each, cut into blocks of `length` tokens.
/// What does not fill a block is left in `rest`, which also holds what was left before. Each block
/// comes with the number of the document in which it begins, of these or, if it began before, the
/// first.
pub fn blocks(
    documents: &[Vec<u32>],
    end: Option<u32>,
    length: usize,
    rest: &mut Vec<u32>,
) -> Vec<(usize, Vec<u32>)> {
    let (length, mut found, mut began) = (length.max(1), vec![], 0);
    for (number, document) in documents.iter().enumerate() {
        for id in document.iter().copied().chain(end) {
            if rest.is_empty() {
                began = number;
            }
            rest.push(id);
            if rest.len() == length {
                found.push((began, std::mem::take(rest)));
            }
        }
    }
    found
}

/// Documents in groups of a thousand: those of a group one after the other, with nothing between
/// them, cut into blocks of `length` tokens; what does not fill a block goes with its group. `rest`
/// and `behind` hold what is left of the group under way, and how many documents of it there were.
pub fn groups(
    documents: &[Vec<u32>],
    length: usize,
    rest: &mut Vec<u32>,
    behind: &mut usize,
) -> Vec<(usize, Vec<u32>)> {
    const GROUP: usize = 1000;
    let (mut found, mut first) = (vec![], 0);
    while first < documents.len() {
        let end = documents.len().min(first + GROUP - *behind);
        let group = blocks(&documents[first..end], None, length, rest);
        found.extend(group.into_iter().map(|(number, ids)| (first + number, ids)));
        *behind += end - first;
        if *behind == GROUP {
            *behind = 0;
            rest.clear();
        }
        first = end;
    }
    found
}

/// One document in pieces of at most `length` tokens. Each piece begins with the last token of the
/// one before, so that every token but the first is predicted once.
pub fn pieces(document: &[u32], length: usize) -> Vec<Vec<u32>> {
    let (length, mut start) = (length.max(2), 0);
    let mut pieces = vec![];
    while start + 1 < document.len() || (start == 0 && !document.is_empty()) {
        let end = document.len().min(start + length);
        pieces.push(document[start..end].to_vec());
        start = end - 1;
        if end == document.len() {
            break;
        }
    }
    pieces
}

/// What each position predicts: the token behind it; the last one nothing.
pub fn next_tokens(ids: &[u32]) -> Vec<u32> {
    ids.iter().skip(1).copied().chain(ids.first().map(|_| IGNORED)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn documents_follow_each_other() {
        let documents = [vec![1, 2, 3], vec![], vec![4], vec![5, 6]];
        let of = |end, length| {
            let mut rest = vec![];
            (blocks(&documents, end, length, &mut rest), rest)
        };
        assert_eq!(of(Some(0), 4), (vec![(0, vec![1, 2, 3, 0]), (1, vec![0, 4, 0, 5])], vec![6, 0]));
        assert_eq!(of(None, 5), (vec![(0, vec![1, 2, 3, 4, 5])], vec![6]));
        assert_eq!(next_tokens(&[7, 8, 9]), [8, 9, IGNORED]);
        assert!(next_tokens(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn blocks_are_the_same_however_documents_come(
            documents in prop::collection::vec(prop::collection::vec(0u32..9, 0..6), 0..9),
            at in 0usize..9,
            length in 1usize..7,
        ) {
            let (mut whole, mut rest) = (vec![], vec![]);
            let once = blocks(&documents, Some(9), length, &mut whole);
            let (first, later) = documents.split_at(at.min(documents.len()));
            let mut found = blocks(first, Some(9), length, &mut rest);
            found.extend(blocks(later, Some(9), length, &mut rest));
            let ids = |blocks: &[(usize, Vec<u32>)]| blocks.iter().map(|b| b.1.clone()).collect::<Vec<_>>();
            prop_assert_eq!((ids(&found), rest), (ids(&once), whole));
        }

        #[test]
        fn every_token_but_the_first_is_predicted_once(n in 0u32..40, length in 0usize..9) {
            let document: Vec<u32> = (0..n).collect();
            let all = pieces(&document, length);
            let predicted: Vec<u32> = all.iter().flat_map(|p| next_tokens(p)).filter(|id| *id != IGNORED).collect();
            prop_assert_eq!(predicted, (1..n).collect::<Vec<_>>());
            prop_assert!(all.iter().all(|p| p.len() <= length.max(2)) && (all.is_empty() == (n == 0)));
        }
    }
}
