//! Token sequences for language models: documents in blocks, and what is to be predicted of them.
use super::example::IGNORED;

/// Documents one after the other, the token `end` behind each, cut into blocks of `length` tokens; the last block may be short. A
/// block of one token, of which nothing can be predicted, is left out. Each block comes with the number of the document in
/// which it begins.
pub fn blocks(documents: &[Vec<u32>], end: Option<u32>, length: usize) -> Vec<(usize, Vec<u32>)> {
    let numbered = documents.iter().enumerate();
    let stream: Vec<(usize, u32)> =
        numbered.flat_map(|(i, d)| d.iter().copied().chain(end).map(move |id| (i, id))).collect();
    let blocks = stream.chunks(length.max(1)).filter(|block| block.len() > 1);
    blocks.map(|block| (block[0].0, block.iter().map(|(_, id)| *id).collect())).collect()
}

/// One document in pieces of at most `length` tokens. Each piece begins with the last token of the one before, so that every
/// token but the first is predicted once.
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
        let of = |end, length| blocks(&documents, end, length);
        assert_eq!(of(Some(0), 4), [(0, vec![1, 2, 3, 0]), (1, vec![0, 4, 0, 5]), (3, vec![6, 0])]);
        assert_eq!(of(None, 5), [(0, vec![1, 2, 3, 4, 5])], "one token is no block");
        assert_eq!(next_tokens(&[7, 8, 9]), [8, 9, IGNORED]);
        assert!(next_tokens(&[]).is_empty());
    }

    proptest! {
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
