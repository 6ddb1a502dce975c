//! What can go wrong with a model directory or its input.
use std::path::PathBuf;

/// The error of loading and running a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine, a device or a checkpoint refused.
    #[error(transparent)]
    Engine(#[from] engraft_engine::Error),
    /// A configuration that cannot be honoured.
    #[error("{path}: {what}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Tokens the model cannot take.
    #[error("{0}")]
    Input(String),
}
impl From<engraft_engine::kernels::Error> for Error {
    fn from(e: engraft_engine::kernels::Error) -> Error {
        Error::Engine(e.into())
    }
}

/// `Result` with the models' [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
