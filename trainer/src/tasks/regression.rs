//! Regression: one number for each text or pair of texts.
//!
//! The head is a classification of one label, as in AdapterHub and in transformers
//! (`problem_type: regression`). The loss is the squared error of its only logit against the number
//! as it stands in the data, which is not scaled.
use super::{
    classes,
    outputs::Outputs,
    task::{Answer, Carry, Evaluated, Given, Prediction, Purpose, Task, TaskType},
    texts,
    top::Top,
};
use crate::{
    Error, Result,
    data::{Content, Dataset, Label, Record},
    reports::{
        by_example::{ExamplePrediction, Statistic},
        metrics::{Metric, Metrics},
        scores::numbers::Regression as Errors,
    },
    text::{
        batch::Batch,
        example::{Example, IGNORED, Reads},
        examples::Examples,
        tokenizer::Tokenizer,
    },
};
use engraft_adapters::{HeadConfig, heads};
use engraft_engine::{Act, Cx};
use engraft_models::ModelInfo;
use serde_json::{Map, json};

/// The registry row.
pub(super) const TASK: TaskType = TaskType {
    name: NAME,
    help: "A number for each text or pair of texts",
    content: Content::Values,
    labelled: true,
    classes: false,
    does: |head| head.head_type() == "classification" && head.labels().is_ok_and(|l| l.len() == 1),
    headless: false,
    learn: |_, _, told| {
        told.nothing(NAME)?;
        Ok(Box::new(Regression))
    },
    known: |_, told| {
        told.nothing(NAME)?;
        Ok(Box::new(Regression))
    },
};
const NAME: &str = "regression";
/// The library's name of the only label.
const ONLY: &str = "LABEL_0";
/// The mean of Pearson's and Spearman's correlation, as GLUE has it.
const COMBINED: &str = "combined_score";
const METRICS: &[Metric] = &[
    Metric::number("pearson"),
    Metric::number("spearmanr"),
    Metric::number(COMBINED),
    Metric::loss("mse"),
    Metric::loss("mae"),
    Metric::number("r2"),
    Metric::loss("loss"),
];

/// One number for each text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Regression;

impl Task for Regression {
    fn name(&self) -> &str {
        NAME
    }
    fn content(&self) -> Content {
        TASK.content
    }
    fn metrics(&self) -> &[Metric] {
        METRICS
    }
    fn head(&self, model: &ModelInfo, linear: bool) -> Option<Box<dyn HeadConfig>> {
        let only = [ONLY.to_string()];
        Some(Box::new(match linear {
            true => heads::Classification::linear(&only, model.has_pooler),
            false => heads::Classification::new(&only),
        }))
    }
    fn encode(
        &self,
        data: &Dataset,
        tokenizer: &Tokenizer,
        purpose: Purpose,
        carry: &mut Carry,
    ) -> Result<Vec<Example>> {
        texts::encode(data, tokenizer, purpose, carry, |record| match record.label {
            Label::Value(value) => Ok((0, vec![value])),
            _ => Err(Error::line(&data.path, record.line, "the label was not read as a number")),
        })
    }
    fn is_one_to_one(&self) -> bool {
        true
    }
    fn example(&self, ids: Vec<u32>, labels: Option<&Given>) -> Result<Example, String> {
        let value = match labels {
            None => return Ok(Example::new(ids, Reads::Summary, vec![IGNORED])),
            Some(Given::One(label)) => *label as f32,
            Some(Given::Value(label)) => *label,
            Some(_) => return Err("a regression has one number for each sequence".into()),
        };
        Ok(Example { values: vec![value], ..Example::new(ids, Reads::Summary, vec![0]) })
    }
    fn sample(&self, ids: Vec<u32>, draw: &mut dyn FnMut(usize) -> u32) -> Example {
        let value = draw(1 << 10) as f32 / 1024.0;
        Example { values: vec![value], ..Example::new(ids, Reads::Summary, vec![0]) }
    }
    fn loss<'m>(&self, cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Act> {
        let (logits, values) = texts::with_values(cx, top, x, batch)?;
        Ok(cx.squared_error(&logits, &values)?.0)
    }
    fn outputs(&self) -> Option<Outputs> {
        Some(Outputs::Numbers)
    }
    fn answers<'m>(&self, cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Vec<Answer>> {
        let logits = top.logits(cx, x)?.to_array()?;
        let one = |(row, values): (ndarray::ArrayView1<'_, f32>, &Vec<f32>)| {
            let errors = row.iter().zip(values).map(|(z, y)| (f64::from(*z) - f64::from(*y)).powi(2));
            Answer {
                loss: errors.sum(),
                count: values.len() as f64,
                scores: row.to_vec(),
                ..Answer::default()
            }
        };
        Ok(logits.rows().into_iter().zip(&batch.values).map(one).collect())
    }
    fn evaluate(&self, data: &Dataset, examples: &Examples, answers: &[Answer]) -> Evaluated {
        let pair =
            |(e, a): (Example, &Answer)| Some((f64::from(*a.scores.first()?), f64::from(*e.values.first()?)));
        let (predicted, truth): (Vec<f64>, Vec<f64>) = examples.iter().zip(answers).filter_map(pair).unzip();
        let found = Errors::of(&predicted, &truth);
        let mut scores = found.scores();
        let combined = found.pearson.zip(found.spearmanr).map(|(p, s)| (p + s) / 2.0);
        scores.0.insert(0, ("loss".into(), classes::mean_loss(answers)));
        scores.0.push((COMBINED.into(), combined.unwrap_or(f64::NAN)));
        let all = METRICS[1..6].iter().filter_map(|m| Some(m.show(scores.get(m.name)?)));
        let lines = vec![all.collect::<Vec<_>>().join(", ")];
        let metrics = Metrics { scores, examples: data.len() as u64, details: Map::new() };
        Evaluated { metrics, lines }
    }
    fn by_example(&self, data: &Dataset, examples: &Examples, answers: &[Answer]) -> Vec<ExamplePrediction> {
        let one = |(e, (example, answer)): (ExamplePrediction, (Example, &Answer))| {
            let (truth, value) = (example.values.first(), answer.scores.first());
            let e = ExamplePrediction { truth: json!(truth), prediction: json!(value), ..e };
            let Some((y, z)) = truth.zip(value) else { return e };
            let error = f64::from(*z) - f64::from(*y);
            e.adding("mse", Statistic::mean(error.powi(2), 1.0))
                .adding("mae", Statistic::mean(error.abs(), 1.0))
        };
        let all = Answer::by_record(data, examples, answers);
        all.into_iter().zip(examples.iter().zip(answers)).map(one).collect()
    }
    fn predictions(&self, data: &Dataset, _: &Examples, answers: &[Answer]) -> Vec<Prediction> {
        let one = |(record, answer): (&Record, &Answer)| {
            let value = answer.scores.first().copied().unwrap_or(f32::NAN);
            Prediction {
                text: format!("{value:.4}\t{}", texts::shown(record)),
                json: texts::said_of(record, [("value", json!(value))]),
            }
        };
        data.records.iter().zip(answers).map(one).collect()
    }
}
