//! Causal language modelling: each token from those before it.
//!
//! Documents follow each other, the tokenizer's token for the end of a text behind each, and are
//! cut into blocks of the greatest length, or become sequences in another way ([`Blocks`]); the
//! first token of a block is predicted by nothing. For a prediction each text is read by itself.
//! Where a prompt is told how to be made, data has sources and targets: see [`Prompted`].
use super::{
    one_line::one_line,
    outputs::Outputs,
    prompted::{NAME, Prompted},
    task::{Answer, Carry, Evaluated, Given, Prediction, Purpose, Task, TaskType, Told},
    tokens,
    top::Top,
};
use crate::{
    Error, Result,
    data::{Content, Dataset},
    reports::{
        by_example::ExamplePrediction,
        metrics::{Metric, Metrics, Scores},
    },
    text::{
        batch::Batch,
        blocks::{blocks, groups, next_tokens, pieces},
        example::{Example, Reads},
        examples::Examples,
        tokenizer::Tokenizer,
    },
};
use engraft_adapters::HeadConfig;
use engraft_engine::{Act, Cx};
use engraft_models::{Kind, ModelInfo};
use serde::Deserialize;
use serde_json::{Map, json};

/// The registry row.
pub(super) const TASK: TaskType = TaskType {
    name: NAME,
    help: "Each token of a text from those before it",
    content: Content::Documents,
    labelled: false,
    classes: false,
    does: |head| head.head_type() == "causal_lm",
    headless: true,
    learn: |_, _, told| of(told),
    known: |_, told| of(told),
};
/// The scores of one stream, in which nothing is left out.
const OF_STREAM: &[Metric] = &[PERPLEXITY, LOSS, ACCURACY, BITS];
/// Those of texts by themselves.
const OF_EACH: &[Metric] = &[PERPLEXITY, LOSS, ACCURACY, MEAN];
/// Others.
const OF_TOKENS: &[Metric] = &[PERPLEXITY, LOSS, ACCURACY];
const LOSS: Metric = tokens::METRICS[0];
const PERPLEXITY: Metric = tokens::METRICS[1];
const ACCURACY: Metric = tokens::METRICS[2];
const BITS: Metric = Metric::loss("bits_per_byte");
/// The mean of the perplexities of texts, which is another number than that of all tokens.
const MEAN: Metric = Metric::loss("mean_perplexity");

fn of(told: &Told) -> Result<Box<dyn Task>> {
    Ok(match told.reads_answers() {
        true => Box::new(Prompted::told(told)?),
        false => Box::new(told.read::<CausalLm>(NAME)?),
    })
}

choices! {
    /// How documents become the sequences of a language model.
    pub enum Blocks {
        /// One stream, the end of a text behind each document, in blocks of the greatest length; the
        /// last one is shorter
        Stream = "stream",
        /// As run_clm of transformers does it: a thousand documents one behind the other, without an
        /// end, in blocks of the greatest length, and what is left of each thousand is dropped
        Hf = "hf",
        /// Each document by itself, cut at the greatest length, the token that begins a text in front
        /// of it
        Texts = "texts",
    }
}
#[expect(clippy::derivable_impls, reason = "the enum is written by a macro")]
impl Default for Blocks {
    fn default() -> Self {
        Self::Stream
    }
}

/// Each token from those before it.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct CausalLm {
    /// How documents become sequences to learn from, and to evaluate on.
    pub blocks: Blocks,
}

/// A sequence as an example: one of one token, of which nothing can be predicted, is left out where
/// nothing is to be said of it.
fn block(record: usize, ids: Vec<u32>, purpose: Purpose) -> Option<Example> {
    let labels = next_tokens(&ids);
    let is_useful = ids.len() > 1 || purpose == Purpose::Predict;
    is_useful.then(|| Example { record, ..Example::new(ids, Reads::All, labels) })
}

impl Task for CausalLm {
    fn name(&self) -> &str {
        NAME
    }
    fn content(&self) -> Content {
        TASK.content
    }
    fn metrics(&self) -> &[Metric] {
        match self.blocks {
            Blocks::Stream => OF_STREAM,
            Blocks::Texts => OF_EACH,
            Blocks::Hf => OF_TOKENS,
        }
    }
    fn suits(&self, model: &ModelInfo) -> Result<(), String> {
        match model.kind {
            Kind::EncoderDecoder { .. } => Err("its decoder says something of an input: seq2seq".into()),
            Kind::Encoder | Kind::Decoder => Ok(()),
        }
    }
    fn head(&self, _: &ModelInfo, _: bool) -> Option<Box<dyn HeadConfig>> {
        None
    }
    fn encode(
        &self,
        data: &Dataset,
        tokenizer: &Tokenizer,
        purpose: Purpose,
        carry: &mut Carry,
    ) -> Result<Vec<Example>> {
        let length = tokenizer.max_length();
        let sequences: Vec<(usize, Vec<u32>)> = match (purpose, self.blocks) {
            (Purpose::Predict, _) => {
                let of = |(i, d): (usize, &Vec<u32>)| pieces(d, length).into_iter().map(move |ids| (i, ids));
                tokenizer.encode_whole(data)?.iter().enumerate().flat_map(of).collect()
            }
            (_, Blocks::Stream) => {
                let documents = tokenizer.encode_whole(data)?;
                blocks(&documents, tokenizer.end_of_text()?, length, &mut carry.ids)
            }
            (_, Blocks::Hf) => {
                let documents = tokenizer.encode_with_special(data)?;
                groups(&documents, length, &mut carry.ids, &mut carry.texts)
            }
            (_, Blocks::Texts) => {
                let begin = tokenizer.begin_of_text()?.ok_or_else(|| {
                    let why = "the tokenizer's files name no token that begins a text".into();
                    Error::Option { option: "blocks", value: "texts".into(), why }
                })?;
                let documents = tokenizer.encode_whole(data)?;
                carry.cut += documents.iter().filter(|d| d.len() >= length).count();
                let one = |d: Vec<u32>| std::iter::once(begin).chain(d).take(length).collect();
                documents.into_iter().map(one).enumerate().collect()
            }
        };
        Ok(sequences.into_iter().filter_map(|(record, ids)| block(record, ids, purpose)).collect())
    }
    fn rest(&self, carry: Carry) -> Option<Example> {
        // what is left of a thousand documents is dropped
        (self.blocks == Blocks::Stream).then(|| block(0, carry.ids, Purpose::Train)).flatten()
    }
    fn example(&self, ids: Vec<u32>, labels: Option<&Given>) -> Result<Example, String> {
        tokens::following(ids, labels)
    }
    fn sample(&self, ids: Vec<u32>, _: &mut dyn FnMut(usize) -> u32) -> Example {
        tokens::follows(ids)
    }
    fn loss<'m>(&self, cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Act> {
        let (x, last) = top.last(cx, x)?;
        Ok(cx.linear_cross_entropy(&x, last, &batch.labels)?.0)
    }
    fn outputs(&self) -> Option<Outputs> {
        Some(Outputs::Classes)
    }
    fn answers<'m>(&self, cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Vec<Answer>> {
        tokens::answers(cx, top, x, batch)
    }
    fn evaluate(&self, data: &Dataset, _: &Examples, answers: &[Answer]) -> Evaluated {
        let (mut scores, tokens) = tokens::scores(answers);
        let perplexity =
            scores.iter().find(|(name, _)| name == PERPLEXITY.name).map_or(f64::NAN, |(_, p)| *p);
        let mut line = format!("perplexity {perplexity:.4}, {tokens} tokens scored");
        match self.blocks {
            Blocks::Stream => {
                let bits = Answer::total(answers).0 / (std::f64::consts::LN_2 * data.bytes.max(1) as f64);
                scores.push((BITS.name.into(), bits));
                line = format!("perplexity {perplexity:.4}, {bits:.4} bits per byte, {tokens} tokens scored");
            }
            Blocks::Texts => {
                let scored = answers.iter().filter(|a| a.count > 0.0);
                let each: Vec<f64> = scored.map(|a| (a.loss / a.count).exp()).collect();
                let mean = each.iter().sum::<f64>() / each.len() as f64;
                scores.push((MEAN.name.into(), mean));
                line += &format!(", mean perplexity {mean:.4} of {} texts", each.len());
            }
            Blocks::Hf => {}
        }
        let details = Map::from_iter([("scored_tokens".to_string(), json!(tokens))]);
        let metrics = Metrics { scores: Scores(scores), examples: data.len() as u64, details };
        Evaluated { metrics, lines: vec![line] }
    }
    /// Block by block.
    fn by_example(&self, _: &Dataset, _: &Examples, answers: &[Answer]) -> Vec<ExamplePrediction> {
        tokens::by_example(answers)
    }
    fn predictions(&self, data: &Dataset, examples: &Examples, answers: &[Answer]) -> Vec<Prediction> {
        let mut sums = vec![(0.0, 0.0); data.len()];
        for (e, a) in examples.iter().zip(answers) {
            if let Some((loss, count)) = sums.get_mut(e.record) {
                (*loss, *count) = (*loss + a.loss, *count + a.count);
            }
        }
        let one = |(record, (sum, tokens)): (&crate::data::Record, (f64, f64))| {
            let (text, loss) = (record.text(), sum / tokens); // of one token nothing is known: not a number, null in JSON
            Prediction {
                text: format!("{loss:.4}\t{tokens}\t{}", one_line(&text)),
                json: json!({"text": text, "loss": loss, "tokens": tokens as u64, "perplexity": loss.exp()}),
            }
        };
        data.records.iter().zip(sums).map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::example::IGNORED;

    #[test]
    fn labels_stand_at_their_own_token() {
        let e = CausalLm::default().example(vec![5, 6, 7], Some(&Given::Each(vec![5, -100, 7]))).unwrap();
        assert_eq!((e.reads, e.labels), (Reads::All, vec![IGNORED, 7, IGNORED]));
        for bad in [Given::One(0), Given::Each(vec![0])] {
            assert!(CausalLm::default().example(vec![1, 2], Some(&bad)).is_err(), "{bad:?}");
        }
        assert_eq!(CausalLm::default().sample(vec![3, 4], &mut |_| 0).labels, [4, IGNORED]);
    }

    #[test]
    fn perplexity_is_over_all_tokens() {
        let data = Dataset::of_texts("--text", &["ab".into(), "c".into()]).unwrap();
        let answer = |loss, count| Answer { loss, count, ..Answer::default() };
        let answers = [answer(3.0, 1.0), answer(1.0, 3.0), answer(0.0, 0.0)];
        let m = CausalLm::default().evaluate(&data, &Examples::default(), &answers).metrics;
        assert_eq!((m.scores.get("loss"), m.scores.get("perplexity")), (Some(1.0), Some(1f64.exp())));
        assert!(
            (m.scores.get("bits_per_byte").unwrap() - 4.0 / (3.0 * std::f64::consts::LN_2)).abs() < 1e-12
        );
        let examples = [0, 0, 1].map(|record| Example { record, ..Example::default() });
        let examples: Examples = examples.into_iter().collect();
        let p = CausalLm::default().predictions(&data, &examples, &answers);
        assert_eq!(p[0].json, json!({"text": "ab", "loss": 1.0, "tokens": 4, "perplexity": 1f64.exp()}));
        assert_eq!(p[1].json["loss"], serde_json::Value::Null);
    }
}
