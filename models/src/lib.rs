//! Hand-written forward passes.
//!
//! A model calls the hooks of `engraft_engine` at its sites and lists those sites; it never names
//! an adapter. It is generic over the weight: `Gpt2<Frozen>` is the product, `Gpt2<Param>` is full
//! fine-tuning, from the same code. [`load_frozen`] reads a Hugging Face directory and picks the
//! family by its `model_type` from [`FAMILIES`].
#![forbid(unsafe_code)]

pub mod albert;
pub mod bert;
mod config;
pub mod distilbert;
pub mod electra;
mod encoder;
mod error;
mod family;
pub mod gpt2;
mod masked_lm;
mod model;
pub mod modernbert;
mod post_norm;
mod registry;
pub mod roberta;
pub mod weights;

pub use config::Config;
pub use engraft_engine::Rows;
pub use error::{Error, Result};
pub use family::{Build, Family};
pub use gpt2::Gpt2;
pub use model::{Kind, Model, ModelInfo, Tokens};
pub use modernbert::ModernBert;
pub use post_norm::PostNorm;
pub use registry::{FAMILIES, Holding, Loaded, load_as, load_frozen, load_trained};
pub use weights::{Layout, Weights};
