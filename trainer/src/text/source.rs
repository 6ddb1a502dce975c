//! The files that a tokenizer is made of: their names and contents.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::{Error, Result};

/// The tokenizer itself.
pub const TOKENIZER: &str = "tokenizer.json";
/// A vocabulary whose file name no class names, but which transformers prefers to those of all
/// classes where there is no `tokenizer.json`.
pub(super) const PREFERRED: &str = "tokenizer.model";
/// Mistral's own format, which it prefers as well.
pub(super) const TEKKEN: &str = "tekken.json";
/// Every file that a vocabulary can be in.
pub const VOCABULARIES: [&str; 7] =
    ["vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model", PREFERRED, TEKKEN];

/// The content of `tokenizer.json` and of the files beside it, as far as they are there, and of the
/// vocabularies that are read in its place.
#[derive(Debug, Clone, Default)]
pub struct Files {
    pub(super) directory: PathBuf,
    pub(super) contents: BTreeMap<&'static str, Vec<u8>>,
}

impl Files {
    /// Reads one of them, if it is there.
    pub(super) fn take(&mut self, name: &'static str) -> Result<()> {
        let path = self.path(name);
        match std::fs::read(&path) {
            Ok(bytes) => drop(self.contents.insert(name, bytes)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::Read { path, source }),
        }
        Ok(())
    }

    /// Files of these names ([`TOKENIZER`], those beside it, [`VOCABULARIES`]) and contents;
    /// `directory` only names them in errors.
    pub fn of(
        directory: impl Into<PathBuf>,
        contents: impl IntoIterator<Item = (&'static str, Vec<u8>)>,
    ) -> Files {
        Files { directory: directory.into(), contents: contents.into_iter().collect() }
    }

    /// The path of one of them.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Whether one of them is there.
    pub fn has(&self, name: &str) -> bool {
        self.contents.contains_key(name)
    }

    /// The content of one of them; nothing if it is not there.
    pub fn content(&self, name: &str) -> &[u8] {
        self.contents.get(name).map(Vec::as_slice).unwrap_or_default()
    }
}
