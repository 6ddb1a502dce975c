//! Causal language modelling: each token from those before it.
//!
//! Documents follow each other, the tokenizer's token for the end of a text behind each, and are
//! cut into blocks of the greatest length; the first token of a block is predicted by nothing. For
//! a prediction each text is read by itself.
use super::{
    one_line::one_line,
    task::{Answer, Carry, Evaluated, Given, Prediction, Purpose, Task, TaskType},
    tokens,
    top::Top,
};
use crate::{
    Result,
    data::{Content, Dataset},
    reports::{
        by_example::{ExamplePrediction, Statistic},
        metrics::{Metric, Metrics},
    },
    text::{
        batch::Batch,
        blocks::{blocks, next_tokens, pieces},
        example::{Example, Reads},
        examples::Examples,
        tokenizer::Tokenizer,
    },
};
use engraft_adapters::HeadConfig;
use engraft_engine::{Act, Cx};
use engraft_models::{Kind, ModelInfo};
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
    learn: |_, _, told| told.nothing(NAME).map(|()| Box::new(CausalLm) as _),
    known: |_, told| told.nothing(NAME).map(|()| Box::new(CausalLm) as _),
};
const NAME: &str = "causal-lm";
const METRICS: &[Metric] = &[Metric::loss("perplexity"), Metric::loss("loss"), Metric::loss("bits_per_byte")];

/// Each token from those before it.
#[derive(Clone, Copy, Debug)]
pub struct CausalLm;

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
        METRICS
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
        let documents = tokenizer.encode_whole(data)?;
        let length = tokenizer.max_length();
        let sequences = match purpose {
            Purpose::Train | Purpose::Evaluate => {
                blocks(&documents, tokenizer.end_of_text()?, length, &mut carry.ids)
            }
            Purpose::Predict => {
                let of = |(i, d): (usize, &Vec<u32>)| pieces(d, length).into_iter().map(move |ids| (i, ids));
                documents.iter().enumerate().flat_map(of).collect()
            }
        };
        Ok(sequences.into_iter().filter_map(|(record, ids)| block(record, ids, purpose)).collect())
    }
    fn rest(&self, carry: Carry) -> Option<Example> {
        block(0, carry.ids, Purpose::Train)
    }
    fn example(&self, ids: Vec<u32>, labels: Option<&Given>) -> Result<Example, String> {
        // as transformers: a label stands at its own token, and is what the position before
        // predicts
        let labels = match labels {
            None => vec![],
            Some(Given::Each(each)) if each.len() == ids.len() => next_tokens(&tokens::labels(each)?),
            Some(Given::Each(each)) => return Err(format!("{} labels for {} tokens", each.len(), ids.len())),
            Some(_) => {
                return Err("a language model has a list of labels for each sequence".into());
            }
        };
        Ok(Example::new(ids, Reads::All, labels))
    }
    fn sample(&self, ids: Vec<u32>, _: &mut dyn FnMut(usize) -> u32) -> Example {
        let labels = next_tokens(&ids);
        Example::new(ids, Reads::All, labels)
    }
    fn loss<'m>(&self, cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Act> {
        let (x, last) = top.last(cx, x)?;
        Ok(cx.linear_cross_entropy(&x, last, &batch.labels)?.0)
    }
    fn answers<'m>(&self, cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Vec<Answer>> {
        tokens::answers(cx, top, x, batch)
    }
    fn evaluate(&self, data: &Dataset, _: &Examples, answers: &[Answer]) -> Evaluated {
        let (sum, tokens) = Answer::total(answers);
        let loss = sum / f64::max(tokens, 1.0);
        let bits = sum / (std::f64::consts::LN_2 * data.bytes.max(1) as f64);
        let scores = [("loss", loss), ("perplexity", loss.exp()), ("bits_per_byte", bits)];
        let details = Map::from_iter([("scored_tokens".to_string(), json!(tokens as u64))]);
        let lines =
            vec![format!("perplexity {:.4}, {bits:.4} bits per byte, {tokens} tokens scored", loss.exp())];
        Evaluated { metrics: Metrics { scores: scores.into(), examples: data.len() as u64, details }, lines }
    }
    /// Block by block.
    fn by_example(&self, _: &Dataset, _: &Examples, answers: &[Answer]) -> Vec<ExamplePrediction> {
        let one = |(number, a): (usize, &Answer)| {
            let loss = Some(a.loss / a.count).filter(|loss| loss.is_finite());
            let e = ExamplePrediction { id: (number + 1).to_string(), loss, ..ExamplePrediction::default() };
            e.adding("loss", Statistic::mean(a.loss, a.count))
                .adding("perplexity", Statistic::exp_mean(a.loss, a.count))
        };
        answers.iter().enumerate().map(one).collect()
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
        let e = CausalLm.example(vec![5, 6, 7], Some(&Given::Each(vec![5, -100, 7]))).unwrap();
        assert_eq!((e.reads, e.labels), (Reads::All, vec![IGNORED, 7, IGNORED]));
        for bad in [Given::One(0), Given::Each(vec![0])] {
            assert!(CausalLm.example(vec![1, 2], Some(&bad)).is_err(), "{bad:?}");
        }
        assert_eq!(CausalLm.sample(vec![3, 4], &mut |_| 0).labels, [4, IGNORED]);
    }

    #[test]
    fn perplexity_is_over_all_tokens() {
        let data = Dataset::of_texts("--text", &["ab".into(), "c".into()]).unwrap();
        let answer = |loss, count| Answer { loss, count, ..Answer::default() };
        let answers = [answer(3.0, 1.0), answer(1.0, 3.0), answer(0.0, 0.0)];
        let m = CausalLm.evaluate(&data, &Examples::default(), &answers).metrics;
        assert_eq!((m.scores.get("loss"), m.scores.get("perplexity")), (Some(1.0), Some(1f64.exp())));
        assert!(
            (m.scores.get("bits_per_byte").unwrap() - 4.0 / (3.0 * std::f64::consts::LN_2)).abs() < 1e-12
        );
        let examples = [0, 0, 1].map(|record| Example { record, ..Example::default() });
        let examples: Examples = examples.into_iter().collect();
        let p = CausalLm.predictions(&data, &examples, &answers);
        assert_eq!(p[0].json, json!({"text": "ab", "loss": 1.0, "tokens": 4, "perplexity": 1f64.exp()}));
        assert_eq!(p[1].json["loss"], serde_json::Value::Null);
    }
}
