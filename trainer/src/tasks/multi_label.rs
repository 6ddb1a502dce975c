//! Several labels: any number of them for each text or pair of texts, each by itself there or not.
//!
//! A label is predicted where its logit says that it is more probable than a threshold, strictly.
use super::{
    classes,
    one_line::one_line,
    outputs::Outputs,
    task::{Answer, Carry, Evaluated, Given, Prediction, Purpose, Task, TaskType, Told},
    texts,
    top::Top,
};
use crate::{
    Error, Result,
    data::{Content, Dataset, Label, Labels, Record},
    reports::{
        by_example::{ExamplePrediction, Statistic},
        class_table::table,
        metrics::{Metric, Metrics},
        scores::label_sets::{self, LabelSets},
    },
    text::{
        batch::Batch,
        example::{Example, IGNORED, Reads},
        examples::Examples,
        tokenizer::Tokenizer,
    },
};
use engraft_adapters::{HeadConfig, heads};
use engraft_engine::{
    Act, Cx,
    kernels::pointwise_loss::{Loss, sigmoid},
};
use engraft_models::ModelInfo;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The registry row.
pub(super) const TASK: TaskType = TaskType {
    name: NAME,
    help: "Any number of labels for each text or pair of texts",
    content: Content::LabelSets,
    labelled: true,
    classes: true,
    does: |head| head.head_type() == "multilabel_classification",
    headless: false,
    learn: |_, names, told| Ok(Box::new(MultiLabel::of(Labels::sorted(names)?, told)?)),
    known: |names, told| Ok(Box::new(MultiLabel::of(Labels::from_names(names)?, told)?)),
};
const NAME: &str = "multi-label";
const LOSS: Metric = Metric::loss("loss");
const METRICS: &[Metric] = &{
    let [a, b, c, d, e, f, g, h] = label_sets::METRICS;
    [a, b, c, d, e, f, g, h, LOSS]
};

/// Any number of labels for each text.
#[derive(Clone, Debug)]
pub struct MultiLabel {
    labels: Labels,
    /// The logit above which a label is predicted.
    above: f64,
}

/// What it is told.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
struct Options {
    threshold: f64,
}
impl Default for Options {
    fn default() -> Self {
        Self { threshold: 0.5 }
    }
}

impl MultiLabel {
    /// With labels of these names, each predicted where it is more probable than not.
    pub fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Result<MultiLabel> {
        let labels = Labels::from_names(names.into_iter().map(Into::into).collect())?;
        MultiLabel::of(labels, &Told::default())
    }
    fn of(labels: Labels, told: &Told) -> Result<MultiLabel> {
        let Options { threshold: p } = told.read(NAME)?;
        if !(p > 0.0 && p < 1.0) {
            let why = "it is a probability between 0 and 1, neither of them".into();
            return Err(Error::Option { option: "threshold", value: p.to_string(), why });
        }
        Ok(MultiLabel { labels, above: (p / (1.0 - p)).ln() })
    }
    /// How probable each label is, by its name.
    fn probabilities(&self, answer: &Answer) -> Map<String, Value> {
        let probability = |z: &f32| json!(sigmoid(f64::from(*z)));
        self.labels.names().iter().cloned().zip(answer.scores.iter().map(probability)).collect()
    }
    /// A 1 for each of these labels and a 0 for the others.
    fn values(&self, of: impl IntoIterator<Item = u32>) -> Vec<f32> {
        let mut values = vec![0.0; self.labels.len()];
        of.into_iter().for_each(|label| values[label as usize] = 1.0);
        values
    }
}

/// The numbers of the labels that an example has.
fn truth(example: &Example) -> Vec<u32> {
    let values = example.values.iter().zip(0..);
    values.filter(|(value, _)| **value > 0.5).map(|(_, label)| label).collect()
}

impl Task for MultiLabel {
    fn name(&self) -> &str {
        NAME
    }
    fn content(&self) -> Content {
        TASK.content
    }
    fn labels(&self) -> &[String] {
        self.labels.names()
    }
    fn metrics(&self) -> &[Metric] {
        METRICS
    }
    fn head(&self, model: &ModelInfo, linear: bool) -> Option<Box<dyn HeadConfig>> {
        let names = self.labels.names();
        Some(Box::new(heads::MultiLabelClassification(match linear {
            true => heads::Classification::linear(names, model.has_pooler),
            false => heads::Classification::new(names),
        })))
    }
    fn encode(
        &self,
        data: &Dataset,
        tokenizer: &Tokenizer,
        purpose: Purpose,
        carry: &mut Carry,
    ) -> Result<Vec<Example>> {
        texts::encode(data, tokenizer, purpose, carry, |record| match &record.label {
            Label::Set(names) => {
                let number = |name| self.labels.number(&data.path, record.line, name);
                Ok((0, self.values(names.iter().map(number).collect::<Result<Vec<_>>>()?)))
            }
            _ => Err(Error::line(&data.path, record.line, "the label was not read as a list of labels")),
        })
    }
    fn is_one_to_one(&self) -> bool {
        true
    }
    fn example(&self, ids: Vec<u32>, labels: Option<&Given>) -> Result<Example, String> {
        let values: Vec<f32> = match labels {
            None => return Ok(Example::new(ids, Reads::Summary, vec![IGNORED])),
            Some(Given::Each(each)) => each.iter().map(|x| *x as f32).collect(),
            Some(Given::Values(each)) => each.clone(),
            Some(_) => return Err("several labels are a list with a number for each".into()),
        };
        if values.len() != self.labels.len() {
            return Err(format!("{} numbers for {} labels", values.len(), self.labels.len()));
        }
        if let Some(value) = values.iter().find(|value| !(0.0..=1.0).contains(*value)) {
            return Err(format!("{value} for a label is not from 0 to 1"));
        }
        Ok(Example { values, ..Example::new(ids, Reads::Summary, vec![0]) })
    }
    fn sample(&self, ids: Vec<u32>, draw: &mut dyn FnMut(usize) -> u32) -> Example {
        let values = (0..self.labels.len()).map(|_| draw(2) as f32).collect();
        Example { values, ..Example::new(ids, Reads::Summary, vec![0]) }
    }
    fn loss<'m>(&self, cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Act> {
        let (logits, values) = texts::with_values(cx, top, x, batch)?;
        Ok(cx.binary_cross_entropy(&logits, &values)?.0)
    }
    fn outputs(&self) -> Option<Outputs> {
        Some(Outputs::Labels)
    }
    fn answers<'m>(&self, cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Vec<Answer>> {
        let logits = top.logits(cx, x)?.to_array()?;
        let one = |(row, values): (ndarray::ArrayView1<'_, f32>, &Vec<f32>)| {
            let losses = row
                .iter()
                .zip(values)
                .map(|(z, y)| Loss::BinaryCrossEntropy.of(f64::from(*z), f64::from(*y)));
            let is_there = |(z, _): &(&f32, u32)| f64::from(**z) > self.above;
            Answer {
                loss: losses.sum::<f64>() / values.len().max(1) as f64,
                count: if values.is_empty() { 0.0 } else { 1.0 },
                chosen: row.iter().zip(0..).filter(is_there).map(|(_, label)| label).collect(),
                scores: row.to_vec(),
                ..Answer::default()
            }
        };
        Ok(logits.rows().into_iter().zip(&batch.values).map(one).collect())
    }
    fn evaluate(&self, data: &Dataset, examples: &Examples, answers: &[Answer]) -> Evaluated {
        let mut sets = LabelSets::new(self.labels.len());
        let labelled = examples.iter().zip(answers).filter(|(e, _)| !e.values.is_empty());
        labelled.for_each(|(e, a)| sets.add(&truth(&e), &a.chosen));
        let mut scores = sets.scores();
        scores.0.insert(0, ("loss".into(), classes::mean_loss(answers)));
        let all = METRICS[1..4].iter().chain(&METRICS[6..8]);
        let shown = all.filter_map(|m| Some(m.show(scores.get(m.name)?))).collect::<Vec<_>>();
        let each = || self.labels().iter().zip(sets.labels());
        let rows = each().map(|(name, c)| (name.as_str(), c.precision(), c.recall(), c.f1(), c.truth));
        let mut lines = vec![shown.join(", ")];
        lines.extend(table("label", "texts", rows.collect(), None));
        let one = |(name, c): (&String, &label_sets::Counts)| {
            json!({"label": name, "precision": c.precision(), "recall": c.recall(), "f1": c.f1(),
                   "support": c.truth})
        };
        let details = Map::from_iter([("labels".to_string(), Value::Array(each().map(one).collect()))]);
        let metrics = Metrics { scores, examples: data.len() as u64, details };
        Evaluated { metrics, lines }
    }
    fn by_example(&self, data: &Dataset, examples: &Examples, answers: &[Answer]) -> Vec<ExamplePrediction> {
        let named = |labels: &[u32]| -> Vec<&str> { labels.iter().map(|l| self.labels.name(*l)).collect() };
        let one = |(e, (example, a)): (ExamplePrediction, (Example, &Answer))| {
            let truth = truth(&example);
            let (scores, right) = (self.probabilities(a), truth == a.chosen);
            let both = truth.iter().filter(|label| a.chosen.contains(label)).count();
            let counts = [both, a.chosen.len(), truth.len()].map(|n| n as f64);
            let e = ExamplePrediction {
                truth: json!(named(&truth)),
                prediction: json!(named(&a.chosen)),
                scores: scores.into(),
                ..e
            };
            e.adding("f1", Statistic::f1(counts)).adding("accuracy", Statistic::right(right))
        };
        let all = Answer::by_record(data, examples, answers);
        all.into_iter().zip(examples.iter().zip(answers)).map(one).collect()
    }
    fn predictions(&self, data: &Dataset, _: &Examples, answers: &[Answer]) -> Vec<Prediction> {
        let one = |(record, answer): (&Record, &Answer)| {
            let chosen: Vec<&str> = answer.chosen.iter().map(|label| self.labels.name(*label)).collect();
            let shown: Vec<_> = chosen.iter().map(|label| one_line(label)).collect();
            Prediction {
                text: format!("{}\t{}", shown.join("|"), texts::shown(record)),
                json: texts::said_of(
                    record,
                    [("labels", json!(chosen)), ("probabilities", self.probabilities(answer).into())],
                ),
            }
        };
        data.records.iter().zip(answers).map(one).collect()
    }
}
