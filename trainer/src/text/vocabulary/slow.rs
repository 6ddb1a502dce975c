//! The ids of a slow tokenizer: they are what stands in the templates of the fast one, even where
//! that gives a token another id.

use std::collections::{BTreeMap, HashMap};

use super::Given;
use crate::error::Result;
use crate::text::added::Named;

/// Ids by token, and tokens by id.
pub(super) struct Slow<'a> {
    pieces: HashMap<&'a str, u32>,
    added: HashMap<&'a str, i64>,
}

impl<'a> Slow<'a> {
    /// Those of `PreTrainedTokenizer.__init__`: tokens that the files add have the ids that are said
    /// there, and special ones that are nowhere come behind all others. With SentencePiece
    /// (`hides`) an added token hides the piece that has its id.
    pub fn new(given: &Given<'a>, pieces: impl Iterator<Item = (&'a str, u32)>, hides: bool) -> Self {
        // of two equal pieces the first one is found by its text, and the last one counted
        let (mut first, mut known) = (HashMap::new(), HashMap::new());
        for (piece, id) in pieces {
            first.entry(piece).or_insert(id);
            if !(hides && given.added.contains_key(&i64::from(id))) {
                known.insert(piece, id);
            }
        }
        let mut added: HashMap<&str, i64> =
            given.added.iter().map(|(id, token)| (token.content.as_str(), *id)).collect();
        let new = added.keys().filter(|token| !known.contains_key(**token)).count();
        let mut next = (known.len() + new) as i64;
        for token in given.special.iter().flat_map(|(_, tokens)| tokens).map(Named::content) {
            if token.is_empty() || added.contains_key(token) {
                continue;
            }
            let id = known.get(token).map(|id| i64::from(*id)).unwrap_or_else(|| {
                next += 1;
                next - 1
            });
            added.insert(token, id);
        }
        Self { pieces: first, added }
    }

    /// The id of a token; that of `unknown` if there is no such token. An error names the field
    /// that the token comes from.
    pub fn id(&self, given: &Given<'_>, field: &str, token: &str, unknown: Option<u32>) -> Result<u32> {
        let id = self.added.get(token).copied();
        let id = id.or_else(|| self.pieces.get(token).map(|id| i64::from(*id)));
        let id = id.or(unknown.map(i64::from)).and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| given.fields.error(field, format!("is `{token}`, which {} has not", given.name)))
    }

    /// The token that stands for an id in place of the vocabulary's own one.
    pub fn added(&self) -> BTreeMap<i64, &'a str> {
        self.added.iter().map(|(token, id)| (*id, *token)).collect()
    }
}
