//! Sequence to sequence: what a text is answered with, a summary or a translation. An encoder reads
//! the source, and the decoder beside it says the target, each token from the source and the tokens
//! before it.
//!
//! A source is cut at the greatest length and a target at its own, both with their special tokens.
//! The loss is the mean over the tokens of targets, with labels smoothed in training if that is
//! asked for; scores are those of plain labels. What is generated is compared with all targets of a
//! source ([`said`]).
use super::{
    outputs::Outputs,
    said,
    task::{Answer, Carry, Evaluated, Given, Prediction, Purpose, Task, TaskType},
    tokens,
    top::Top,
};
use crate::{
    Error, Result,
    data::{Content, Dataset, Input},
    reports::{by_example::ExamplePrediction, metrics::Metric},
    text::{
        batch::Batch,
        example::{Example, Reads},
        examples::Examples,
        tokenizer::{TokenizedText, Tokenizer},
    },
};
use engraft_adapters::HeadConfig;
use engraft_engine::{Act, Cx};
use engraft_models::{Kind, ModelInfo};
use serde::Deserialize;
use std::borrow::Cow;

/// The registry row.
pub(super) const TASK: TaskType = TaskType {
    name: NAME,
    help: "A text from a text: a summary, a translation",
    content: Content::Answers,
    labelled: true,
    classes: false,
    does: |head| head.head_type() == "seq2seq_lm",
    headless: true,
    learn: |_, _, told| Ok(Box::new(told.read::<Seq2Seq>(NAME)?.checked()?)),
    known: |_, told| Ok(Box::new(told.read::<Seq2Seq>(NAME)?.checked()?)),
};
const NAME: &str = "seq2seq";

/// A text from a text.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Seq2Seq {
    /// What stands in front of every source, such as `summarize: `.
    pub source_prefix: String,
    /// The most tokens of a target, special tokens included.
    pub max_target_length: usize,
    /// The share of what is expected that is spread over the vocabulary: 0 to below 1.
    pub label_smoothing: f64,
    /// Records that follow each other with the same source have one answer, which is compared with
    /// the targets of all of them.
    pub group_targets: bool,
    /// Evaluations during training generate, so that their scores can say what is best.
    pub predict_with_generate: bool,
}
impl Default for Seq2Seq {
    /// No prefix, targets of at most 128 tokens, plain labels.
    fn default() -> Self {
        Self {
            source_prefix: String::new(),
            max_target_length: 128,
            label_smoothing: 0.0,
            group_targets: false,
            predict_with_generate: false,
        }
    }
}
impl Seq2Seq {
    fn checked(self) -> Result<Self> {
        let wrong = |option, value: String, why: &str| Err(Error::Option { option, value, why: why.into() });
        tokens::check_smoothing(self.label_smoothing)?;
        match self.max_target_length {
            0 => wrong("max-target-length", "0".into(), "a target has one token at least"),
            _ => Ok(self),
        }
    }
    /// The data set with the prefix in front of every source.
    fn prefixed<'a>(&self, data: &'a Dataset) -> Cow<'a, Dataset> {
        if self.source_prefix.is_empty() {
            return Cow::Borrowed(data);
        }
        let mut data = data.clone();
        for record in &mut data.records {
            if let Input::Text { text, .. } = &mut record.input {
                text.insert_str(0, &self.source_prefix);
            }
        }
        Cow::Owned(data)
    }
}

impl Task for Seq2Seq {
    fn name(&self) -> &str {
        NAME
    }
    fn content(&self) -> Content {
        TASK.content
    }
    fn metrics(&self) -> &[Metric] {
        if self.predict_with_generate { said::OF_TEXTS } else { said::OF_TOKENS }
    }
    fn suits(&self, model: &ModelInfo) -> Result<(), String> {
        match model.kind {
            Kind::EncoderDecoder { .. } => Ok(()),
            Kind::Encoder => Err(format!("{} has no decoder", model.family)),
            Kind::Decoder => {
                Err(format!("{} has no encoder; causal-lm with a prompt-template is for it", model.family))
            }
        }
    }
    fn head(&self, _: &ModelInfo, _: bool) -> Option<Box<dyn HeadConfig>> {
        None
    }
    fn limits(&self, max_length: usize) -> String {
        let most = self.max_target_length;
        format!("to {max_length} tokens (--max-length), or their targets to {most} (--max-target-length)")
    }
    fn encode(
        &self,
        data: &Dataset,
        tokenizer: &Tokenizer,
        purpose: Purpose,
        carry: &mut Carry,
    ) -> Result<Vec<Example>> {
        let sources = tokenizer.encode_all(&self.prefixed(data))?;
        if purpose == Purpose::Predict {
            carry.cut += sources.iter().filter(|s| s.is_cut).count();
            let nothing = Reads::Decoded { start: None, tokens: vec![] };
            let example = |(record, s): (usize, TokenizedText)| Example {
                types: s.types,
                record,
                ..Example::new(s.ids, nothing.clone(), vec![])
            };
            return Ok(sources.into_iter().enumerate().map(example).collect());
        }
        let targets = tokenizer.encode_targets(data, self.max_target_length)?;
        carry.cut += sources.iter().zip(&targets).filter(|(s, t)| s.is_cut || t.is_cut).count();
        let both = sources.into_iter().zip(targets).enumerate();
        let example = |(record, (source, target)): (usize, (TokenizedText, TokenizedText))| {
            let TokenizedText { ids, types, .. } = source;
            Example { types, record, ..Example::said(ids, target.ids) }
        };
        Ok(both.map(example).collect())
    }
    fn is_one_to_one(&self) -> bool {
        true
    }
    fn example(&self, ids: Vec<u32>, labels: Option<&Given>) -> Result<Example, String> {
        match labels {
            // what comes first
            None => Ok(Example::new(ids, Reads::Decoded { start: None, tokens: vec![] }, vec![])),
            Some(Given::Each(each)) if each.is_empty() => Err("there are no labels".into()),
            Some(Given::Each(each)) => Ok(Example::said(ids, tokens::labels(each)?)),
            Some(_) => Err("a target is a list of labels for each sequence".into()),
        }
    }
    fn sample(&self, ids: Vec<u32>, _: &mut dyn FnMut(usize) -> u32) -> Example {
        let target = ids.iter().copied().cycle().take(self.max_target_length).collect();
        Example::said(ids, target)
    }
    fn loss<'m>(&self, cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Act> {
        let (x, last) = top.last(cx, x)?;
        let smoothing = self.label_smoothing as f32;
        Ok(cx.linear_cross_entropy_smoothed(&x, last, &batch.labels, smoothing)?.0)
    }
    fn outputs(&self) -> Option<Outputs> {
        (self.label_smoothing == 0.0).then_some(Outputs::Classes)
    }
    fn answers<'m>(&self, cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Vec<Answer>> {
        tokens::answers(cx, top, x, batch)
    }
    fn generates(&self, _: usize) -> Option<usize> {
        Some(self.max_target_length)
    }
    fn prompts(&self, data: &Dataset, examples: &Examples) -> Vec<Option<Vec<u32>>> {
        said::prompts(data, examples, self.group_targets, |e| e.ids)
    }
    fn needs_records(&self) -> bool {
        true
    }
    fn evaluate(&self, data: &Dataset, examples: &Examples, answers: &[Answer]) -> Evaluated {
        said::evaluate(data, examples, answers, self.group_targets)
    }
    fn by_example(&self, data: &Dataset, examples: &Examples, answers: &[Answer]) -> Vec<ExamplePrediction> {
        said::by_example(data, examples, answers, self.group_targets)
    }
    fn predictions(&self, data: &Dataset, _: &Examples, answers: &[Answer]) -> Vec<Prediction> {
        said::predictions(data, answers, self.group_targets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{tasks::Told, text::example::IGNORED};
    use serde_json::json;

    #[test]
    fn what_it_is_told() {
        let told = |v: serde_json::Value| Told::new(v.as_object().cloned().unwrap_or_default());
        let read = |v| (TASK.known)(vec![], &told(v)).map(drop).map_err(|e| e.to_string());
        assert!(
            read(json!({"source-prefix": "a: ", "label-smoothing": 0.1, "max-target-length": null})).is_ok()
        );
        assert!(read(json!({"label-smoothing": 1.0})).unwrap_err().contains("label-smoothing"));
        assert!(read(json!({"max-target-length": 0})).unwrap_err().contains("one token"));
        assert!(read(json!({"x": 0})).unwrap_err().contains("`x`"));
    }

    #[test]
    fn labels_are_what_is_said() {
        let task = Seq2Seq::default();
        let e = task.example(vec![5, 6], Some(&Given::Each(vec![7, -100, 1]))).unwrap();
        assert_eq!(e.labels, [7, IGNORED, 1]);
        assert_eq!(e.reads, Reads::Decoded { start: None, tokens: vec![7, IGNORED] });
        assert_eq!(task.example(vec![5], None).unwrap().rows(), 1);
        for bad in [Given::One(0), Given::Each(vec![])] {
            assert!(task.example(vec![1, 2], Some(&bad)).is_err(), "{bad:?}");
        }
    }
}
