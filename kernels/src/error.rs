//! What can go wrong below the engine.

/// The error of every kernel and device call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A buffer does not hold as many elements as the launch needs.
    #[error("{kernel}: `{argument}` holds {got} elements, {expected} are needed")]
    Length {
        /// The kernel that refused.
        kernel: &'static str,
        /// Its argument.
        argument: &'static str,
        /// Elements needed.
        expected: usize,
        /// Elements found.
        got: usize,
    },
    /// A matrix of another shape than the launch needs.
    #[error("{kernel}: `{argument}` is {got:?}, expected {expected:?}")]
    Shape {
        /// The kernel that refused.
        kernel: &'static str,
        /// Its argument.
        argument: &'static str,
        /// (rows, columns) needed.
        expected: (usize, usize),
        /// (rows, columns) found.
        got: (usize, usize),
    },
    /// A part that is not inside its matrix.
    #[error("rows {rows:?} and columns {cols:?} are not inside a matrix of {of:?}")]
    Part {
        /// The rows asked for.
        rows: std::ops::Range<usize>,
        /// The columns asked for.
        cols: std::ops::Range<usize>,
        /// Its (rows, columns).
        of: (usize, usize),
    },
    /// Parts that must be disjoint are not.
    #[error("{kernel}: `{argument}` overlap")]
    Overlap {
        /// The kernel that refused.
        kernel: &'static str,
        /// Its argument.
        argument: &'static str,
    },
    /// A label, or another number, that names nothing.
    #[error("{kernel}: there is no {what} {got}, they are 0 to below {below}")]
    Range {
        /// The kernel that refused.
        kernel: &'static str,
        /// What it names.
        what: &'static str,
        /// The number.
        got: usize,
        /// The first one that is too large.
        below: usize,
    },
    /// A buffer holds another element type than the kernel takes.
    #[error("{kernel}: `{argument}` is {got}, expected {expected}")]
    DType {
        /// The kernel that refused.
        kernel: &'static str,
        /// Its argument.
        argument: &'static str,
        /// What the kernel takes.
        expected: &'static str,
        /// What the buffer holds.
        got: crate::DType,
    },
    /// The kernel has no code for this device.
    #[error("{kernel} does not run on {device}")]
    Unsupported {
        /// The kernel that refused.
        kernel: &'static str,
        /// The device.
        device: &'static str,
    },
    /// Two arguments of one launch live on different devices.
    #[error("{kernel}: `{argument}` lives on another device")]
    Elsewhere {
        /// The kernel that refused.
        kernel: &'static str,
        /// Its argument.
        argument: &'static str,
    },
    /// The device could not be opened.
    #[error("cannot open {device}: {why}")]
    Open {
        /// The device.
        device: &'static str,
        /// The reason, from the driver or the operating system.
        why: String,
    },
    /// No memory of that size.
    #[error("out of memory on {device}: {bytes} bytes were asked for")]
    Memory {
        /// The device.
        device: &'static str,
        /// Bytes asked for.
        bytes: usize,
    },
    /// The CUDA driver refused a call.
    #[error("CUDA: {0}")]
    Cuda(String),
    /// A file could not be mapped.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// `Result` with the kernels' [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
