//! IA3 (Liu et al. 2022): trained factors for the outputs of linear layers, or for their inputs.
//!
//! ```text
//! y = α l ∘ (x Wᵀ + b)          or, PEFT's feed-forward modules,   y = (l ∘ x) Wᵀ + b
//! ```
//! AdapterHub describes it as a LoRA whose `composition_mode` is `scale` ([`LoraConfig`]); where
//! query, key and value are one layer (GPT-2's `c_attn`) it has factors for those that it adapts,
//! and the others stay as they are whatever α is (the library multiplies them with α too). PEFT's
//! has factors for all outputs.
use super::{
    LoraConfig, Method, PeftMethod,
    lora::{self, Matrix},
    overlaid,
    peft_ia3::PeftIa3,
    start::LoraStart,
};

/// The registry row. AdapterHub's files of it are read as those of a LoRA.
pub(super) const METHOD: Method = Method {
    names: &["ia3"],
    architecture: lora::METHOD.architecture,
    preset: |_, fields| Ok(Box::new(overlaid(&LoraConfig::ia3(), fields)?)),
    read: lora::METHOD.read,
    peft: Some(PeftMethod { name: "IA3", read: |fields| Ok(Box::new(PeftIa3::read(fields)?)) }),
};

impl LoraConfig {
    /// IA3 on keys, values and the first feed-forward projection: AdapterHub's `ia3`.
    pub fn ia3() -> LoraConfig {
        LoraConfig {
            alpha: 1.0,
            attn_matrices: vec![Matrix::K, Matrix::V],
            composition_mode: "scale".into(),
            init_weights: LoraStart::Ia3,
            intermediate_lora: true,
            r: 1,
            ..LoraConfig::default()
        }
    }
}
