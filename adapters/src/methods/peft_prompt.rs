//! What PEFT's files of prefix tuning and of prompt tuning have in common: rows of a length, in one
//! tensor.
use super::{Config, Module, Place, peft_targets::refuse_others};
use crate::{Common, Error, Result, grammar::Fields};
use engraft_engine::{Site, SiteInfo, SiteKind, Source, checkpoint::TensorData};
use serde_json::{Value, json};

/// The tensor.
pub(super) const TENSOR: &str = "prompt_embeddings";
/// Rows beyond this come from a damaged file.
pub(super) const LONGEST: usize = 1 << 16;

/// More fields that say how the rows were made or for whom, not what they are.
const HARMLESS: &[&str] = &[
    "num_attention_heads",
    "num_layers", // the shape of the tensor says so
    "num_transformer_submodules",
    "num_virtual_tokens",
    "runtime_config",
    "token_dim",
];

/// Refuses what AdapterHub's files do not have.
pub(super) fn not_ours(fields: &Fields) -> Result<()> {
    match fields.contains_key("has_positions") {
        true => Err(Error::Config("unknown field `has_positions`".into())),
        false => Ok(()),
    }
}
/// The rows, if all fields are among those that are known and `also`.
pub(super) fn length(fields: &Fields, also: &[&str]) -> Result<usize> {
    refuse_others(fields, &[HARMLESS, also])?;
    if let Some(n) = fields.get("num_transformer_submodules").filter(|n| !n.is_null() && **n != 1) {
        return Err(Error::Config(format!("`num_transformer_submodules` is {n}; only 1 is supported")));
    }
    match fields.get("num_virtual_tokens").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok()) {
        Some(n) if (1..=LONGEST).contains(&n) => Ok(n),
        _ => {
            let n = fields.get("num_virtual_tokens").unwrap_or(&Value::Null);
            Err(Error::Config(format!("`num_virtual_tokens` is {n}, expected 1 to {LONGEST}")))
        }
    }
}
/// The fields that PEFT writes for both.
pub(super) fn fields(kind: &str, length: usize, layers: usize, sites: &[SiteInfo]) -> Fields {
    let channels = sites.iter().find_map(|i| match i.kind {
        SiteKind::Stream { channels } if i.site == Site::EMBED => Some(channels),
        _ => None,
    });
    let fields = [
        ("auto_mapping", json!(null)),
        ("base_model_name_or_path", json!(null)),
        ("inference_mode", json!(true)),
        ("modules_to_save", json!(null)),
        ("num_attention_heads", json!(null)), // PEFT reads it from the model
        ("num_layers", json!(layers)),
        ("num_transformer_submodules", json!(1)),
        ("num_virtual_tokens", json!(length)),
        ("peft_type", json!(kind)),
        ("revision", json!(null)),
        ("task_type", json!(null)),
        ("token_dim", json!(channels)),
    ];
    fields.into_iter().map(|(k, v)| (k.to_string(), v)).collect()
}

/// What a file of PEFT described, to be written as it was read.
#[derive(Debug)]
pub(super) struct OfPeft<C> {
    pub fields: Fields,
    pub config: C,
}
impl<C: Config> Config for OfPeft<C> {
    fn check(&self) -> Result<()> {
        self.config.check()
    }
    fn common(&self, place: &Place<'_>, to: &mut Common, from: &mut Source<'_, '_>) -> Result<()> {
        self.config.common(place, to, from)
    }
    fn build(&self, place: &Place<'_>, from: &mut Source<'_, '_>) -> Result<Vec<Box<dyn Module>>> {
        self.config.build(place, from)
    }
    fn adapterhub(&self) -> Result<Fields> {
        self.config.adapterhub()
    }
    fn peft(&self, _: &[SiteInfo]) -> Result<Fields> {
        Ok(self.fields.clone())
    }
    fn peft_tensors<'c>(&self, common: &'c Common) -> Result<Vec<(String, TensorData<'c>)>> {
        self.config.peft_tensors(common)
    }
}
