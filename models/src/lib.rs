//! Hand-written forward passes.
//!
//! A model calls the hooks of `engraft_engine` at its sites and lists those sites; it never names an adapter. It is generic
//! over the weight: `Bert<Frozen>` is the product, `Bert<Param>` is full fine-tuning, from the same code. [`load`] reads a
//! Hugging Face directory and picks the model by its `model_type` from [`MODELS`].
#![forbid(unsafe_code)]

pub mod bert;
mod config;
mod error;
mod model;

pub use bert::Bert;
pub use config::Config;
pub use error::{Error, Result};
pub use model::{Loaded, MODELS, Model, ModelType, Rows, Tokens, load, load_frozen};
