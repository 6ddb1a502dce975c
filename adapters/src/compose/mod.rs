//! Several adapters at once: who answers for which sequence, and how their answers are put
//! together.
mod active;
mod compat;
mod fused;
mod normal;
mod parts;
mod set;
mod setup;
mod subset;
mod together;
mod tree;
mod walk;

pub use active::Active;
pub use compat::Compat;
pub use fused::{Fused, Mixable};
pub use set::AdapterSet;
pub use setup::Setup;
pub use tree::Tree;
