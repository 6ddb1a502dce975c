//! Classification heads: AdapterHub's `ClassificationHead`. Two layers with tanh are its default;
//! one layer over the pooled first token is Hugging Face's `BertForSequenceClassification`.
use super::{BuiltIn, HeadConfig, HeadLayers, HeadPlace, HeadType, fields};
use crate::{Result, grammar::Fields, methods};
use engraft_engine::Source;
use serde::{Deserialize, Serialize};
use serde_json::json;

const NAME: &str = "classification";
/// The registry row.
pub(super) const HEAD: HeadType = HeadType {
    name: NAME,
    read: |fields, _| Ok(Box::new(methods::read::<Classification>(fields)?)),
    built_in: &[
        ONE_LAYER,
        BuiltIn { class: "AlbertForSequenceClassification", ..ONE_LAYER },
        BuiltIn { class: "ModernBertForSequenceClassification", ..ONE_LAYER },
        TWO_LAYERS,
        BuiltIn { class: "XLMRobertaForSequenceClassification", ..TWO_LAYERS },
        BuiltIn {
            class: "ElectraForSequenceClassification",
            fields: || json!({"layers": 2, "activation_function": "gelu", "bias": true}),
            ..TWO_LAYERS
        },
        BuiltIn {
            class: "DistilBertForSequenceClassification",
            fields: || json!({"layers": 2, "activation_function": "relu"}),
            modules: &[None, Some("pre_classifier"), None, None, Some("classifier")],
            ..TWO_LAYERS
        },
        encoder_decoder("T5ForSequenceClassification"),
        encoder_decoder("MT5ForSequenceClassification"),
        BuiltIn {
            class: "GPT2ForSequenceClassification",
            fields: || json!({"layers": 1, "activation_function": null, "bias": false}),
            labelled: true,
            modules: &[None, Some("score")],
        },
        scored("GPTNeoForSequenceClassification"),
        scored("GPTJForSequenceClassification"),
        scored("LlamaForSequenceClassification"),
        scored("MistralForSequenceClassification"),
        scored("Qwen2ForSequenceClassification"),
        scored("Qwen3ForSequenceClassification"),
    ],
};
/// The head of an encoder-decoder's class.
const fn encoder_decoder(class: &'static str) -> BuiltIn {
    let modules =
        &[None, Some("classification_head.dense"), None, None, Some("classification_head.out_proj")];
    BuiltIn { class, modules, ..TWO_LAYERS }
}
/// The head of a decoder's class: one layer without a bias and without dropout.
const fn scored(class: &'static str) -> BuiltIn {
    let fields = || json!({"layers": 1, "activation_function": null, "bias": false, "dropout_prob": 0});
    BuiltIn { class, fields, labelled: true, modules: &[None, Some("score")] }
}

/// BERT's: one layer on the pooler.
const ONE_LAYER: BuiltIn = BuiltIn {
    class: "BertForSequenceClassification",
    fields: || json!({"layers": 1, "activation_function": null, "use_pooler": true}),
    labelled: true,
    modules: &[None, Some("classifier")],
};
/// RoBERTa's: two layers on the first token.
const TWO_LAYERS: BuiltIn = BuiltIn {
    class: "RobertaForSequenceClassification",
    fields: || json!({"layers": 2, "activation_function": "tanh", "use_pooler": false}),
    labelled: true,
    modules: &[None, Some("classifier.dense"), None, None, Some("classifier.out_proj")],
};

/// One class for each sequence; with one label a number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Classification {
    /// Between the layers.
    #[serde(default = "fields::tanh")]
    pub activation_function: Option<String>,
    /// Whether the last layer has a bias.
    #[serde(default = "fields::yes")]
    pub bias: bool,
    /// Dropout in front of each layer while training; none: the model's own.
    #[serde(default)]
    pub dropout_prob: Option<f64>,
    /// The number of each label.
    #[serde(default, deserialize_with = "fields::label2id")]
    pub label2id: fields::Label2Id,
    /// Linear layers.
    #[serde(default = "fields::two")]
    pub layers: usize,
    /// Labels.
    #[serde(default = "fields::two")]
    pub num_labels: usize,
    /// Reads the model's pooler instead of the first token.
    #[serde(default)]
    pub use_pooler: bool,
}
impl Classification {
    /// AdapterHub's default: two layers with tanh over the first token.
    pub fn new(labels: &[String]) -> Classification {
        Classification {
            activation_function: Some("tanh".into()),
            bias: true,
            dropout_prob: None,
            label2id: fields::numbered(labels),
            layers: 2,
            num_labels: labels.len(),
            use_pooler: false,
        }
    }
    /// One layer over the pooler's output, or over the first token of a model without one.
    pub fn linear(labels: &[String], pooler: bool) -> Classification {
        Classification {
            activation_function: None,
            layers: 1,
            use_pooler: pooler,
            ..Classification::new(labels)
        }
    }
    fn prediction(&self) -> fields::Prediction<'_> {
        fields::Prediction {
            act: self.activation_function.as_ref(),
            bias: self.bias,
            dropout: self.dropout_prob,
            label2id: &self.label2id,
            labels: self.num_labels,
            layers: self.layers,
        }
    }
}
impl HeadConfig for Classification {
    fn head_type(&self) -> &'static str {
        NAME
    }
    fn fields(&self) -> Result<Fields> {
        methods::written(self)
    }
    fn check(&self) -> Result<()> {
        self.prediction().check(1)
    }
    fn build(&self, place: &HeadPlace<'_>, from: &mut Source<'_, '_>) -> Result<Box<dyn HeadLayers>> {
        self.prediction().build(place, from)
    }
    fn labels(&self) -> Result<Vec<String>> {
        fields::names(&self.label2id, self.num_labels)
    }
    fn use_pooler(&self) -> bool {
        self.use_pooler
    }
}
