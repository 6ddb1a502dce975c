//! Classification heads: AdapterHub's `ClassificationHead`. Two layers with tanh are its default; one layer over the pooled
//! first token is Hugging Face's `BertForSequenceClassification`.
use super::{HeadConfig, HeadLayers, HeadPlace, HeadType, fields};
use crate::{Result, grammar::Fields, methods};
use engraft_engine::Source;
use serde::{Deserialize, Serialize};

const NAME: &str = "classification";
/// The registry row.
pub(super) const HEAD: HeadType =
    HeadType { name: NAME, read: |fields| Ok(Box::new(methods::read::<Classification>(fields)?)) };

/// One class for each sequence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Classification {
    /// Between the layers.
    pub activation_function: Option<String>,
    /// Whether the last layer has a bias.
    #[serde(default = "yes")]
    pub bias: bool,
    /// Dropout in front of each layer while training; none: the model's own.
    #[serde(default)]
    pub dropout_prob: Option<f64>,
    /// The number of each label.
    pub label2id: fields::Label2Id,
    /// Linear layers.
    pub layers: usize,
    /// Labels.
    pub num_labels: usize,
    /// Reads the model's pooler instead of the first token.
    #[serde(default)]
    pub use_pooler: bool,
}
fn yes() -> bool {
    true
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
    /// One layer to labels without names.
    pub(super) fn of_shape(labels: usize, bias: bool, pooler: bool) -> Classification {
        Classification { label2id: None, num_labels: labels, bias, ..Classification::linear(&[], pooler) }
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
        self.prediction().check(2)
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
    fn transformers(&self) -> Option<(&'static str, &'static str)> {
        let module = match (self.layers, self.use_pooler, self.bias) {
            (1, true, true) => "classifier",
            (1, false, false) => "score",
            _ => return None,
        };
        Some((module, "SEQ_CLS"))
    }
}
