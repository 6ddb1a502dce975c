//! The differentiable operations. A file each: formula, forward, what it keeps, backward.
//!
//! They are methods of [`crate::Cx`]. Every one is checked against finite differences of its
//! double-precision reference (`tests/gradients*.rs`).
mod activation;
mod add_row;
mod attention;
mod bottleneck;
mod columns;
mod cross_entropy;
mod cross_entropy_of_rows;
mod divergence;
mod dropout;
mod elementwise;
mod embed;
mod gated;
mod kronecker;
mod linear;
mod low_rank;
mod means;
mod mixture;
mod norm;
mod pointwise_loss;
mod pull;
mod rotary;
mod row_norms;
mod rows;
mod sequences;
mod unit_rows;
mod values;
mod vocabulary_loss;

pub use attention::{Cols, Heads, Mask, Qkv, Relative};
pub use bottleneck::RowsBottleneck;
pub use kronecker::{KroneckerSum, Matrices};
pub use low_rank::LowRank;
pub use rotary::Rotation;
pub use rows::Rows;
