//! VeRA (Kopiczko et al. 2024): a low-rank product whose matrices are random, never change and are
//! the same for all layers; what trains is a vector between them and one behind them.
//!
//! ```text
//! y = x Wᵀ + c + s b ∘ (B (d ∘ (A x)))        A (r, in), B (out, r), d (r), b (out)        s = α / r
//! ```
//! AdapterHub describes it as a LoRA with `vera_d` and `vera_b`, the values that d and b start at.
//! It stores d and b as the diagonals of matrices, all of which its optimiser moves. A file whose
//! matrices are diagonal is read as vectors, which are what trains then; of another one the whole
//! matrices train, as there. All layers that it adapts have one size; PEFT's, with `as_peft`, take
//! the rows and columns that they need of matrices for the largest. There s is 1.
use super::{LoraConfig, Method, PeftMethod, lora, overlaid, peft_vera::PeftVera, start::LoraStart};

/// The registry row. AdapterHub's files of it are read as those of a LoRA.
pub(super) const METHOD: Method = Method {
    names: &["vera"],
    architecture: lora::METHOD.architecture,
    preset: |_, fields| Ok(Box::new(overlaid(&LoraConfig::vera(), fields)?)),
    read: lora::METHOD.read,
    peft: Some(PeftMethod { name: "VERA", read: |fields| Ok(Box::new(PeftVera::read(fields)?)) }),
};

impl LoraConfig {
    /// AdapterHub's `vera`.
    pub fn vera() -> LoraConfig {
        LoraConfig {
            init_weights: LoraStart::Vera,
            vera_b: Some(0.0),
            vera_d: Some(0.1),
            ..LoraConfig::default()
        }
    }
}
