//! Classification: one class for each text or pair of texts.
use super::{
    classes,
    one_line::one_line,
    outputs::Outputs,
    task::{Answer, Carry, Evaluated, Given, Prediction, Purpose, Task, TaskType},
    texts,
    top::Top,
};
use crate::{
    Result,
    data::{Content, Dataset, Labels},
    reports::{
        by_example::{ExamplePrediction, Statistic},
        confusion::Confusion,
        metrics::{Metric, Metrics},
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
use serde_json::{Map, Value, json};

/// The registry row.
pub(super) const TASK: TaskType = TaskType {
    name: NAME,
    help: "One class for each text or pair of texts",
    content: Content::Texts,
    labelled: true,
    classes: true,
    does: |head| head.head_type() == NAME && head.labels().is_ok_and(|labels| labels.len() > 1),
    headless: false,
    learn: |path, names, told| {
        told.nothing(NAME)?;
        Ok(Box::new(Classification { labels: Labels::learn(path, names)? }))
    },
    known: |names, told| {
        told.nothing(NAME)?;
        Ok(Box::new(Classification::new(names)?))
    },
};
const NAME: &str = "classification";
const METRICS: &[Metric] = &[
    Metric::share("accuracy"),
    Metric::share("macro_f1"),
    Metric::share("micro_f1"),
    Metric::number("matthews"),
    Metric::loss("loss"),
];

/// One class for each text.
#[derive(Clone, Debug)]
pub struct Classification {
    labels: Labels,
}

impl Classification {
    /// With classes of these names.
    pub fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Result<Classification> {
        Ok(Classification { labels: Labels::from_names(names.into_iter().map(Into::into).collect())? })
    }
    /// Probabilities by the names of their classes.
    fn named(&self, probabilities: &[(usize, f64)]) -> Map<String, Value> {
        probabilities.iter().map(|(class, p)| (self.labels()[*class].clone(), json!(p))).collect()
    }
}

impl Task for Classification {
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
        Some(Box::new(match linear {
            true => heads::Classification::linear(names, model.has_pooler),
            false => heads::Classification::new(names),
        }))
    }
    fn encode(
        &self,
        data: &Dataset,
        tokenizer: &Tokenizer,
        purpose: Purpose,
        carry: &mut Carry,
    ) -> Result<Vec<Example>> {
        texts::encode(data, tokenizer, purpose, carry, |record| {
            Ok((self.labels.of(&data.path, record)?, vec![]))
        })
    }
    fn is_one_to_one(&self) -> bool {
        true
    }
    fn example(&self, ids: Vec<u32>, labels: Option<&Given>) -> Result<Example, String> {
        let label = match labels {
            None => IGNORED,
            Some(Given::One(label)) => classes::numbered(*label, self.labels.len())?,
            Some(_) => return Err("a classification has one label for each sequence".into()),
        };
        Ok(Example::new(ids, Reads::Summary, vec![label]))
    }
    fn sample(&self, ids: Vec<u32>, draw: &mut dyn FnMut(usize) -> u32) -> Example {
        Example::new(ids, Reads::Summary, vec![draw(self.labels.len())])
    }
    fn loss<'m>(&self, cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Act> {
        classes::loss(cx, top, x, batch)
    }
    fn outputs(&self) -> Option<Outputs> {
        Some(Outputs::Classes)
    }
    fn answers<'m>(&self, cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Vec<Answer>> {
        let mut answers = classes::answers(cx, top, x, batch)?;
        answers.iter_mut().for_each(classes::shorten);
        Ok(answers)
    }
    fn evaluate(&self, data: &Dataset, examples: &Examples, answers: &[Answer]) -> Evaluated {
        let mut c = Confusion::new(self.labels.len());
        for (e, a) in examples.iter().zip(answers) {
            if let (Some(truth), Some(chosen)) =
                (e.labels.first().filter(|l| **l != IGNORED), a.chosen.first())
            {
                c.add(*truth, *chosen);
            }
        }
        let scores = [
            ("loss", classes::mean_loss(answers)),
            ("accuracy", c.accuracy()),
            ("macro_f1", c.macro_f1()),
            ("micro_f1", c.micro_f1()),
            ("matthews", c.matthews()),
        ];
        let [_, _, (_, macro_f1), (_, micro_f1), (_, matthews)] = scores;
        let mut lines =
            vec![format!("macro F1 {macro_f1:.4}, micro F1 {micro_f1:.4}, Matthews {matthews:.4}")];
        lines.extend(c.table(self.labels()));
        let details = c.details(self.labels());
        let metrics = Metrics { scores: scores.into(), examples: data.len() as u64, details };
        Evaluated { metrics, lines }
    }
    fn by_example(&self, data: &Dataset, examples: &Examples, answers: &[Answer]) -> Vec<ExamplePrediction> {
        let name = |class: Option<&u32>| class.and_then(|c| self.labels().get(*c as usize)).cloned().into();
        let one = |(e, (example, answer)): (ExamplePrediction, (Example, &Answer))| {
            let (truth, prediction) = (name(example.labels.first()), name(answer.chosen.first()));
            let scores = json!(self.named(&classes::probabilities(answer)));
            let e = ExamplePrediction { truth, prediction, scores, ..e };
            let is_right = Statistic::right(e.is_right());
            e.adding("accuracy", is_right)
        };
        let all = Answer::by_record(data, examples, answers);
        all.into_iter().zip(examples.iter().zip(answers)).map(one).collect()
    }
    fn predictions(&self, data: &Dataset, _: &Examples, answers: &[Answer]) -> Vec<Prediction> {
        let names = self.labels.names();
        let one = |(record, answer): (&crate::data::Record, &Answer)| {
            let best = answer.chosen.first().map_or(0, |class| *class as usize);
            let all = classes::probabilities(answer);
            let probability = all.iter().find(|(class, _)| *class == best).map_or(f64::NAN, |(_, p)| *p);
            let label = &names[best];
            let each = self.named(&all);
            let text = record.text();
            Prediction {
                text: format!("{}\t{probability:.4}\t{}", one_line(label), one_line(&text)),
                json: json!({"text": text, "label": label, "probability": probability, "probabilities": each}),
            }
        };
        data.records.iter().zip(answers).map(one).collect()
    }
}
