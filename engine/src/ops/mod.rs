//! The differentiable operations. A file each: formula, forward, what it keeps, backward.
//!
//! They are methods of [`crate::Cx`]. Every one is checked against finite differences of its double-precision reference
//! (`tests/gradients.rs`).
mod activation;
mod attention;
mod bottleneck;
mod cross_entropy;
mod dropout;
mod elementwise;
mod embed;
mod linear;
mod norm;
mod rows;

pub use attention::{Cols, Heads, Mask, Qkv, Relative};
pub use rows::Rows;
