//! The search for options of a run: what is tried ([`Space`]), which values come next ([`Sampler`]),
//! what was tried and what came of it ([`Trial`]), and which trials go on ([`Halving`]).
mod halving;
mod space;
mod trial;

pub use halving::Halving;
pub use space::{Sampler, Space};
pub use trial::{FILE, State, Trial, read, write};
