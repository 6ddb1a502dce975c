//! The program: options and arguments, what each command does, and what it prints.
pub mod args;
pub mod choose;
pub mod commands;
mod common;
pub mod demo;
mod drawing;
pub mod graft;
pub mod mixed;
pub mod mixed_runs;
pub mod options;
pub mod print;
pub mod runs;
mod search;
mod series;
mod setup;
pub mod signals;
