//! Tagging heads: AdapterHub's `TaggingHead`. One layer is its default.
use super::{BuiltIn, HeadConfig, HeadLayers, HeadPlace, HeadType, fields};
use crate::{Result, grammar::Fields, methods};
use engraft_engine::Source;
use serde::{Deserialize, Serialize};
use serde_json::json;

const NAME: &str = "tagging";
/// The registry row.
pub(super) const HEAD: HeadType = HeadType {
    name: NAME,
    read: |fields, _| Ok(Box::new(methods::read::<Tagging>(fields)?)),
    built_in: &[
        built_in("AlbertForTokenClassification", &[None, Some("classifier")]),
        built_in("BertForTokenClassification", &[None, Some("classifier")]),
        built_in("DistilBertForTokenClassification", &[None, Some("classifier")]),
        built_in("ElectraForTokenClassification", &[None, Some("classifier")]),
        built_in("GPT2ForTokenClassification", &[None, Some("classifier")]),
        built_in("GPTNeoForTokenClassification", &[None, Some("classifier")]),
        built_in("LlamaForTokenClassification", &[None, Some("score")]),
        built_in("MistralForTokenClassification", &[None, Some("score")]),
        built_in("Qwen2ForTokenClassification", &[None, Some("score")]),
        built_in("Qwen3ForTokenClassification", &[None, Some("score")]),
        built_in("RobertaForTokenClassification", &[None, Some("classifier")]),
        built_in("XLMRobertaForTokenClassification", &[None, Some("classifier")]),
    ],
};
/// The head of such a class: one layer.
const fn built_in(class: &'static str, modules: &'static [Option<&'static str>]) -> BuiltIn {
    let fields = || json!({"layers": 1, "activation_function": null});
    BuiltIn { class, fields, labelled: true, modules }
}

/// One class for each of the tokens that it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tagging {
    /// Between the layers.
    #[serde(default = "fields::tanh")]
    pub activation_function: Option<String>,
    /// Dropout in front of each layer while training; none: the model's own.
    #[serde(default)]
    pub dropout_prob: Option<f64>,
    /// The number of each label.
    #[serde(default, deserialize_with = "fields::label2id")]
    pub label2id: fields::Label2Id,
    /// Linear layers.
    #[serde(default = "fields::one")]
    pub layers: usize,
    /// Labels.
    #[serde(default = "fields::two")]
    pub num_labels: usize,
}
impl Tagging {
    /// AdapterHub's default: one layer.
    pub fn new(labels: &[String]) -> Tagging {
        Tagging {
            activation_function: Some("tanh".into()),
            dropout_prob: None,
            label2id: fields::numbered(labels),
            layers: 1,
            num_labels: labels.len(),
        }
    }
    fn prediction(&self) -> fields::Prediction<'_> {
        fields::Prediction {
            act: self.activation_function.as_ref(),
            bias: true,
            dropout: self.dropout_prob,
            label2id: &self.label2id,
            labels: self.num_labels,
            layers: self.layers,
        }
    }
}
impl HeadConfig for Tagging {
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
}
