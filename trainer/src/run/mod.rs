//! Runs: steps of training, their plan and their price, evaluation.
pub mod account;
pub mod directory;
pub mod evaluate;
pub mod plan;
pub mod profile;
pub mod recipe;
pub mod schedule;
pub mod state;
pub mod step;
pub mod train;
