//! Text generation: what a language model says next, with or without adapters, as `transformers`
//! 4.57.6 generates it (`GenerationMixin.generate`).
//!
//! * [`Settings`]: how to generate; the defaults of a model are in its `generation_config.json`
//! * [`generate`]: continues prompts of different lengths, all in one packed batch; of an
//!   encoder-decoder the encoder reads the prompts, and the decoder says what comes of them
//! * [`scores`]: what the rules of the settings make of the scores of the next token
//!
//! A pass computes the new tokens alone: keys and values of those before are remembered
//! ([`engraft_engine::KvCache`]), and those of an encoder's output, which all sequences of a prompt
//! share. A sequence gets the same tokens, to the bit, whatever else is in the batch.
//!
//! ```
//! # use engraft::{Device, demo, learner::{Backbone, Graft, Opening}, tasks::CausalLm};
//! use engraft::generation::{Settings, generate};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let directory = demo::unpack_backbone(dir.path())?;
//! # let backbone = Backbone::open(&directory, &Device::cpu(1)?, Opening::default())?;
//! # let learner = backbone.learner(Graft::default(), Box::new(CausalLm::default()))?;
//! let mut settings = Settings::read(learner.backbone().directory())?;
//! settings.max_new_tokens = Some(8);
//! let said = generate(&learner, &[vec![5, 6, 7], vec![8]], &settings, &mut |_| Ok(()));
//! // the demo's backbone is an encoder
//! assert!(said.unwrap_err().to_string().contains("cannot generate"));
//! # Ok(())
//! # }
//! ```
mod beams;
mod decoder;
mod file;
mod generate;
mod numbers;
mod rules;
mod said;
pub mod scores;
mod search;
mod settings;
mod start;
mod warp;

pub use decoder::can_generate;
pub use generate::generate;
pub use rules::Place;
pub use said::{Generated, Said};
pub use settings::{EarlyStopping, Settings};
