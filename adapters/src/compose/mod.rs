//! Several adapters at once: who answers for which sequence, and how their answers are put together.
mod active;
mod normal;
mod parts;
mod set;
mod setup;
mod subset;
mod together;
mod tree;
mod walk;

pub use active::Active;
pub use set::{AdapterSet, Compat};
pub use setup::Setup;
pub use tree::Tree;
