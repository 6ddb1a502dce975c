//! Token ids back to text.
use super::{guarded::guarded, tokenizer::Tokenizer};
use crate::error::{Error, Result};
use std::path::Path;

impl Tokenizer {
    /// The text of token ids, without special tokens. A character that is not whole is U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        guarded(|| self.inner.decode(ids, true)).map_err(|why| Error::file(Path::new(&self.name), why))
    }
}
