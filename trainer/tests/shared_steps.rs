//! Several tasks in one batch: rows of different kinds, and one adapter with several heads.
mod support;
use engraft::{
    AdamW, Device,
    adapters::{Fields, parse},
    data::Dataset,
    engine::Gradients,
    learner::{Backbone, Graft, Learner, NewPart, Opening, answers_of_each, losses_of_each},
    reports::progress::Mode,
    run::{
        directory::Directory,
        evaluate::Encoded,
        mixed::{Seat, step_mixed},
        recipe::Recipe,
        sampling::{Drawn, Sampling},
        source::Source,
        step::{Stepping, Trainer},
        train::{Around, Entry, Place, train, train_mixed},
    },
    tasks::{CausalLm, Classification, Seq2Seq, Tagging, Task},
    text::{
        batch::{Batch, BatchSize, Order},
        example::{Example, Reads},
        examples::Examples,
    },
};
use std::path::{Path, PathBuf};
use support::*;

fn model(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(family).join("model")
}
fn open(family: &str) -> Backbone {
    let how = Opening { dropout: Some(0.0), ..Opening::default() };
    Backbone::open(model(family), &Device::cpu(2).unwrap(), how).unwrap()
}
fn names(n: usize) -> Vec<String> {
    (0..n).map(|n| format!("class {n}")).collect()
}
/// Tasks that read rows of different kinds of one model.
fn tasks(family: &str) -> Vec<Box<dyn Task>> {
    let classes = |n| Box::new(Classification::new(names(n)).unwrap());
    match family {
        "bert" => vec![classes(2), Box::new(Tagging::new(names(5)).unwrap()), classes(3)],
        "gpt2" => vec![classes(2), Box::new(Tagging::new(names(5)).unwrap()), Box::new(CausalLm::default())],
        _ => vec![classes(2), Box::new(Seq2Seq::default()), classes(4)],
    }
}
const FAMILIES: [(&str, &[&str]); 3] = [
    ("bert", &["houlsby", "lora[r=4]", "prompt_tuning"]),
    ("gpt2", &["pfeiffer", "prefix_tuning", "lora[r=4]"]),
    ("t5", &["pfeiffer", "lora[r=4]"]),
];
fn example(task: &dyn Task, seed: usize) -> Example {
    let ids = (0..3 + seed % 7).map(|i| (5 + 31 * seed + 7 * i) as u32 % 60).collect();
    let mut drawn = seed as u32;
    let example = task.sample(ids, &mut |n| {
        drawn = drawn.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        (drawn >> 16) % n as u32
    });
    // the tags of some words only
    match (task.name(), example.reads.clone()) {
        ("tagging", _) => {
            let rows: Vec<usize> = (0..example.ids.len()).filter(|row| row % 2 == seed % 2).collect();
            let labels = rows.iter().map(|row| example.labels.get(*row).copied().unwrap_or(0)).collect();
            Example { reads: Reads::These(rows), labels, ..example }
        }
        _ => example,
    }
}
/// A batch of examples of these tasks, those of each together.
fn batch(tasks: &[Box<dyn Task>], whose: &[usize]) -> Batch {
    let examples = whose.iter().enumerate().map(|(seed, n)| example(&*tasks[*n], seed));
    Batch { whose: whose.to_vec(), ..examples.collect() }
}
fn graft(method: &str, n: usize) -> Graft {
    let adapter = Some(parse(method, &Fields::new()).unwrap());
    Graft { name: format!("a{n}"), adapter, seed: n as u64, ..Graft::default() }
}
/// One adapter for all tasks of a family.
fn shared(backbone: &Backbone, family: &str, method: &str, weights: &[f64]) -> Learner {
    let one = |(n, (task, weight)): (usize, (Box<dyn Task>, &f64))| {
        let head = task.head(backbone.model().info(), false);
        NewPart { name: format!("t{n}"), head, task, weight: *weight }
    };
    let parts = tasks(family).into_iter().zip(weights).enumerate().map(one).collect();
    backbone.clone().learner_of(graft(method, 0), parts).unwrap()
}
/// An adapter for each task of a family.
fn apart(backbone: &Backbone, family: &str, method: &str) -> Vec<Learner> {
    let one = |(n, task): (usize, Box<dyn Task>)| {
        let head = task.head(backbone.model().info(), false);
        (Graft { head, ..graft(method, n) }, task)
    };
    backbone.clone().learners(tasks(family).into_iter().enumerate().map(one).collect::<Vec<_>>()).unwrap()
}
fn gradients(learner: &Learner, g: &Gradients) -> Vec<(String, Option<Vec<f32>>)> {
    let mut all = vec![];
    learner.visit(&mut |p| all.push((p.name().to_string(), g.get(p).map(|b| b.read::<f32>().unwrap()))));
    all
}
fn weights(learner: &Learner) -> Vec<(String, Vec<f32>)> {
    let mut all = vec![];
    learner.visit(&mut |p| all.push((p.name().to_string(), p.tensor().to_f32().unwrap())));
    all
}

#[test]
fn tasks_that_read_other_rows_answer_and_learn_as_by_themselves() {
    for (family, methods) in FAMILIES {
        let backbone = open(family);
        for method in methods {
            let learners = apart(&backbone, family, method);
            let all: Vec<&Learner> = learners.iter().collect();
            let mixed = batch(&tasks(family), &[0, 0, 1, 1, 1, 2]);
            let answers = answers_of_each(&all, &mixed.whose, &mixed).unwrap();
            let mut together = Gradients::new();
            let losses = losses_of_each(&all, &mixed, &mut together).unwrap();
            for (n, own) in [vec![0, 1], vec![2, 3, 4], vec![5]].into_iter().enumerate() {
                let alone = mixed.select(&own);
                let of_alone = learners[n].answers(&Batch { whose: vec![], ..alone.clone() }).unwrap();
                let found: Vec<_> = own.iter().map(|i| answers[*i].clone()).collect();
                assert!(found == of_alone, "{family} {method} {n}");
                let mut g = Gradients::new();
                let loss = losses_of_each(&all, &alone, &mut g).unwrap()[n];
                assert_eq!(losses[n], loss, "{family} {method} {n}");
                let found = gradients(&learners[n], &together);
                assert!(found == gradients(&learners[n], &g), "{family} {method} {n}");
                assert!(found.iter().any(|(_, g)| g.is_some()), "{family} {method} {n}");
            }
        }
    }
}

#[test]
fn a_shared_adapter_gets_the_sum_of_what_its_tasks_ask_for() {
    for (family, methods) in FAMILIES {
        let backbone = open(family);
        let counts = [1.0, 0.5, 3.0];
        for method in methods {
            let learner = shared(&backbone, family, method, &counts);
            assert_eq!(
                learner.parts().iter().map(|part| part.name()).collect::<Vec<_>>(),
                ["t0", "t1", "t2"]
            );
            let mixed = batch(&tasks(family), &[0, 0, 1, 1, 1, 2]);
            let mut together = Gradients::new();
            let losses = losses_of_each(&[&learner], &mixed, &mut together).unwrap();
            let (mut sum, mut total) = (gradients(&learner, &Gradients::new()), 0.0);
            for (n, own) in [vec![0, 1], vec![2, 3, 4], vec![5]].into_iter().enumerate() {
                let mut g = Gradients::new();
                let loss = losses_of_each(&[&learner], &mixed.select(&own), &mut g).unwrap();
                assert_eq!(loss[n], losses[n], "{family} {method} {n}");
                total += counts[n] * loss[n].unwrap();
                for ((_, sum), (_, g)) in sum.iter_mut().zip(gradients(&learner, &g)) {
                    let Some(g) = g else { continue };
                    match sum {
                        Some(sum) => sum.iter_mut().zip(g).for_each(|(sum, g)| *sum += g),
                        none => *none = Some(g),
                    }
                }
            }
            for ((name, found), (_, sum)) in gradients(&learner, &together).iter().zip(&sum) {
                let (Some(found), Some(sum)) = (found, sum) else {
                    assert_eq!(found.is_some(), sum.is_some(), "{family} {method}: {name}");
                    continue;
                };
                let worst = difference(found, sum);
                assert!(worst < 2e-6, "{family} {method}: {name}: {worst:.1e}");
            }
            // and a step says the sum of their losses, each a mean over its own labels
            let mut learner = learner;
            let mut trainer = Trainer::new(AdamW::new(0.0), 1);
            let before = weights(&learner);
            let seat = Seat::Learns(Stepping { trainer: &mut trainer, learner: &mut learner, lr: 1e-2 });
            let mut done = step_mixed(vec![seat], std::slice::from_ref(&mixed)).unwrap();
            let step = done.pop().unwrap().unwrap().unwrap();
            assert!((step.loss - total).abs() < 1e-6 * total, "{family} {method}: {} {total}", step.loss);
            assert_eq!(step.labels, mixed.labelled());
            let after = weights(&learner);
            assert!(before.iter().zip(&after).all(|(a, b)| a.0 == b.0) && before != after);
        }
    }
}

#[test]
fn what_has_one_adapter_is_saved_as_a_learner_for_each_task() {
    let backbone = open("bert");
    let learner = shared(&backbone, "bert", "pfeiffer", &[1.0; 3]);
    let dir = tempfile::tempdir().unwrap();
    learner.save(dir.path()).unwrap();
    let mixed = batch(&tasks("bert"), &[0, 1, 1, 2]);
    let answers = answers_of_each(&[&learner], &mixed.whose, &mixed).unwrap();
    for (n, own) in [vec![0], vec![1, 2], vec![3]].into_iter().enumerate() {
        let directory = dir.path().join(format!("t{n}"));
        let task = tasks("bert").swap_remove(n);
        let one = backbone.clone().load_learner(&directory, |_| Ok(task)).unwrap();
        let alone = one.answers(&Batch { whose: vec![], ..mixed.select(&own) }).unwrap();
        assert!(alone.iter().zip(&own).all(|(a, i)| *a == answers[*i]), "{n}");
    }
}

#[test]
fn tasks_that_are_none_are_refused() {
    let backbone = open("bert");
    let part = |name: &str, weight| {
        let task = tasks("bert").swap_remove(0);
        NewPart { name: name.into(), head: task.head(backbone.model().info(), false), task, weight }
    };
    let refused = |parts: Vec<NewPart>, word: &str| {
        let error = backbone.clone().learner_of(graft("pfeiffer", 0), parts).err().unwrap().to_string();
        assert!(error.contains(word), "{error}");
    };
    refused(vec![], "no task");
    refused(vec![part("a", 1.0), part("a", 1.0)], "two tasks");
    refused(vec![part("a", 1.0), part("b", 0.0)], "weight of `b`");
    refused(vec![part("a", f64::NAN)], "weight of `a`");
    let head = tasks("bert")[0].head(backbone.model().info(), false);
    let graft = Graft { head, ..graft("pfeiffer", 0) };
    assert!(backbone.clone().learner_of(graft, vec![part("a", 1.0)]).is_err());
    let full = Backbone::open_to_train(model("bert"), &Device::cpu(1).unwrap(), Opening::default()).unwrap();
    assert!(full.learner_of(Graft::default(), vec![part("a", 1.0)]).is_err());
}

/// What one task has of batches of several.
struct Own<'a>(&'a Drawn, usize);
impl Source for Own<'_> {
    fn batches(
        &self,
        size: BatchSize,
        order: Order,
    ) -> Box<dyn Iterator<Item = engraft::Result<Batch>> + '_> {
        Box::new(self.0.batches(size, order).filter_map(|batch| {
            let batch = batch.unwrap();
            let own: Vec<usize> = (0..batch.len()).filter(|i| batch.whose[*i] == self.1).collect();
            (!own.is_empty()).then(|| Ok(Batch { whose: vec![], ..batch.select(&own) }))
        }))
    }
    fn count(&self, size: BatchSize, order: Order) -> engraft::Result<u64> {
        Ok(self.batches(size, order).count() as u64)
    }
    fn hash(&self) -> String {
        self.0.hash()
    }
    fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

#[test]
fn tasks_with_adapters_of_their_own_are_runs_of_their_own() {
    let family = "bert";
    let backbone = open(family);
    let examples = |n: usize, count: usize, from: usize| -> Examples {
        (0..count).map(|i| example(&*tasks(family)[n], from + i)).collect()
    };
    let sizes = [12, 5, 23];
    for (method, how) in
        [("houlsby", "proportional"), ("lora[r=4]", "uniform"), ("pfeiffer", "temperature=3")]
    {
        let of_each = sizes.iter().enumerate().map(|(n, count)| examples(n, *count, 0)).collect();
        let drawn = Drawn::new(of_each, how.parse::<Sampling>().unwrap()).unwrap();
        let recipe = Recipe {
            batch: BatchSize::Tokens(40),
            epochs: Some(3),
            lr: 1e-2,
            metric: Some("loss".into()),
            ..Recipe::default()
        };
        let encoded = |n: usize| {
            let data = Dataset::of_texts("held-out", &vec!["text".into(); 4]).unwrap();
            Encoded {
                data,
                examples: examples(n, 4, 100),
                cut: 0,
                notes: vec![],
                by_example: false,
                generating: None,
                name: None,
                others: vec![],
            }
        };
        let eval: Vec<Option<Encoded>> = vec![Some(encoded(0)), None, Some(encoded(2))];
        let dir = tempfile::tempdir().unwrap();
        let entry = |n: usize, name: &str, learner: Learner| {
            let path = dir.path().join(format!("{name}{n}"));
            Entry::new(recipe.clone(), Directory::begin(&path, ("run.toml".into(), vec![])).unwrap(), learner)
        };
        let together = apart(&backbone, family, method).into_iter().enumerate();
        let places = together.map(|(n, learner)| Place::Run(Box::new(entry(n, "together", learner))));
        let mixed =
            train_mixed(places.collect(), &drawn, &eval, Around { mode: Mode::Quiet, ..Around::default() });
        for (n, (mixed, alone)) in
            mixed.unwrap().into_iter().zip(apart(&backbone, family, method)).enumerate()
        {
            let mixed = mixed.unwrap().unwrap();
            let around = Around { mode: Mode::Quiet, ..Around::default() };
            let alone = train(entry(n, "alone", alone), &Own(&drawn, n), eval[n].as_ref(), around).unwrap();
            assert!(weights(&mixed.learner) == weights(&alone.learner), "{method} {n}");
            assert_eq!(mixed.report.metrics, alone.report.metrics, "{method} {n}");
            let losses = |r: &engraft::reports::report::Report| {
                r.epochs.iter().map(|e| (e.loss, e.tokens, e.metrics.clone())).collect::<Vec<_>>()
            };
            assert_eq!(losses(&mixed.report), losses(&alone.report), "{method} {n}");
            let saved = |name: &str| {
                let mut files = files(&dir.path().join(format!("{name}{n}")));
                files.retain(|name, _| name.ends_with("safetensors"));
                files
            };
            assert!(!saved("alone").is_empty() && saved("alone") == saved("together"), "{method} {n}");
        }
    }
}
