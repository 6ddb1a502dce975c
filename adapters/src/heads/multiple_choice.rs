//! Heads that give each of several choices a score: AdapterHub's `MultipleChoiceHead`. Two layers with
//! tanh are its default. However many choices there are, the last layer has one output.
use super::{BuiltIn, HeadConfig, HeadLayers, HeadPlace, HeadType, fields};
use crate::{Result, grammar::Fields, methods};
use engraft_engine::Source;
use serde::{Deserialize, Serialize};
use serde_json::json;

const NAME: &str = "multiple_choice";
/// The registry row.
pub(super) const HEAD: HeadType = HeadType {
    name: NAME,
    read: |fields, _| Ok(Box::new(methods::read::<MultipleChoice>(fields)?)),
    built_in: &[
        BuiltIn { class: "AlbertForMultipleChoice", ..ONE_LAYER },
        ONE_LAYER,
        BuiltIn { class: "RobertaForMultipleChoice", ..ONE_LAYER },
        BuiltIn { class: "XLMRobertaForMultipleChoice", ..ONE_LAYER },
        BuiltIn {
            class: "DistilBertForMultipleChoice",
            fields: || json!({"layers": 2, "activation_function": "relu", "use_pooler": false}),
            labelled: false,
            modules: &[None, Some("pre_classifier"), None, None, Some("classifier")],
        },
    ],
};
/// BERT's: one layer on the pooler.
const ONE_LAYER: BuiltIn = BuiltIn {
    class: "BertForMultipleChoice",
    fields: || json!({"layers": 1, "activation_function": null, "use_pooler": true}),
    labelled: false,
    modules: &[None, Some("classifier")],
};

/// A score for each choice, read off the sequence that it stands in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MultipleChoice {
    /// Between the layers.
    #[serde(default = "fields::tanh")]
    pub activation_function: Option<String>,
    /// Dropout in front of each layer while training; none: the model's own.
    #[serde(default)]
    pub dropout_prob: Option<f64>,
    /// The number of each choice, under the names that the library gives them.
    #[serde(default, deserialize_with = "fields::label2id")]
    pub label2id: fields::Label2Id,
    /// Linear layers.
    #[serde(default = "fields::two")]
    pub layers: usize,
    /// The most choices: the library has that many for every item.
    #[serde(default = "fields::two")]
    pub num_choices: usize,
    /// Reads the model's pooler instead of the first token.
    #[serde(default)]
    pub use_pooler: bool,
}
impl MultipleChoice {
    /// AdapterHub's default: two layers with tanh over the first token. Choices have these names.
    pub fn new(choices: &[String]) -> MultipleChoice {
        MultipleChoice {
            activation_function: Some("tanh".into()),
            dropout_prob: None,
            label2id: fields::numbered(choices),
            layers: 2,
            num_choices: choices.len(),
            use_pooler: false,
        }
    }
    /// One layer over the pooler's output, or over the first token of a model without one.
    pub fn linear(choices: &[String], pooler: bool) -> MultipleChoice {
        let two = MultipleChoice::new(choices);
        MultipleChoice { activation_function: None, layers: 1, use_pooler: pooler, ..two }
    }
    fn prediction(&self) -> fields::Prediction<'_> {
        fields::Prediction {
            act: self.activation_function.as_ref(),
            bias: true,
            dropout: self.dropout_prob,
            label2id: &None,
            labels: 1,
            layers: self.layers,
        }
    }
}
impl HeadConfig for MultipleChoice {
    fn head_type(&self) -> &'static str {
        NAME
    }
    fn fields(&self) -> Result<Fields> {
        methods::written(self)
    }
    fn check(&self) -> Result<()> {
        fields::count("num_choices", self.num_choices, 1, fields::MOST_LABELS)?;
        self.labels()?;
        self.prediction().check(1)
    }
    fn build(&self, place: &HeadPlace<'_>, from: &mut Source<'_, '_>) -> Result<Box<dyn HeadLayers>> {
        self.prediction().build(place, from)
    }
    fn labels(&self) -> Result<Vec<String>> {
        fields::names(&self.label2id, self.num_choices)
    }
    fn use_pooler(&self) -> bool {
        self.use_pooler
    }
}
