//! What can go wrong with an adapter or its files.
use std::path::PathBuf;

/// The error of building, loading and saving adapters and heads.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine, a device or a checkpoint refused.
    #[error(transparent)]
    Engine(#[from] engraft_engine::Error),
    /// A configuration that cannot be honoured.
    #[error("{0}")]
    Config(String),
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
