//! What a decoder beside an encoder says: AdapterHub's `Seq2SeqLMHead`, the same layers as those of
//! [`CausalLm`] as wide as the model.
use super::{BuiltIn, CausalLm, HeadConfig, HeadLayers, HeadPlace, HeadType, fields};
use crate::{Error, Result, grammar::Fields, methods};
use engraft_engine::Source;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const NAME: &str = "seq2seq_lm";
/// The registry row.
pub(super) const HEAD: HeadType = HeadType {
    name: NAME,
    read: |mut fields, host| {
        // what is not said is the model's
        if fields.get("vocab_size").is_none_or(Value::is_null) {
            fields.insert("vocab_size".into(), host.vocabulary.into());
        }
        Ok(Box::new(methods::read::<Seq2SeqLm>(fields)?))
    },
    built_in: &[built_in("T5ForConditionalGeneration"), built_in("MT5ForConditionalGeneration")],
};
/// The head of a model's class: its last layer alone.
const fn built_in(class: &'static str) -> BuiltIn {
    BuiltIn { class, fields: || json!({}), labelled: false, modules: &[Some("lm_head")] }
}

/// The next token of a target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seq2SeqLm {
    /// Behind every layer but the last.
    #[serde(default)]
    pub activation_function: Option<String>,
    /// Whether the last layer has a bias.
    #[serde(default)]
    pub bias: bool,
    /// Null: tokens have no names here.
    #[serde(default)]
    pub label2id: Value,
    /// A LayerNorm behind every layer but the last.
    #[serde(default)]
    pub layer_norm: bool,
    /// Linear layers: one. T5 scales what its vocabulary multiplies, and the library scales it in
    /// front of the first layer; several are refused.
    #[serde(default = "fields::one")]
    pub layers: usize,
    /// False: what the decoder reads is shifted, and not its labels.
    #[serde(default)]
    pub shift_labels: bool,
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
}
impl Seq2SeqLm {
    fn as_wide_as(&self, channels: usize) -> CausalLm {
        CausalLm {
            activation_function: self.activation_function.clone(),
            bias: self.bias,
            layer_norm: self.layer_norm,
            layers: self.layers,
            ..CausalLm::new(self.vocab_size, channels)
        }
    }
}
impl HeadConfig for Seq2SeqLm {
    fn head_type(&self) -> &'static str {
        NAME
    }
    fn fields(&self) -> Result<Fields> {
        methods::written(self)
    }
    fn check(&self) -> Result<()> {
        self.as_wide_as(1).check()?;
        if self.layers > 1 {
            return Err(Error::Config(format!("`layers` is {}, and a {NAME} head has 1 here", self.layers)));
        }
        if self.shift_labels {
            return Err(Error::Config(format!(
                "`shift_labels` is true, which shifts labels twice in a {NAME} head"
            )));
        }
        Ok(())
    }
    fn says_tokens(&self) -> bool {
        true
    }
    fn build(&self, place: &HeadPlace<'_>, from: &mut Source<'_, '_>) -> Result<Box<dyn HeadLayers>> {
        self.as_wide_as(place.host.hidden_size).build(place, from)
    }
}
