//! DoRA (Liu et al. 2024): a LoRA with `use_dora`; `magnitude.rs` has the formulas.
//!
//! AdapterHub's and PEFT's are not the same: new ones are AdapterHub's, unless `as_peft` is set. On
//! GPT-2, whose layers store their weights the other way round, AdapterHub itself has none; here it
//! is computed in its form, and saved so, where no library reads it. PEFT's, with `as_peft` and
//! `attn_matrices=[qkv]`, both write and read.
use super::{LoraConfig, Method, lora, overlaid};

/// The registry row. Files of it are read as those of a LoRA.
pub(super) const METHOD: Method = Method {
    names: &["dora"],
    architecture: lora::METHOD.architecture,
    preset: |_, fields| Ok(Box::new(overlaid(&LoraConfig::dora(), fields)?)),
    read: lora::METHOD.read,
    peft: None,
};

impl LoraConfig {
    /// A LoRA whose weights have lengths of their own: AdapterHub's `dora`.
    pub fn dora() -> LoraConfig {
        LoraConfig { use_dora: true, ..LoraConfig::default() }
    }
}
