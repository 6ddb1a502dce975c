//! Multiple choice: which of several choices goes with a text.
//!
//! Every choice is a sequence of its own, the text with what is read beside it, and has one score. The
//! sequences of an item are one example
//! ([`Reads::Choices`](crate::text::example::Reads::Choices)), however many they are, and its loss is
//! the cross-entropy over them. It has one label: the row of the right choice is labelled with 0, and
//! no other row is. Texts are cut for their choices, which stay whole.
use super::{
    classes,
    one_line::one_line,
    rows,
    task::{Answer, Carry, Evaluated, Given, Prediction, Purpose, Task, TaskType},
    top::Top,
};
use crate::{
    Error, Result,
    data::{Content, Dataset, Input, Label, Record},
    reports::{
        by_example::{ExamplePrediction, Statistic},
        metrics::{Metric, Metrics},
    },
    text::{
        batch::Batch,
        example::{Example, IGNORED},
        examples::Examples,
        tokenizer::{TokenizedText, Tokenizer},
    },
};
use engraft_adapters::{HeadConfig, heads};
use engraft_engine::{Act, Cx};
use engraft_models::ModelInfo;
use serde_json::{Map, Value, json};

/// The registry row.
pub(super) const TASK: TaskType = TaskType {
    name: NAME,
    help: "One of several choices that goes with a text",
    content: Content::Choices,
    labelled: true,
    classes: true,
    does: |head| head.head_type() == "multiple_choice",
    headless: false,
    learn: |_, names, told| {
        told.nothing(NAME)?;
        Ok(Box::new(MultipleChoice::new(names.found().len())))
    },
    known: |names, told| {
        told.nothing(NAME)?;
        Ok(Box::new(MultipleChoice { names }))
    },
};
const NAME: &str = "multiple-choice";
const METRICS: &[Metric] = &[Metric::share("accuracy"), Metric::share("chance"), Metric::loss("loss")];

/// Which of several choices goes with a text.
#[derive(Clone, Debug)]
pub struct MultipleChoice {
    /// What the head's file calls the choices of the item with most of them. Others may have more.
    names: Vec<String>,
}

impl MultipleChoice {
    /// For items with so many choices at most.
    pub fn new(choices: usize) -> MultipleChoice {
        MultipleChoice { names: (0..choices).map(|i| format!("LABEL_{i}")).collect() }
    }
}

/// The row of the right choice of each example of a batch.
fn targets(batch: &Batch) -> Vec<u32> {
    let mut rest = batch.labels.as_slice();
    let one = |rows: usize| {
        let (own, behind) = rest.split_at(rows.min(rest.len()));
        rest = behind;
        own.iter().position(|label| *label != IGNORED).map_or(IGNORED, |row| row as u32)
    };
    batch.counts().map(one).collect()
}
/// The number of the largest score; of equal ones the first.
fn best(scores: &[f32]) -> usize {
    (1..scores.len()).fold(0, |best, i| if scores[i] > scores[best] { i } else { best })
}

impl Task for MultipleChoice {
    fn name(&self) -> &str {
        NAME
    }
    fn content(&self) -> Content {
        TASK.content
    }
    fn labels(&self) -> &[String] {
        &self.names
    }
    fn metrics(&self) -> &[Metric] {
        METRICS
    }
    fn head(&self, model: &ModelInfo, linear: bool) -> Option<Box<dyn HeadConfig>> {
        Some(Box::new(match linear {
            true => heads::MultipleChoice::linear(&self.names, model.has_pooler),
            false => heads::MultipleChoice::new(&self.names),
        }))
    }
    fn encode(
        &self,
        data: &Dataset,
        tokenizer: &Tokenizer,
        purpose: Purpose,
        carry: &mut Carry,
    ) -> Result<Vec<Example>> {
        let one = |(number, (record, pairs)): (usize, (&Record, Vec<TokenizedText>))| {
            let right = match (purpose, &record.label) {
                (Purpose::Predict, _) => None,
                (_, Label::Choice(right)) => Some(*right),
                _ => return Err(Error::line(&data.path, record.line, "no right choice")),
            };
            carry.cut += usize::from(pairs.iter().any(|pair| pair.is_cut));
            let pairs = pairs.into_iter().map(|pair| (pair.ids, pair.types)).collect();
            Ok(Example { record: number, ..Example::choices(pairs, right) })
        };
        data.records.iter().zip(tokenizer.encode_choices(data)?).enumerate().map(one).collect()
    }
    fn is_one_to_one(&self) -> bool {
        true
    }
    fn example(&self, ids: Vec<u32>, labels: Option<&Given>) -> Result<Example, String> {
        let right = match labels {
            None => None,
            Some(Given::One(label)) if *label < 0 => None,
            Some(Given::One(0)) => Some(0),
            Some(_) => return Err("a sequence by itself is the only choice: its label is 0".into()),
        };
        let types = vec![0; ids.len()];
        Ok(Example::choices(vec![(ids, types)], right))
    }
    fn sample(&self, ids: Vec<u32>, draw: &mut dyn FnMut(usize) -> u32) -> Example {
        let choices = self.names.len().max(1);
        let types = vec![0; ids.len()];
        Example::choices(vec![(ids, types); choices], Some(draw(choices) as usize))
    }
    fn loss<'m>(&self, cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Act> {
        rows::loss(cx, top, x, batch, &targets(batch))
    }
    fn answers<'m>(&self, cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Vec<Answer>> {
        rows::answers(cx, top, x, batch, &targets(batch), |columns| {
            let scores = columns.first().cloned().unwrap_or_default();
            (vec![best(&scores) as u32], scores)
        })
    }
    fn evaluate(&self, data: &Dataset, examples: &Examples, answers: &[Answer]) -> Evaluated {
        let (mut right, mut chance, mut items) = (0.0, 0.0, 0.0);
        for (e, a) in examples.iter().zip(answers) {
            let Some(truth) = e.labels.iter().position(|label| *label != IGNORED) else { continue };
            right += f64::from(u8::from(a.chosen.first() == Some(&(truth as u32))));
            chance += 1.0 / a.scores.len().max(1) as f64;
            items += 1.0;
        }
        let scores =
            [("loss", classes::mean_loss(answers)), ("accuracy", right / items), ("chance", chance / items)];
        let lines = vec![format!("who chooses at random has an accuracy of {:.2} %", 100.0 * chance / items)];
        let metrics = Metrics { scores: scores.into(), examples: data.len() as u64, details: Map::new() };
        Evaluated { metrics, lines }
    }
    fn by_example(&self, data: &Dataset, examples: &Examples, answers: &[Answer]) -> Vec<ExamplePrediction> {
        let one = |(e, answer): (ExamplePrediction, &Answer)| {
            let (prediction, scores) = (json!(answer.chosen.first()), json!(answer.scores));
            let e = ExamplePrediction { prediction, scores, ..e };
            let is_right = Statistic::right(e.is_right());
            e.adding("accuracy", is_right)
        };
        Answer::by_record(data, examples, answers).into_iter().zip(answers).map(one).collect()
    }
    fn predictions(&self, data: &Dataset, _: &Examples, answers: &[Answer]) -> Vec<Prediction> {
        let one = |(record, answer): (&Record, &Answer)| {
            let Input::Choices { text, choices, .. } = &record.input else {
                return Prediction { json: Value::Null, text: String::new() };
            };
            let all = classes::log_sum_exp(&answer.scores);
            let each: Vec<f64> = answer.scores.iter().map(|x| (f64::from(*x) - all).exp()).collect();
            let best = answer.chosen.first().map_or(0, |choice| *choice as usize);
            let probability = each.get(best).copied().unwrap_or(f64::NAN);
            let choice = choices.get(best).map_or("", String::as_str);
            Prediction {
                text: format!("{best}\t{probability:.4}\t{}\t{}", one_line(choice), one_line(text)),
                json: json!({"text": text, "label": best, "choice": choice, "probability": probability,
                    "choices": choices, "scores": answer.scores, "probabilities": each}),
            }
        };
        data.records.iter().zip(answers).map(one).collect()
    }
}
