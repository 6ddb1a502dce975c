//! Train adapters on frozen transformers.
//!
//! A [`learner::Backbone`] is a frozen model, loaded once. A [`learner::Classifier`] grafts an adapter and a head onto it,
//! a [`run::step::Trainer`] takes steps, and what comes out is saved in AdapterHub's format:
//!
//! ```
//! use engraft::{BnConfig, AdamW, Device, learner::{Backbone, Opening}, run::step::Trainer, text::batch::Batch};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let directory = engraft::demo::unpack_backbone(dir.path())?;
//! let device = Device::cpu(0)?; // all cores
//! let backbone = Backbone::open(&directory, &device, Opening::default())?; // config.json, model.safetensors
//!
//! let labels = ["quiet".to_string(), "loud".to_string()];
//! let head = backbone.linear_head(&labels);
//! let mut classifier = backbone.classifier("noise", Some(BnConfig::houlsby().into()), head, 42)?;
//!
//! // any iterator of batches: token ids of all texts one after the other, their lengths, their labels
//! let batches = (0..3).map(|_| Batch::of(&[(&[2, 17, 11, 3], 0), (&[2, 25, 3], 1)]));
//! let mut trainer = Trainer::new(AdamW::new(0.01).clipping(1.0), 42);
//! for batch in batches {
//!     let step = trainer.step(&mut classifier, &[batch], 1e-3)?;
//!     assert!(step.loss.is_finite());
//! }
//! classifier.save(dir.path().join("noise"))?; // adapter_config.json, adapter.safetensors, and the head's
//! # Ok(())
//! # }
//! ```
//!
//! [`run::account`] says what a step holds, by class and layer, and [`run::plan`] which layers must recompute their activations
//! so that a run fits into a number of bytes; [`Trainer::with_activations`](run::step::Trainer::with_activations) obeys it.
//!
//! [`run::train`] is a whole run: schedule, evaluation, the best checkpoint kept. The program `engraft` adds options, files and a terminal.
#![forbid(unsafe_code)]

#[macro_use]
pub mod choice;
pub mod data;
pub mod demo;
mod error;
pub mod learner;
pub mod reports;
pub mod run;
pub mod text;

pub use engraft_adapters::{self as adapters, BnConfig, heads::Classification};
pub use engraft_engine::{self as engine, AdamW, Device, Storage, output};
pub use engraft_models::{self as models, Tokens};
pub use error::{Error, Result};
