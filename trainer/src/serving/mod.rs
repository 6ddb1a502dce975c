//! Predictions for many: any number of saved learners on one frozen model, and requests from
//! several threads.
//!
//! ```
//! use engraft::{Device, Storage, learner::{Backbone, Opening}, serving::{Bank, Gathering, Service}};
//! use engraft::{tasks::{Classification, Task}, text::tokenizer::{Fit, Tokenizer}, learner::Graft, adapters::BnConfig};
//! use std::sync::Arc;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let directory = engraft::demo::unpack_backbone(dir.path())?;
//! let backbone = Backbone::open(&directory, &Device::cpu(0)?, Opening::default())?;
//! let fit = Fit { model: "demo", vocabulary: backbone.model().info().vocabulary, positions: Some(128), max_length: 128 };
//! let tokenizer = Tokenizer::load(&directory, fit)?;
//! # for (seed, name) in ["cats", "dogs"].into_iter().enumerate() {
//! #     let task = Classification::new(["quiet", "loud"])?;
//! #     let (head, adapter) = (task.head(backbone.model().info(), false), Some(BnConfig::pfeiffer().into()));
//! #     let graft = Graft { name: name.into(), adapter, head, seed: seed as u64, ..Graft::default() };
//! #     backbone.clone().learner(graft, Box::new(task))?.save(dir.path().join(name))?;
//! # }
//!
//! // adapters with their heads, from what `engraft train` or AdapterHub saved; matrices held in bf16
//! let bank = Arc::new(Bank::new(backbone).storing(Storage::Bf16)?);
//! bank.load_all(["cats", "dogs"].map(|name| (name.to_string(), dir.path().join(name))).to_vec())?;
//!
//! // requests of all threads that come within 2 ms, or with 4,096 tokens, are one batch
//! let service = Service::start(bank.clone(), Gathering::default())?;
//! std::thread::scope(|threads| {
//!     for name in ["cats", "dogs"] {
//!         let (service, tokenizer) = (&service, &tokenizer);
//!         threads.spawn(move || {
//!             let said = service.predict(name, &["How quiet it is!".into()], tokenizer).unwrap();
//!             println!("{}", said[0].text); // quiet 0.5012 How quiet it is!
//!         });
//!     }
//! });
//! bank.load("dogs", &dir.path().join("cats"))?; // takes the place of the one before, while others are served
//! bank.remove("cats");
//! assert!(service.predict("cats", &["Gone.".into()], &tokenizer).is_err());
//! # Ok(())
//! # }
//! ```
mod bank;
mod service;

pub use bank::Bank;
pub use service::{Gathering, Served, Service};
