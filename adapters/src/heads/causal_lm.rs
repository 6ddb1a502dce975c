//! Language model heads: AdapterHub's `CausalLMHead`. The last layer gives a number to every token
//! of the vocabulary; where the model ties its embeddings it is their table, and the head holds no
//! matrix of its own.
use super::{BuiltIn, HeadConfig, HeadLayers, HeadPlace, HeadType, Layout, fields, stack::LayerShape};
use crate::{Error, Result, grammar::Fields, methods};
use engraft_engine::Source;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const NAME: &str = "causal_lm";
/// The registry row.
pub(super) const HEAD: HeadType = HeadType {
    name: NAME,
    read: |mut fields, host| {
        // what is not said is the model's
        for (name, own) in [("vocab_size", host.vocabulary), ("embedding_size", host.embedding_size)] {
            if fields.get(name).is_none_or(Value::is_null) {
                fields.insert(name.into(), own.into());
            }
        }
        Ok(Box::new(methods::read::<CausalLm>(fields)?))
    },
    built_in: &[
        built_in("GPT2LMHeadModel", || json!({})),
        built_in("GPTNeoForCausalLM", || json!({})),
        built_in("GPTJForCausalLM", || json!({"bias": true})),
        built_in("LlamaForCausalLM", || json!({})),
        built_in("MistralForCausalLM", || json!({})),
        built_in("Qwen2ForCausalLM", || json!({})),
        built_in("Qwen3ForCausalLM", || json!({})),
    ],
};
/// The head of a language model's class: its last layer alone.
const fn built_in(class: &'static str, fields: fn() -> Value) -> BuiltIn {
    BuiltIn { class, fields, labelled: false, modules: &[Some("lm_head")] }
}

/// The next token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CausalLm {
    /// Behind every layer but the last.
    #[serde(default)]
    pub activation_function: Option<String>,
    /// Whether the last layer has a bias.
    #[serde(default)]
    pub bias: bool,
    /// The library has the field and no dropout: it changes nothing.
    #[serde(default)]
    pub dropout_prob: Option<f64>,
    /// Channels of the embeddings, which the last layer reads.
    pub embedding_size: usize,
    /// Null: tokens have no names here.
    #[serde(default)]
    pub label2id: Value,
    /// A LayerNorm behind every layer but the last.
    #[serde(default)]
    pub layer_norm: bool,
    /// Linear layers.
    #[serde(default = "fields::one")]
    pub layers: usize,
    /// The label of a position is the token behind it: labels are shifted by one before they are
    /// compared.
    #[serde(default = "fields::yes")]
    pub shift_labels: bool,
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
}
impl CausalLm {
    /// The last layer alone, without a bias, as GPT-2 was trained with it.
    pub fn new(vocabulary: usize, channels: usize) -> CausalLm {
        CausalLm {
            activation_function: None,
            bias: false,
            dropout_prob: None,
            embedding_size: channels,
            label2id: Value::Null,
            layer_norm: false,
            layers: 1,
            shift_labels: true,
            vocab_size: vocabulary,
        }
    }
}
impl HeadConfig for CausalLm {
    fn head_type(&self) -> &'static str {
        NAME
    }
    fn fields(&self) -> Result<Fields> {
        methods::written(self)
    }
    fn check(&self) -> Result<()> {
        fields::count("vocab_size", self.vocab_size, 1, fields::MOST_LABELS * 4)?;
        fields::count("embedding_size", self.embedding_size, 1, 1 << 20)?;
        fields::count("layers", self.layers, 1, fields::MOST_LAYERS)?;
        fields::activation(self.activation_function.as_ref()).map(drop)
    }
    fn says_tokens(&self) -> bool {
        true
    }
    fn build(&self, place: &HeadPlace<'_>, from: &mut Source<'_, '_>) -> Result<Box<dyn HeadLayers>> {
        let act = fields::activation(self.activation_function.as_ref())?;
        let (channels, width) = (place.host.hidden_size, self.embedding_size);
        let expected = match (self.layers, place.host.tied) {
            (1, _) => channels, // the last layer is the first one
            (_, true) => place.host.embedding_size,
            (_, false) => width,
        };
        if width != expected {
            return Err(Error::Config(format!("`embedding_size` is {width}, expected {expected}")));
        }
        let stride = 1 + usize::from(act.is_some()) + usize::from(self.layer_norm);
        let layer = |l: usize| {
            let (index, input) = (l * stride, if l == 0 { channels } else { width });
            match l + 1 == self.layers {
                true => LayerShape { index, input, output: self.vocab_size, bias: self.bias, norm: None },
                false => {
                    let norm = self.layer_norm.then_some(index + stride - 1);
                    LayerShape { index, input, output: width, bias: true, norm }
                }
            }
        };
        let layers = (0..self.layers).map(layer).collect();
        Layout { layers, act, drops: false, dropout: None, tied: place.host.tied }.build(place, from)
    }
}
