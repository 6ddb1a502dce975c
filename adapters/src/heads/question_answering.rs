//! Heads that find answers in a text: AdapterHub's `QuestionAnsweringHead`. Of each token row 0 of the
//! last layer says how well an answer starts there, row 1 how well one ends there.
use super::{BuiltIn, HeadConfig, HeadLayers, HeadPlace, HeadType, fields};
use crate::{Result, grammar::Fields, methods};
use engraft_engine::Source;
use serde::{Deserialize, Serialize};
use serde_json::json;

const NAME: &str = "question_answering";
/// Start and end.
const COLUMNS: usize = 2;
/// The registry row.
pub(super) const HEAD: HeadType = HeadType {
    name: NAME,
    read: |fields, _| Ok(Box::new(methods::read::<QuestionAnswering>(fields)?)),
    built_in: &[
        built_in("AlbertForQuestionAnswering"),
        built_in("BertForQuestionAnswering"),
        built_in("DistilBertForQuestionAnswering"),
        built_in("ElectraForQuestionAnswering"),
        built_in("GPT2ForQuestionAnswering"),
        built_in("GPTJForQuestionAnswering"),
        built_in("GPTNeoForQuestionAnswering"),
        built_in("LlamaForQuestionAnswering"),
        built_in("MistralForQuestionAnswering"),
        built_in("Qwen2ForQuestionAnswering"),
        built_in("Qwen3ForQuestionAnswering"),
        built_in("RobertaForQuestionAnswering"),
        built_in("XLMRobertaForQuestionAnswering"),
    ],
};
/// The head of such a class: one layer. It has no labels, and always two outputs. Those of
/// encoder-decoders are none of them: with transformers' own they read what the library scales.
const fn built_in(class: &'static str) -> BuiltIn {
    let fields = || json!({"layers": 1, "activation_function": null});
    BuiltIn { class, fields, labelled: false, modules: &[None, Some("qa_outputs")] }
}

/// Where an answer starts and ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuestionAnswering {
    /// Between the layers.
    #[serde(default = "fields::tanh")]
    pub activation_function: Option<String>,
    /// Dropout in front of each layer while training; none: the model's own.
    #[serde(default)]
    pub dropout_prob: Option<f64>,
    /// The number of each output, which the library writes as of labels.
    #[serde(default, deserialize_with = "fields::label2id")]
    pub label2id: fields::Label2Id,
    /// Linear layers.
    #[serde(default = "fields::one")]
    pub layers: usize,
    /// Outputs: start and end.
    #[serde(default = "fields::two")]
    pub num_labels: usize,
}
impl Default for QuestionAnswering {
    /// AdapterHub's default: one layer.
    fn default() -> QuestionAnswering {
        let names = (0..COLUMNS).map(|i| format!("LABEL_{i}")).collect::<Vec<_>>();
        QuestionAnswering {
            activation_function: Some("tanh".into()),
            dropout_prob: None,
            label2id: fields::numbered(&names),
            layers: 1,
            num_labels: COLUMNS,
        }
    }
}
impl QuestionAnswering {
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
impl HeadConfig for QuestionAnswering {
    fn head_type(&self) -> &'static str {
        NAME
    }
    fn fields(&self) -> Result<Fields> {
        methods::written(self)
    }
    fn check(&self) -> Result<()> {
        fields::count("num_labels", self.num_labels, COLUMNS, COLUMNS)?;
        self.prediction().check(COLUMNS)
    }
    fn build(&self, place: &HeadPlace<'_>, from: &mut Source<'_, '_>) -> Result<Box<dyn HeadLayers>> {
        self.prediction().build(place, from)
    }
    fn reads_scaled(&self) -> bool {
        true
    }
}
