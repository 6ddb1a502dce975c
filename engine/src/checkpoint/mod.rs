//! safetensors in and out.
mod read;
mod write;

pub use read::{Checkpoint, Load};
pub use write::{TensorData, save, serialize};
