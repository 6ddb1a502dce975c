//! Trains adapters on frozen transformers.

#![forbid(unsafe_code)]

pub mod data;
mod error;

pub use error::{Error, Result};
