//! Several adapters at once: who answers for which sequence, and how their answers are put together.
mod active;
mod tree;
mod walk;

pub use tree::Tree;
