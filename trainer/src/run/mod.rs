//! Runs: steps of training, their plan and their price, evaluation.
pub mod account;
pub mod adapter_drop;
pub mod directory;
mod encoding;
pub mod evaluate;
mod member;
pub mod mixed;
pub mod mixture;
pub mod of_each;
pub mod plan;
pub mod profile;
pub mod recipe;
pub mod schedule;
pub mod source;
pub mod state;
pub mod step;
pub mod stream;
pub mod train;
