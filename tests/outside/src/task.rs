//! Least squares on texts: a text's class is learned by pulling its own output to 1 and the others
//! to 0.
use engraft::{
    Result,
    adapters::{HeadConfig, heads},
    data::{Content, Dataset, Labels},
    reports::metrics::{Metric, Metrics},
    tasks::{Answer, Carry, Evaluated, Given, Prediction, Purpose, Task, Top},
    text::{
        batch::Batch,
        example::{Example, IGNORED, Reads},
        examples::Examples,
        tokenizer::Tokenizer,
    },
};
use engraft_engine::{Act, Cx};
use engraft_models::ModelInfo;
use serde_json::json;

const NAME: &str = "least-squares";
const METRICS: &[Metric] = &[Metric::share("accuracy"), Metric::loss("loss")];

/// Classes by least squares.
pub struct LeastSquares {
    labels: Labels,
}
impl LeastSquares {
    /// With classes of these names.
    pub fn new(names: &[&str]) -> Result<LeastSquares> {
        Ok(LeastSquares { labels: Labels::from_names(names.iter().map(|n| n.to_string()).collect())? })
    }
    /// What the outputs of a row are pulled to.
    fn targets(&self, label: u32) -> impl Iterator<Item = f32> {
        (0..self.labels.len() as u32).map(move |class| if class == label { 1.0 } else { 0.0 })
    }
}

impl Task for LeastSquares {
    fn name(&self) -> &str {
        NAME
    }
    fn content(&self) -> Content {
        Content::Texts
    }
    fn labels(&self) -> &[String] {
        self.labels.names()
    }
    fn metrics(&self) -> &[Metric] {
        METRICS
    }
    fn head(&self, _: &ModelInfo, _: bool) -> Option<Box<dyn HeadConfig>> {
        Some(Box::new(heads::Classification::linear(self.labels.names(), false)))
    }
    fn encode(
        &self,
        data: &Dataset,
        tokenizer: &Tokenizer,
        _: Purpose,
        _: &mut Carry,
    ) -> Result<Vec<Example>> {
        let (texts, labels) = (tokenizer.encode_all(data)?, self.labels.ids_of(data)?);
        let example = |(record, (text, label)): (usize, (engraft::text::tokenizer::TokenizedText, u32))| {
            Example { record, types: text.types, ..Example::new(text.ids, Reads::Summary, vec![label]) }
        };
        Ok(texts.into_iter().zip(labels).enumerate().map(example).collect())
    }
    fn example(&self, ids: Vec<u32>, labels: Option<&Given>) -> Result<Example, String> {
        let label = match labels {
            Some(Given::One(label)) => {
                u32::try_from(*label).map_err(|_| format!("label {label} is no class"))?
            }
            _ => return Err("one label for each text".into()),
        };
        Ok(Example::new(ids, Reads::Summary, vec![label]))
    }
    fn sample(&self, ids: Vec<u32>, draw: &mut dyn FnMut(usize) -> u32) -> Example {
        Example::new(ids, Reads::Summary, vec![draw(self.labels.len())])
    }
    fn loss<'m>(&self, cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Act> {
        let z = top.logits(cx, x)?;
        let targets: Vec<f32> = batch.labels.iter().flat_map(|l| self.targets(*l)).collect();
        Ok(cx.squared_error(&z, &targets)?.0)
    }
    fn answers<'m>(&self, cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Vec<Answer>> {
        let z = top.logits(cx, x)?.to_array()?;
        let one = |(row, label): (ndarray::ArrayView1<'_, f32>, &u32)| {
            let distance = row.iter().zip(self.targets(*label)).map(|(z, t)| f64::from(z - t).powi(2)).sum();
            let best = (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap_or(0) as u32;
            let count = if *label == IGNORED { 0.0 } else { 1.0 };
            Answer { loss: distance, count, chosen: vec![best], scores: row.to_vec(), ..Answer::default() }
        };
        Ok(z.rows().into_iter().zip(&batch.labels).map(one).collect())
    }
    fn evaluate(&self, _: &Dataset, examples: &Examples, answers: &[Answer]) -> Evaluated {
        let right = examples.iter().zip(answers).filter(|(e, a)| e.labels == a.chosen).count();
        let n = answers.len().max(1) as f64;
        let loss = answers.iter().map(|a| a.loss).sum::<f64>() / n;
        let scores = [("accuracy", right as f64 / n), ("loss", loss)];
        let metrics = Metrics { scores: scores.into(), examples: answers.len() as u64, ..Metrics::default() };
        Evaluated { metrics, lines: vec![] }
    }
    fn predictions(&self, _: &Dataset, _: &Examples, answers: &[Answer]) -> Vec<Prediction> {
        let one = |a: &Answer| {
            let label = &self.labels.names()[a.chosen[0] as usize];
            Prediction { json: json!({ "label": label }), text: label.clone() }
        };
        answers.iter().map(one).collect()
    }
}
