//! Heads that say which token is hidden: AdapterHub's `BertStyleMaskedLMHead`, the layers of
//! [`CausalLm`] with other defaults. Two layers with gelu and a norm, the second of which is the table
//! of embeddings with a bias, are those of BERT (Devlin et al. 2018, section 3.1).
use super::{BuiltIn, CausalLm, HeadConfig, HeadLayers, HeadPlace, HeadType, fields};
use crate::{Error, Result, grammar::Fields, methods};
use engraft_engine::Source;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const NAME: &str = "masked_lm";
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
        Ok(Box::new(methods::read::<MaskedLm>(fields)?))
    },
    built_in: &[
        BERT,
        ROBERTA,
        BuiltIn { class: "XLMRobertaForMaskedLM", ..ROBERTA },
        BuiltIn {
            class: "DistilBertForMaskedLM",
            modules: &[Some("vocab_transform"), None, Some("vocab_layer_norm"), Some("vocab_projector")],
            ..BERT
        },
        BuiltIn {
            class: "ElectraForMaskedLM",
            modules: &[
                Some("generator_predictions.dense"),
                None,
                Some("generator_predictions.LayerNorm"),
                Some("generator_lm_head"),
            ],
            ..BERT
        },
        BuiltIn {
            class: "AlbertForMaskedLM",
            fields: || json!({"activation_function": "gelu_new"}),
            modules: &[
                Some("predictions.dense"),
                None,
                Some("predictions.LayerNorm"),
                Some("predictions.decoder"),
            ],
            ..BERT
        },
    ],
};
const BERT: BuiltIn = BuiltIn {
    class: "BertForMaskedLM",
    fields: || json!({}),
    labelled: false,
    modules: &[
        Some("cls.predictions.transform.dense"),
        None,
        Some("cls.predictions.transform.LayerNorm"),
        Some("cls.predictions.decoder"),
    ],
};
const ROBERTA: BuiltIn = BuiltIn {
    class: "RobertaForMaskedLM",
    modules: &[Some("lm_head.dense"), None, Some("lm_head.layer_norm"), Some("lm_head.decoder")],
    ..BERT
};

fn gelu() -> Option<String> {
    Some("gelu".into())
}

/// The token that is hidden.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskedLm {
    /// Behind every layer but the last.
    #[serde(default = "gelu")]
    pub activation_function: Option<String>,
    /// Whether the last layer has a bias.
    #[serde(default = "fields::yes")]
    pub bias: bool,
    /// Channels of the embeddings, which the last layer reads.
    pub embedding_size: usize,
    /// Null: tokens have no names here.
    #[serde(default)]
    pub label2id: Value,
    /// A LayerNorm behind every layer but the last.
    #[serde(default = "fields::yes")]
    pub layer_norm: bool,
    /// Linear layers.
    #[serde(default = "fields::two")]
    pub layers: usize,
    /// False: a label stands at its own token.
    #[serde(default)]
    pub shift_labels: bool,
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
}
impl MaskedLm {
    /// AdapterHub's default, for embeddings of so many tokens and channels.
    pub fn new(vocabulary: usize, embedding: usize) -> MaskedLm {
        MaskedLm {
            activation_function: gelu(),
            bias: true,
            embedding_size: embedding,
            label2id: Value::Null,
            layer_norm: true,
            layers: 2,
            shift_labels: false,
            vocab_size: vocabulary,
        }
    }
    /// The last layer alone, of a model whose embeddings have as many channels as its stream.
    pub fn linear(vocabulary: usize, channels: usize) -> MaskedLm {
        let bare = MaskedLm::new(vocabulary, channels);
        MaskedLm { activation_function: None, layer_norm: false, layers: 1, ..bare }
    }
    fn layers(&self) -> CausalLm {
        CausalLm {
            activation_function: self.activation_function.clone(),
            bias: self.bias,
            layer_norm: self.layer_norm,
            layers: self.layers,
            ..CausalLm::new(self.vocab_size, self.embedding_size)
        }
    }
}
impl HeadConfig for MaskedLm {
    fn head_type(&self) -> &'static str {
        NAME
    }
    fn fields(&self) -> Result<Fields> {
        methods::written(self)
    }
    fn check(&self) -> Result<()> {
        self.layers().check()?;
        match self.shift_labels {
            false => Ok(()),
            true => Err(Error::Config(format!(
                "`shift_labels` is true, and a label of a {NAME} head stands at its own token"
            ))),
        }
    }
    fn says_tokens(&self) -> bool {
        true
    }
    fn build(&self, place: &HeadPlace<'_>, from: &mut Source<'_, '_>) -> Result<Box<dyn HeadLayers>> {
        self.layers().build(place, from)
    }
}
