//! What is grafted onto a frozen model: bottleneck adapters and task heads, with their AdapterHub checkpoints.
//!
//! An adapter answers the hooks of `engraft_engine` at the sites a model lists; it knows nothing else of the model. It is
//! generic over the weight: `Adapter<Param>` trains, [`Adapter::freeze`] gives `Adapter<Frozen>`, which records nothing.
//! Files are those of AdapterHub's `adapters` library, in safetensors.
#![forbid(unsafe_code)]

pub mod adapter;
pub mod bottleneck;
pub mod config;
mod error;
mod files;
pub mod head;

pub use adapter::Adapter;
pub use bottleneck::Bottleneck;
pub use config::{BnConfig, Placement, Reduction, Residual, Scaling, Start};
pub use error::{Error, Result};
pub use files::Host;
pub use head::{ClassificationHead, HeadConfig};
