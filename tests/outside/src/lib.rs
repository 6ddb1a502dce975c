//! What somebody else would write: an architecture, an adapter method and a task of one's own, each
//! in one file, trained with the crates as they are.
#![forbid(unsafe_code)]

pub mod architecture;
pub mod method;
pub mod task;
