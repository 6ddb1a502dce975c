//! Train adapters on frozen transformers.
//!
//! A [`classifier::Backbone`] is a frozen model, loaded once. A [`classifier::Classifier`] grafts an adapter and a head onto it,
//! a [`classifier::Trainer`] takes steps, and what comes out is saved in AdapterHub's format:
//!
//! ```
//! use engraft::{BnConfig, AdamW, Device, batch::Batch, classifier::{Backbone, Opening, Trainer}};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let directory = engraft::demo::unpack_backbone(dir.path())?;
//! let device = Device::cpu(0)?; // all cores
//! let backbone = Backbone::open(&directory, &device, Opening::default())?; // config.json, model.safetensors
//!
//! let labels = ["quiet".to_string(), "loud".to_string()];
//! let head = backbone.linear_head(&labels);
//! let mut classifier = backbone.classifier("noise", Some(BnConfig::houlsby()), head, 42)?;
//!
//! // any iterator of batches: token ids of all texts one after the other, their lengths, their labels
//! let batches = (0..3).map(|_| Batch::of(&[(&[2, 17, 11, 3], 0), (&[2, 25, 3], 1)]));
//! let mut trainer = Trainer::new(AdamW::new(0.01), 1.0, 42);
//! for batch in batches {
//!     let step = trainer.step(&mut classifier, &[batch], 1e-3)?;
//!     assert!(step.loss.is_finite());
//! }
//! classifier.save(dir.path().join("noise"))?; // adapter_config.json, adapter.safetensors, and the head's
//! # Ok(())
//! # }
//! ```
//!
//! [`memory::account`] says what a step holds, by class and layer, and [`plan::plan`] which layers must recompute their activations
//! so that a run fits into a number of bytes; [`Trainer::with_activations`](classifier::Trainer::with_activations) obeys it.
//!
//! [`train::train`] is the program's run: data files, tokeniser, schedule, evaluation, the best checkpoint kept.
#![forbid(unsafe_code)]

pub mod args;
mod backbone;
pub mod batch;
pub mod classifier;
pub mod config;
pub mod data;
pub mod demo;
mod error;
pub mod evaluate;
pub mod memory;
pub mod metrics;
pub mod plan;
pub mod prefix;
pub mod profile;
pub mod progress;
pub mod report;
pub mod schedule;
mod step;
mod storage;
pub mod tokenizer;
pub mod train;

pub use engraft_adapters::{self as adapters, BnConfig, HeadConfig};
pub use engraft_engine::{self as engine, AdamW, Device, Storage, output};
pub use engraft_models::{self as models, Tokens};
pub use error::{Error, Result};
