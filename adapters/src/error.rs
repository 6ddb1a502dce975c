//! What can go wrong with adapters, heads and their files.
use std::path::PathBuf;

/// The error of adapters and heads.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] engraft_engine::Error),
    /// A configuration that cannot be honoured.
    #[error("{0}")]
    Config(String),
    /// A configuration string that cannot be read.
    #[error("`{text}`, character {character}: {what}")]
    Syntax {
        /// The whole string.
        text: String,
        /// The place in it, from 1.
        character: usize,
        /// What is wrong there.
        what: String,
    },
    /// A file that is not what it should be.
    #[error("{path}: {what}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// `Result` with the adapters' [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
