//! Masked language modelling: which tokens of a text are hidden, from all others.
//!
//! A text is read by itself, a long one in pieces, with the tokenizer's special tokens around each.
//! Which tokens are hidden ([`Masking`]) is drawn anew in every epoch, and for an evaluation once for
//! all, so that its numbers can be compared. Only the rows of hidden tokens are computed in the last
//! layer. A prediction says what may stand where the mask is written in a text.
use super::{
    masking::Masking,
    one_line::one_line,
    said::OF_TOKENS,
    task::{Anew, Answer, Carry, Evaluated, Given, Prediction, Purpose, Task, TaskType, Told},
    tokens,
    top::Top,
};
use crate::{
    Error, Result,
    data::{Content, Dataset, Record},
    reports::{
        by_example::ExamplePrediction,
        metrics::{Metric, Metrics, Scores},
    },
    text::{
        batch::Batch,
        example::{Example, Reads},
        examples::Examples,
        shuffle::{below, numbers_of},
        tokenizer::Tokenizer,
    },
};
use engraft_adapters::{HeadConfig, heads};
use engraft_engine::{Act, Cx};
use engraft_models::{Kind, ModelInfo};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::OnceLock;

/// The registry row.
pub(super) const TASK: TaskType = TaskType {
    name: NAME,
    help: "Tokens that are hidden from the rest of their text",
    content: Content::Documents,
    labelled: false,
    classes: false,
    does: |head| head.head_type() == "masked_lm",
    headless: true,
    learn: |_, _, told| of(told),
    known: |_, told| of(told),
};
const NAME: &str = "masked-lm";
/// What decides which tokens are hidden in an evaluation.
const FIXED: u64 = 42;
/// In a piece of random tokens every so many are hidden.
const EVERY: usize = 7;

fn of(told: &Told) -> Result<Box<dyn Task>> {
    Ok(Box::new(told.read::<MaskedLm>(NAME)?.checked()?))
}

/// Which tokens are hidden.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct MaskedLm {
    /// The share of tokens, or of words, that are hidden: above 0, to 1.
    pub mlm_probability: f64,
    /// All tokens of a word are hidden together.
    pub whole_words: bool,
    /// How many tokens a prediction names for each hidden one.
    pub best: usize,
    /// The texts of all tokens, once something is to be predicted.
    #[serde(skip)]
    texts: OnceLock<Vec<String>>,
}
impl Default for MaskedLm {
    /// 15 % of the tokens, each by itself; the five best.
    fn default() -> MaskedLm {
        MaskedLm { mlm_probability: 0.15, whole_words: false, best: 5, texts: OnceLock::new() }
    }
}
impl MaskedLm {
    fn checked(self) -> Result<MaskedLm> {
        if self.mlm_probability > 0.0 && self.mlm_probability <= 1.0 {
            return Ok(self);
        }
        let (value, why) = (self.mlm_probability.to_string(), "it is above 0, and 1 at most".into());
        Err(Error::Option { option: "mlm-probability", value, why })
    }
    fn masking(&self, tokenizer: &Tokenizer) -> Result<Masking> {
        Masking::new(tokenizer, self.mlm_probability, self.whole_words)
    }
    /// Texts in which the mask is written, and where it stands.
    fn written(&self, data: &Dataset, tokenizer: &Tokenizer, carry: &mut Carry) -> Result<Vec<Example>> {
        let mask = self.masking(tokenizer)?.mask();
        let texts = tokenizer.token_texts()?;
        let shown = texts.get(mask as usize).cloned().unwrap_or_default();
        self.texts.get_or_init(|| texts);
        let one = |(record, t): (usize, crate::text::tokenizer::TokenizedText)| {
            carry.cut += usize::from(t.is_cut);
            let rows: Vec<usize> = (0..t.ids.len()).filter(|i| t.ids[*i] == mask).collect();
            if rows.is_empty() {
                let line = data.records.get(record).map_or(0, |r| r.line);
                let most = tokenizer.max_length();
                let why = format!("there is no {shown} in its first {most} tokens, so nothing to be said");
                return Err(Error::line(&data.path, line, why));
            }
            Ok(Example { types: t.types, record, ..Example::new(t.ids, Reads::These(rows), vec![]) })
        };
        tokenizer.encode_all(data)?.into_iter().enumerate().map(one).collect()
    }
}

impl Task for MaskedLm {
    fn name(&self) -> &str {
        NAME
    }
    fn content(&self) -> Content {
        TASK.content
    }
    fn metrics(&self) -> &[Metric] {
        OF_TOKENS
    }
    fn suits(&self, model: &ModelInfo) -> Result<(), String> {
        match model.kind {
            Kind::Encoder => Ok(()),
            Kind::Decoder | Kind::EncoderDecoder { .. } => {
                Err("its tokens do not see what stands behind them: causal-lm or seq2seq".into())
            }
        }
    }
    fn head(&self, model: &ModelInfo, linear: bool) -> Option<Box<dyn HeadConfig>> {
        let (vocabulary, embedding) = (model.vocabulary, model.embedding);
        match (linear, model.has_lm_head) {
            (true, _) => Some(Box::new(heads::MaskedLm::linear(vocabulary, model.channels))),
            (false, true) => None,
            (false, false) => Some(Box::new(heads::MaskedLm::new(vocabulary, embedding))),
        }
    }
    fn encode(
        &self,
        data: &Dataset,
        tokenizer: &Tokenizer,
        purpose: Purpose,
        carry: &mut Carry,
    ) -> Result<Vec<Example>> {
        if purpose == Purpose::Predict {
            return self.written(data, tokenizer, carry);
        }
        let (masking, (before, behind)) = (self.masking(tokenizer)?, tokenizer.around()?);
        let room = tokenizer.max_length().saturating_sub(before.len() + behind.len()).max(1);
        let mut examples = vec![];
        for (record, document) in tokenizer.encode_whole(data)?.iter().enumerate() {
            for piece in document.chunks(room) {
                let ids = [&before[..], piece, &behind[..]].concat();
                let labels = masking.labels(&ids);
                let mut example = Example { record, ..Example::new(ids, Reads::All, labels) };
                if !example.is_labelled() {
                    continue;
                }
                if purpose == Purpose::Evaluate {
                    let mut random = numbers_of(FIXED, 0, carry.texts as u64);
                    example = masking.example(example, &mut |n| below(&mut random, n));
                }
                carry.texts += 1;
                examples.push(example);
            }
        }
        Ok(examples)
    }
    fn anew(&self, tokenizer: &Tokenizer) -> Result<Option<Box<dyn Anew>>> {
        Ok(Some(Box::new(self.masking(tokenizer)?)))
    }
    fn fills(&self) -> bool {
        true
    }
    fn example(&self, ids: Vec<u32>, labels: Option<&Given>) -> Result<Example, String> {
        let labels = match labels {
            None => vec![],
            Some(Given::Each(each)) if each.len() == ids.len() => tokens::labels(each)?,
            Some(Given::Each(each)) => return Err(format!("{} labels for {} tokens", each.len(), ids.len())),
            Some(_) => return Err("hidden tokens are a list of labels for each sequence".into()),
        };
        Ok(Example::new(ids, Reads::All, labels))
    }
    fn sample(&self, ids: Vec<u32>, _: &mut dyn FnMut(usize) -> u32) -> Example {
        let rows: Vec<usize> = (0..ids.len()).step_by(EVERY).collect();
        let labels = rows.iter().map(|row| ids[*row]).collect();
        Example::new(ids, Reads::These(rows), labels)
    }
    fn loss<'m>(&self, cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Act> {
        let (x, last) = top.last(cx, x)?;
        Ok(cx.linear_cross_entropy(&x, last, &batch.labels)?.0)
    }
    fn answers<'m>(&self, cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Vec<Answer>> {
        if batch.labelled() > 0 {
            return tokens::answers(cx, top, x, batch);
        }
        let logits = top.logits(cx, x)?.to_array()?;
        let mut rows = logits.rows().into_iter();
        let one = |count: usize| {
            let mut answer = Answer::default();
            for row in rows.by_ref().take(count) {
                let best = tokens::best(&row.to_vec(), self.best);
                answer.chosen.extend(best.iter().map(|(id, _)| *id));
                answer.scores.extend(best.iter().map(|(_, log)| log));
            }
            answer
        };
        Ok(batch.counts().map(one).collect())
    }
    fn evaluate(&self, data: &Dataset, _: &Examples, answers: &[Answer]) -> Evaluated {
        let (scores, tokens) = tokens::scores(answers);
        let details = Map::from_iter([("scored_tokens".to_string(), json!(tokens))]);
        let shown = OF_TOKENS.iter().map(|m| {
            let value = scores.iter().find(|(name, _)| name == m.name).map_or(f64::NAN, |(_, value)| *value);
            m.show(value)
        });
        let lines = vec![format!("{} of {tokens} hidden tokens", shown.collect::<Vec<_>>().join(", "))];
        let metrics = Metrics { scores: Scores(scores), examples: data.len() as u64, details };
        Evaluated { metrics, lines }
    }
    /// Piece by piece.
    fn by_example(&self, _: &Dataset, _: &Examples, answers: &[Answer]) -> Vec<ExamplePrediction> {
        tokens::by_example(answers)
    }
    fn predictions(&self, data: &Dataset, examples: &Examples, answers: &[Answer]) -> Vec<Prediction> {
        let texts = self.texts.get().map_or(&[][..], Vec::as_slice);
        let name = |id: u32| texts.get(id as usize).map_or("", String::as_str);
        let one = |((record, e), a): ((&Record, Example), &Answer)| {
            let masks = e.rows().max(1);
            let each = (a.chosen.len() / masks).max(1);
            let places = a.chosen.chunks(each).zip(a.scores.chunks(each));
            let (mut shown, mut json) = (vec![], vec![]);
            for (ids, logs) in places {
                let both = || ids.iter().zip(logs).map(|(id, log)| (name(*id), f64::from(*log).exp()));
                shown.push(
                    both().map(|(t, p)| format!("{} {p:.4}", one_line(t))).collect::<Vec<_>>().join(", "),
                );
                json.push(both().map(|(t, p)| json!({"token": t, "probability": p})).collect::<Value>());
            }
            let text = record.text();
            Prediction {
                text: format!("{}\t{}", shown.join(" | "), one_line(&text)),
                json: json!({"text": text, "masks": json}),
            }
        };
        data.records.iter().zip(examples.iter()).zip(answers).map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{
        example::IGNORED,
        tokenizer::{
            Fit,
            tests::{alone, json},
        },
    };

    #[test]
    fn what_it_is_told() {
        let told = |v: Value| Told::new(v.as_object().cloned().unwrap_or_default());
        let read = |v| (TASK.known)(vec![], &told(v)).map(drop).map_err(|e| e.to_string());
        assert!(read(json!({"mlm-probability": 0.3, "whole-words": true, "best": 3})).is_ok());
        for bad in [0.0, 1.1, -1.0] {
            assert!(read(json!({"mlm-probability": bad})).unwrap_err().contains("mlm-probability"));
        }
        assert!(read(json!({"blocks": "hf"})).unwrap_err().contains("`blocks`"));
    }

    #[test]
    fn a_tokenizer_without_a_mask_is_refused() {
        let fit = Fit { model: "tiny", vocabulary: 10, positions: None, max_length: 12 };
        let tokenizer = Tokenizer::of(&alone(&json()), fit).unwrap();
        let data = Dataset::of_texts("t", &["a".into()]).unwrap();
        let task = MaskedLm::default();
        for purpose in [Purpose::Train, Purpose::Predict] {
            let error = task.encode(&data, &tokenizer, purpose, &mut Carry::default()).unwrap_err();
            assert!(error.to_string().contains("mask_token"), "{error}");
        }
    }

    #[test]
    fn labels_stand_at_their_own_token() {
        let task = MaskedLm::default();
        let e = task.example(vec![5, 6, 7], Some(&Given::Each(vec![-100, 6, -100]))).unwrap();
        assert_eq!((e.reads, e.labels), (Reads::All, vec![IGNORED, 6, IGNORED]));
        for bad in [Given::One(0), Given::Each(vec![0])] {
            assert!(task.example(vec![1, 2], Some(&bad)).is_err(), "{bad:?}");
        }
        let e = task.sample((0..9).collect(), &mut |_| 0);
        assert_eq!((e.reads, e.labels), (Reads::These(vec![0, 7]), vec![0, 7]));
    }
}
