//! What can go wrong in a pass or in a checkpoint.
use engraft_kernels::Storage;
use std::path::PathBuf;

/// The error of every operation of the engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device or a kernel refused.
    #[error(transparent)]
    Kernel(#[from] engraft_kernels::Error),
    /// Shapes that do not go together.
    #[error("{op}: {left:?} does not go with {right:?}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// One shape.
        left: Vec<usize>,
        /// The other.
        right: Vec<usize>,
    },
    /// What an operation is not made for.
    #[error("{op}: {what} is not supported")]
    Unsupported {
        /// The operation.
        op: &'static str,
        /// What it was asked for.
        what: &'static str,
    },
    /// What a cache of keys and values cannot hold.
    #[error("the cache of keys and values {what}")]
    Cache {
        /// What it cannot do.
        what: String,
    },
    /// A sequence attends to an item that has no keys.
    #[error("{op}: no keys for item {item} of the batch")]
    NoKeys {
        /// The operation.
        op: &'static str,
        /// The item.
        item: usize,
    },
    /// A batch of more items than the active adapters answer for.
    #[error("item {item} of the batch has no answer: the active setup is for {items} items")]
    Route {
        /// The item.
        item: usize,
        /// Items that are answered for.
        items: usize,
    },
    /// Two weights with one place among the gradients.
    #[error(
        "`{name}` shares its gradient with another weight: what trains together must come from one `ParamSet`"
    )]
    Slot {
        /// One of them.
        name: String,
    },
    /// A file or directory that cannot be written; nothing half-written was left behind.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A directory into which somebody else writes.
    #[error("another run writes into {path}")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// A file that cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file that is not what it should be.
    #[error("{path}: {what}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A tensor that is not in the checkpoint.
    #[error("{path}: no tensor `{name}`")]
    Missing {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor that the checkpoint has under a longer or a shorter name.
    #[error("{path}: no tensor `{name}`: the names in the file {what}")]
    Misnamed {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What is in front of them.
        what: String,
    },
    /// A tensor of another shape than the configuration asks for.
    #[error("{path}: tensor `{name}` is {got:?}, the configuration needs {expected:?}")]
    TensorShape {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What the configuration asks for.
        expected: Vec<usize>,
        /// What the file holds.
        got: Vec<usize>,
    },
    /// A tensor of an element type that is not supported.
    #[error("{path}: tensor `{name}` is {dtype}; f32, bf16 and f16 are supported")]
    TensorType {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type.
        dtype: String,
    },
    /// A quantised tensor that was asked for in another storage type.
    #[error(
        "{path}: tensor `{name}` is stored as {stored} and cannot become {asked}: \
         use it as it is, or take the model that it was made from"
    )]
    Stored {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What it is stored as.
        stored: Storage,
        /// What was asked for.
        asked: Storage,
    },
    /// A tensor that cannot be read, or stored, as it should be.
    #[error("{path}: tensor `{name}` {what}")]
    Tensor {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// A tensor with values that are not numbers.
    #[error("{path}: tensor `{name}` holds values that are not finite; is the file damaged?")]
    NotFinite {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
}

/// `Result` with the engine's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
