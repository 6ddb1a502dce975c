//! Train adapters on frozen transformers.
//!
//! A [`learner::Backbone`] is a frozen model, loaded once. A [`learner::Learner`] grafts an adapter
//! and the head of a task onto it, a [`run::step::Trainer`] takes steps, and what comes out is
//! saved in AdapterHub's format:
//!
//! ```
//! use engraft::{AdamW, Device, adapters::BnConfig, learner::{Backbone, Graft, Opening}, run::step::Trainer};
//! use engraft::{tasks::{Classification, Task}, text::batch::Batch};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let directory = engraft::demo::unpack_backbone(dir.path())?;
//! let device = Device::cpu(0)?; // all cores
//! let backbone = Backbone::open(&directory, &device, Opening::default())?; // config.json, model.safetensors
//!
//! let task = Classification::new(["quiet", "loud"])?;
//! let head = task.head(backbone.model().info(), false);
//! let adapter = Some(BnConfig::houlsby().into());
//! let mut learner = backbone.learner(Graft { name: "noise".into(), adapter, head, seed: 42, ..Graft::default() }, Box::new(task))?;
//!
//! // any iterator of batches: token ids of all texts one after the other, their lengths, their labels
//! let batches = (0..3).map(|_| Batch::of(&[(&[2, 17, 11, 3], 0), (&[2, 25, 3], 1)]));
//! let mut trainer = Trainer::new(AdamW::new(0.01).clipping(1.0), 42);
//! for batch in batches {
//!     let step = trainer.step(&mut learner, &[batch], 1e-3)?;
//!     assert!(step.loss.is_finite());
//! }
//! learner.save(dir.path().join("noise"))?; // adapter_config.json, adapter.safetensors, and the head's
//! # Ok(())
//! # }
//! ```
//!
//! What is learned is a [`tasks::Task`]: classification, tagging, language modelling, text to text,
//! or one of your own.
//!
//! [`run::account`] says what a step holds, by class and layer, and [`run::plan`] which layers must
//! recompute their activations so that a run fits into a number of bytes;
//! [`Trainer::with_activations`](run::step::Trainer::with_activations) obeys it.
//!
//! [`run::teaching`] has what teachers say of examples, from which a learner learns beside the labels
//! ([`Learner::set_distillation`](learner::Learner::set_distillation)); [`meta`] learns an adapter from
//! which new tasks are learned in a few steps.
//!
//! [`serving`] answers for any number of saved learners at once, in mixed batches.
//!
//! [`run::train`] is a whole run: schedule, evaluation, the best checkpoint kept. The program
//! `engraft` adds options, files and a terminal.
#![forbid(unsafe_code)]

#[macro_use]
pub mod choice;
pub mod data;
pub mod demo;
mod error;
pub mod generation;
mod guarded;
pub mod hub;
pub mod learner;
pub mod meta;
pub mod reports;
pub mod routing;
pub mod run;
pub mod search;
pub mod serving;
pub mod tasks;
pub mod text;

pub use engraft_adapters::{self as adapters};
pub use engraft_engine::{self as engine, AdamW, Device, Storage, output};
pub use engraft_models::{self as models, Tokens};
pub use error::{Error, Result};

/// The Rust of the pages in `docs/`.
#[cfg(doctest)]
mod tutorials {
    macro_rules! pages {
        ($($name:ident = $file:literal,)*) => { $(#[doc = include_str!($file)] pub struct $name;)* };
    }
    pages! {
        Adapters = "../../docs/adapters.md",
        Training = "../../docs/training.md",
        Several = "../../docs/several.md",
        Fusion = "../../docs/fusion.md",
        Analysis = "../../docs/fusion-analysis.md",
        Embedding = "../../docs/embedding.md",
        Measuring = "../../docs/measuring.md",
    }
}
