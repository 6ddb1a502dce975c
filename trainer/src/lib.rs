//! Trains adapters on frozen transformers.

#![forbid(unsafe_code)]

pub mod args;
pub mod batch;
pub mod config;
pub mod data;
mod error;
pub mod metrics;
pub mod output;
pub mod progress;
pub mod report;
pub mod schedule;
pub mod tokenizer;

pub use error::{Error, Result};
