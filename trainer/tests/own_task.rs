//! A task of one's own, in one file: all that it takes is the trait.
//!
//! The task: of every token of a text, whether the same token stood in the text before. It needs no
//! labels in the data, reads every row, and has its own head, loss, score and predictions.
use engraft::{
    AdamW, Device, Result,
    adapters::{HeadConfig, heads},
    data::{Columns, Content, Dataset, Want},
    engine::{Act, Cx},
    learner::{Backbone, Graft, Opening},
    models::ModelInfo,
    reports::{
        metrics::{Metric, Metrics},
        progress::Mode,
    },
    run::{
        directory::Directory,
        evaluate::{Encoded, evaluate, predict},
        recipe::Recipe,
        step::Trainer,
        train::{Around, Entry, train},
    },
    tasks::{Answer, Carry, Evaluated, Given, Prediction, Purpose, Task, Top},
    text::{
        batch::Batch,
        example::{Example, Reads},
        examples::Examples,
        tokenizer::{Fit, Tokenizer},
    },
};
use serde_json::{Map, json};
use std::{collections::HashSet, path::Path};

const METRICS: &[Metric] = &[Metric::share("accuracy"), Metric::loss("loss")];

struct Again([String; 2]);

fn labels(ids: &[u32]) -> Vec<u32> {
    let mut seen = HashSet::new();
    ids.iter().map(|id| u32::from(!seen.insert(*id))).collect()
}

impl Task for Again {
    fn name(&self) -> &str {
        "again"
    }
    fn content(&self) -> Content {
        Content::Documents
    }
    fn labels(&self) -> &[String] {
        &self.0
    }
    fn metrics(&self) -> &[Metric] {
        METRICS
    }
    fn head(&self, _: &ModelInfo, _: bool) -> Option<Box<dyn HeadConfig>> {
        Some(heads::Tagging::new(&self.0).into())
    }
    fn encode(
        &self,
        data: &Dataset,
        tokenizer: &Tokenizer,
        _: Purpose,
        _: &mut Carry,
    ) -> Result<Vec<Example>> {
        let one = |(record, t): (usize, engraft::text::tokenizer::TokenizedText)| {
            let labels = labels(&t.ids);
            Example { record, ..Example::new(t.ids, Reads::All, labels) }
        };
        Ok(tokenizer.encode_all(data)?.into_iter().enumerate().map(one).collect())
    }
    fn example(&self, ids: Vec<u32>, given: Option<&Given>) -> Result<Example, String> {
        match given {
            None => Ok(Example::new(ids.clone(), Reads::All, labels(&ids))),
            Some(_) => Err("the labels follow from the tokens".into()),
        }
    }
    fn sample(&self, ids: Vec<u32>, _: &mut dyn FnMut(usize) -> u32) -> Example {
        Example::new(ids.clone(), Reads::All, labels(&ids))
    }
    fn loss<'m>(&self, cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Act> {
        let logits = top.logits(cx, x)?;
        Ok(cx.cross_entropy(&logits, &batch.labels)?.0)
    }
    fn answers<'m>(&self, cx: &mut Cx<'m>, top: Top<'m>, x: &Act, batch: &Batch) -> Result<Vec<Answer>> {
        let logits = top.logits(cx, x)?.to_array()?;
        let mut rows = logits.rows().into_iter().zip(&batch.labels);
        let one = |n: usize| {
            let mut answer = Answer { count: n as f64, ..Answer::default() };
            for (z, label) in rows.by_ref().take(n) {
                answer.chosen.push(u32::from(z[1] > z[0]));
                let margin = f64::from(z[1 - *label as usize] - z[*label as usize]);
                answer.loss += margin.exp().ln_1p();
            }
            answer
        };
        Ok(batch.counts().map(one).collect())
    }
    fn evaluate(&self, data: &Dataset, examples: &Examples, answers: &[Answer]) -> Evaluated {
        let (mut right, mut all, mut loss) = (0usize, 0usize, 0.0);
        for (e, a) in examples.iter().zip(answers) {
            right += e.labels.iter().zip(&a.chosen).filter(|(t, p)| t == p).count();
            all += e.labels.len();
            loss += a.loss;
        }
        let scores = [("loss", loss / all as f64), ("accuracy", right as f64 / all as f64)].into();
        let metrics = Metrics { scores, examples: data.len() as u64, details: Map::new() };
        Evaluated { metrics, lines: vec![] }
    }
    fn predictions(&self, data: &Dataset, _: &Examples, answers: &[Answer]) -> Vec<Prediction> {
        let one = |(record, a): (&engraft::data::Record, &Answer)| {
            let again = a.chosen.iter().sum::<u32>();
            Prediction { json: json!({"again": again}), text: format!("{again}\t{}", record.text()) }
        };
        data.records.iter().zip(answers).map(one).collect()
    }
}

#[test]
fn a_task_of_ones_own_trains_evaluates_and_predicts() {
    let folder = tempfile::tempdir().unwrap();
    let directory = engraft::demo::unpack_backbone(folder.path()).unwrap();
    let device = Device::cpu(2).unwrap();
    let backbone = Backbone::open(&directory, &device, Opening::default()).unwrap();
    let vocabulary = backbone.model().info().vocabulary;
    let fit = Fit { model: "demo", vocabulary, positions: None, max_length: 32 };
    let tokenizer = Tokenizer::load(&directory, fit).unwrap();
    let text = "the train and the train and the train\nno seat was clean\nnice nice nice coffee coffee\n";
    let want = Want { content: Content::Documents, labels: false };
    let data = Dataset::parse(Path::new("a.txt"), text.as_bytes(), &Columns::default(), want).unwrap();

    let task = Again(["new", "again"].map(String::from));
    let head = task.head(backbone.model().info(), false);
    let adapter = Some(engraft::adapters::BnConfig::houlsby().into());
    let mut learner = backbone
        .learner(Graft { name: "again".into(), adapter, head, seed: 1, ..Graft::default() }, Box::new(task))
        .unwrap();
    let encoded = Encoded::new(data, &learner, &tokenizer, Purpose::Train).unwrap();
    let before = evaluate(&learner, &encoded, 2, Mode::Quiet).unwrap().metrics;

    // step by step: accumulated batches weigh their labels, not their number
    let all = [0, 1, 2].map(|i| Batch::pack(&encoded.examples, &[i]));
    let mut trainer = Trainer::new(AdamW::new(0.0), 1);
    let step = trainer.step(&mut learner, &all, 1e-3).unwrap();
    let labels: usize = encoded.examples.iter().map(|e| e.labels.len()).sum();
    assert_eq!(step.labels, labels);
    assert!((step.loss - before.scores.get("loss").unwrap()).abs() < 0.1, "{step:?} {before:?}");

    // a whole run
    let out = folder.path().join("out");
    let recipe = Recipe { epochs: Some(30), lr: 1e-2, batch: 3.into(), ..Recipe::default() };
    let place = Directory::begin(&out, ("settings.txt".into(), b"thirty epochs".into())).unwrap();
    let (examples, around) = (&encoded.examples, Around::default());
    let outcome = train(Entry::new(recipe, place, learner), examples, Some(&encoded), around).unwrap();
    assert_eq!(outcome.report.task, "again");
    let best = outcome.report.metrics.unwrap();
    assert!(best.scores.get("accuracy").unwrap() > 0.95, "{best:?}");
    let said = predict(&outcome.learner, &encoded, 2, Mode::Quiet).unwrap();
    assert_eq!(said.len(), 3);

    // and back from its files
    let backbone = Backbone::open(&directory, &device, Opening::default()).unwrap();
    let task = |head: Option<&engraft::adapters::Head>| -> Result<Box<dyn Task>> {
        let labels = head.unwrap().labels();
        Ok(Box::new(Again([labels[0].clone(), labels[1].clone()])))
    };
    let again = backbone.load_learner(&out, task).unwrap();
    assert_eq!(evaluate(&again, &encoded, 64, Mode::Quiet).unwrap().metrics, best);
}
