//! Hand-written forward passes.
//!
//! A model calls the hooks of `engraft_engine` at its sites and lists those sites; it never names
//! an adapter. It is generic over the weight: `Gpt2<Frozen>` is the product, `Gpt2<Param>` is full
//! fine-tuning, from the same code. [`load_frozen`] reads a Hugging Face directory and picks the
//! family by its `model_type` from [`FAMILIES`].
#![forbid(unsafe_code)]

pub mod albert;
pub mod bert;
mod buckets;
mod config;
pub mod distilbert;
pub mod electra;
mod encoder;
mod error;
mod family;
pub mod gpt2;
pub mod gpt_neo;
pub mod gptj;
pub mod llama;
mod masked_lm;
pub mod mistral;
mod model;
pub mod modernbert;
mod post_norm;
mod pre_norm;
pub mod qwen2;
pub mod qwen3;
mod registry;
pub mod roberta;
mod rope;
mod rope_scaling;
pub mod t5;
pub mod weights;

pub use config::Config;
pub use engraft_engine::Rows;
pub use error::{Error, Result};
pub use family::{Build, Family};
pub use gpt_neo::GptNeo;
pub use gpt2::Gpt2;
pub use gptj::GptJ;
pub use llama::Llama;
pub use model::{Kind, Model, ModelInfo, Target, Tokens};
pub use modernbert::ModernBert;
pub use post_norm::PostNorm;
pub use registry::{FAMILIES, Holding, Loaded, load_as, load_frozen, load_trained};
pub use t5::T5;
pub use weights::{Layout, Weights};
