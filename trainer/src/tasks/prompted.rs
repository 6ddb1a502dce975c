//! A language model that answers: what follows a prompt, which is made of a source.
//!
//! The tokens of the prompt are read and not learned: the loss is that of the target and of the
//! token behind it that ends a text. Only the rows that predict these are computed in the last
//! layer. A target has at most half of the greatest length unless something else is said, and a
//! prompt what is left: of one that is longer its source is cut, never what stands around it.
use super::{
    outputs::Outputs,
    said,
    task::{Answer, Carry, Evaluated, Given, Prediction, Purpose, Task, Told},
    tokens,
    top::Top,
};
use crate::{
    Error, Result,
    data::{Content, Dataset},
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

/// The name of the task.
pub(super) const NAME: &str = "causal-lm";
/// What stands for the source in a template.
const SOURCE: &str = "{source}";
/// The most tokens of a target unless something is said, as long as half of all are as many.
const USUAL: usize = 128;

/// What follows a prompt.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Prompted {
    /// What a prompt is: a text with `{source}` in it once.
    pub prompt_template: String,
    /// The most tokens of a target, the one that ends it included; at most half of the greatest
    /// length, and 128, if nothing is said.
    #[serde(default)]
    pub max_target_length: Option<usize>,
    /// The share of what is expected that is spread over the vocabulary: 0 to below 1.
    #[serde(default)]
    pub label_smoothing: f64,
    /// Records that follow each other with the same source have one answer, which is compared with
    /// the targets of all of them.
    #[serde(default)]
    pub group_targets: bool,
    /// Evaluations during training generate, so that their scores can say what is best.
    #[serde(default)]
    pub predict_with_generate: bool,
}

impl Prompted {
    /// With prompts of this template.
    pub fn new(prompt_template: &str) -> Result<Prompted> {
        let prompt_template = prompt_template.into();
        let (max_target_length, label_smoothing) = (None, 0.0);
        let (group_targets, predict_with_generate) = (false, false);
        Prompted { prompt_template, max_target_length, label_smoothing, group_targets, predict_with_generate }
            .checked()
    }
    /// As it is told.
    pub(super) fn told(told: &Told) -> Result<Prompted> {
        told.read::<Prompted>(NAME)?.checked()
    }
    fn checked(self) -> Result<Prompted> {
        let wrong = |option, value: String, why: String| Err(Error::Option { option, value, why });
        if self.prompt_template.matches(SOURCE).count() != 1 {
            let why = format!("it has {SOURCE} in it once, where a source is to stand");
            return wrong("prompt-template", format!("`{}`", self.prompt_template), why);
        }
        tokens::check_smoothing(self.label_smoothing)?;
        match self.max_target_length {
            Some(0) => wrong("max-target-length", "0".into(), "a target has one token at least".into()),
            _ => Ok(self),
        }
    }
    /// What stands in front of a source and behind it.
    fn around(&self) -> (&str, &str) {
        self.prompt_template.split_once(SOURCE).unwrap_or((&self.prompt_template, ""))
    }
    /// The most tokens of a target, of so many in all.
    fn most(&self, max_length: usize) -> usize {
        self.max_target_length.unwrap_or_else(|| USUAL.min(max_length / 2))
    }
    /// Tokens that answer a prompt: from the last token of it on each one predicts the next.
    fn answer(record: usize, prompt: TokenizedText, target: Vec<u32>) -> Example {
        let mut ids = prompt.ids;
        let first = ids.len().saturating_sub(1);
        ids.extend(&target);
        let rows = if target.is_empty() { vec![first] } else { (first..ids.len() - 1).collect() };
        Example { record, ..Example::new(ids, Reads::These(rows), target) }
    }
}

impl Task for Prompted {
    fn name(&self) -> &str {
        NAME
    }
    fn content(&self) -> Content {
        Content::Answers
    }
    fn metrics(&self) -> &[Metric] {
        if self.predict_with_generate { said::OF_TEXTS } else { said::OF_TOKENS }
    }
    fn suits(&self, model: &ModelInfo) -> Result<(), String> {
        match model.kind {
            Kind::Decoder => Ok(()),
            Kind::EncoderDecoder { .. } => {
                Err("its encoder reads sources: seq2seq, without a prompt-template".into())
            }
            Kind::Encoder => Err("it does not say one token after the other".into()),
        }
    }
    fn head(&self, _: &ModelInfo, _: bool) -> Option<Box<dyn HeadConfig>> {
        None
    }
    fn limits(&self, max_length: usize) -> String {
        let target = self.most(max_length);
        let prompt = max_length.saturating_sub(target);
        format!("to {prompt} tokens of a prompt and {target} of a target (--max-length, --max-target-length)")
    }
    fn encode(
        &self,
        data: &Dataset,
        tokenizer: &Tokenizer,
        purpose: Purpose,
        carry: &mut Carry,
    ) -> Result<Vec<Example>> {
        let (all, most) = (tokenizer.max_length(), self.most(tokenizer.max_length()));
        let room = all.checked_sub(most).filter(|room| *room > 0).ok_or_else(|| Error::Option {
            option: "max-target-length",
            value: most.to_string(),
            why: format!("a prompt and its target have {all} tokens together (max-length)"),
        })?;
        let prompts = tokenizer.encode_prompts(data, self.around(), room)?;
        let targets = match purpose {
            Purpose::Predict => vec![TokenizedText::default(); prompts.len()],
            _ => tokenizer.encode_continuations(data, most, tokenizer.end_of_text()?)?,
        };
        carry.cut += prompts.iter().zip(&targets).filter(|(p, t)| p.is_cut || t.is_cut).count();
        let both = prompts.into_iter().zip(targets).enumerate();
        Ok(both.map(|(record, (prompt, target))| Prompted::answer(record, prompt, target.ids)).collect())
    }
    fn is_one_to_one(&self) -> bool {
        true
    }
    fn example(&self, ids: Vec<u32>, labels: Option<&Given>) -> Result<Example, String> {
        tokens::following(ids, labels)
    }
    fn sample(&self, ids: Vec<u32>, _: &mut dyn FnMut(usize) -> u32) -> Example {
        tokens::follows(ids)
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
    fn generates(&self, max_length: usize) -> Option<usize> {
        Some(self.most(max_length))
    }
    fn prompts(&self, data: &Dataset, examples: &Examples) -> Vec<Option<Vec<u32>>> {
        let prompt = |mut e: Example| {
            if let Reads::These(rows) = &e.reads {
                e.ids.truncate(rows.first().map_or(0, |row| row + 1));
            }
            e.ids
        };
        said::prompts(data, examples, self.group_targets, prompt)
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

    #[test]
    fn a_template_has_one_source() {
        for bad in ["", "a", "{source}{source}", "{mr} ||| "] {
            assert!(Prompted::new(bad).unwrap_err().to_string().contains("{source}"), "{bad}");
        }
        let task = Prompted::new("Say: {source} ||| ").unwrap();
        assert_eq!((task.around(), task.most(128), task.most(1024)), (("Say: ", " ||| "), 64, 128));
    }

    #[test]
    fn only_the_target_is_learned() {
        let prompt = TokenizedText { ids: vec![5, 6, 7], ..TokenizedText::default() };
        let e = Prompted::answer(3, prompt.clone(), vec![8, 1]);
        assert_eq!((e.ids, e.reads, e.labels), (vec![5, 6, 7, 8, 1], Reads::These(vec![2, 3]), vec![8, 1]));
        let e = Prompted::answer(0, prompt, vec![]);
        assert_eq!((e.ids.len(), e.reads, e.labels), (3, Reads::These(vec![2]), vec![]));
    }
}
