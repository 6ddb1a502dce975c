//! Steps from mixed batches: each learner takes the step that it takes from its own examples alone.
mod support;
use engraft::{
    AdamW, Device,
    adapters::{Fields, parse},
    engine::Gradients,
    learner::{Backbone, Graft, Learner, Opening, losses_of_each},
    run::{
        mixed::{Seat, step_mixed},
        step::{Stepping, Trainer},
    },
    tasks::{CausalLm, Classification, Task},
    text::{
        batch::Batch,
        example::{Example, IGNORED, Reads},
    },
};
use std::path::{Path, PathBuf};
use support::*;

/// Methods, each with so many classes and perhaps a head of one layer.
type Methods = [(&'static str, usize, bool)];

fn model(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(family).join("model")
}
fn open(family: &str, dropout: Option<f32>) -> Backbone {
    let how = Opening { dropout, ..Opening::default() };
    Backbone::open(model(family), &Device::cpu(2).unwrap(), how).unwrap()
}
fn graft(
    backbone: &Backbone,
    n: usize,
    (method, classes, linear): (&str, usize, bool),
) -> (Graft, Box<dyn Task>) {
    let task = Classification::new((0..classes).map(|n| format!("class {n}"))).unwrap();
    let head = task.head(backbone.model().info(), linear);
    let adapter = (method != "none").then(|| parse(method, &Fields::new()).unwrap());
    (Graft { name: format!("a{n}"), adapter, head, seed: n as u64, ..Graft::default() }, Box::new(task))
}
/// Learners that learn together.
fn together(backbone: &Backbone, methods: &Methods) -> Vec<Learner> {
    let grafts = methods.iter().enumerate().map(|(n, m)| graft(backbone, n, *m));
    backbone.clone().learners(grafts.collect::<Vec<_>>()).unwrap()
}
/// One of them by itself.
fn alone(backbone: &Backbone, n: usize, method: (&str, usize, bool)) -> Learner {
    let (graft, task) = graft(backbone, n, method);
    backbone.clone().learner(graft, task).unwrap()
}
fn example(seed: usize, classes: usize) -> Example {
    let ids = (0..3 + seed % 7).map(|i| (5 + 31 * seed + 7 * i) as u32 % 60).collect();
    Example::new(ids, Reads::Summary, vec![(seed % classes) as u32])
}
/// Examples of learners in this order, in one batch and for each learner by themselves.
fn examples(methods: &Methods, whose: &[usize]) -> (Batch, Vec<Vec<Example>>) {
    let (mut all, mut own) = (vec![], vec![vec![]; methods.len()]);
    for (seed, n) in whose.iter().enumerate() {
        let e = example(seed, methods[*n].1);
        own[*n].push(e.clone());
        all.push(e);
    }
    (Batch { whose: whose.to_vec(), ..all.into_iter().collect() }, own)
}
/// What trains, by name.
fn weights(learner: &Learner) -> Vec<(String, Vec<f32>)> {
    let mut all = vec![];
    learner.visit(&mut |p| all.push((p.name().to_string(), p.tensor().to_f32().unwrap())));
    all
}
fn gradients(learner: &Learner, g: &Gradients) -> Vec<(String, Option<Vec<f32>>)> {
    let mut all = vec![];
    learner.visit(&mut |p| all.push((p.name().to_string(), g.get(p).map(|b| b.read::<f32>().unwrap()))));
    all
}
/// The largest difference between two lists of tensors, relative to the largest number of each.
fn worst(a: &[(String, Vec<f32>)], b: &[(String, Vec<f32>)]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |worst, ((name, a), (other, b))| {
        assert_eq!(name, other);
        difference(a, b).max(worst)
    })
}

/// The same of gradients, which are there for the same weights.
fn furthest(a: &[(String, Option<Vec<f32>>)], b: &[(String, Option<Vec<f32>>)]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |worst, ((name, a), (other, b))| {
        assert_eq!((name, a.is_some()), (other, b.is_some()));
        a.as_ref().zip(b.as_ref()).map_or(0.0, |(a, b)| difference(a, b)).max(worst)
    })
}

/// In the order of the learners, and in none.
const ORDERS: [&[usize]; 2] = [&[0, 0, 0, 1, 1, 2, 3, 3, 3, 3], &[3, 0, 1, 3, 2, 0, 3, 1, 0, 3]];

#[test]
fn gradients_are_those_of_each_alone() {
    let families: [(&str, &Methods); 4] = [
        (
            "bert",
            &[("houlsby", 2, false), ("houlsby", 3, true), ("houlsby", 2, false), ("houlsby", 4, false)],
        ),
        (
            "gpt2",
            &[("houlsby", 2, true), ("lora[r=4]", 3, true), ("prefix_tuning", 2, true), ("none", 3, true)],
        ),
        (
            "bert",
            &[("lora[r=4]", 2, false), ("prefix_tuning", 5, true), ("par_bn", 2, false), ("none", 3, false)],
        ),
        ("bert", &[("prompt_tuning", 2, true), ("pfeiffer", 3, true), ("ia3", 2, true), ("lora", 2, true)]),
    ];
    for (family, methods) in families {
        let backbone = open(family, Some(0.0));
        let mut expected = vec![];
        for (n, method) in methods.iter().enumerate() {
            expected.push((alone(&backbone, n, *method), Gradients::new()));
        }
        for order in ORDERS {
            let learners = together(&backbone, methods);
            let (batch, own) = examples(methods, order);
            let mut g = Gradients::new();
            let losses = losses_of_each(&learners.iter().collect::<Vec<_>>(), &batch, &mut g).unwrap();
            for (n, learner) in learners.iter().enumerate() {
                // in the pass that training takes
                let ((one, of_one), own) = (&mut expected[n], &own[n]);
                of_one.clear();
                let batch = Batch { whose: vec![0; own.len()], ..own.iter().cloned().collect() };
                let loss = losses_of_each(&[one], &batch, of_one).unwrap()[0].unwrap();
                assert!((losses[n].unwrap() - loss).abs() < 1e-6 * loss, "{family} {n}");
                // to the bit where the rows of a learner stand together
                let most = if order == ORDERS[0] { 0.0 } else { 1e-6 };
                let found = gradients(learner, &g);
                let worst = furthest(&found, &gradients(one, of_one));
                assert!(worst <= most, "{family} {:?}: {worst:.1e}", methods[n]);
                // and in one that computes every row of the last layer
                of_one.clear();
                one.examine(own, Some(of_one)).unwrap();
                let worst = furthest(&found, &gradients(one, of_one));
                println!("{family} {}: {worst:.1e}", methods[n].0);
                assert!(worst < 1e-5, "{family} {:?}: {worst:.1e}", methods[n]);
            }
        }
    }
}

#[test]
fn language_models_learn_in_company_too() {
    let backbone = open("gpt2", Some(0.0));
    let graft = |n: usize, method: &str| {
        let adapter = Some(parse(method, &Fields::new()).unwrap());
        let task: Box<dyn Task> = Box::new(CausalLm::default());
        (Graft { name: format!("a{n}"), adapter, seed: n as u64, ..Graft::default() }, task)
    };
    let methods = ["houlsby", "lora[r=4]"];
    let grafts: Vec<_> = methods.iter().enumerate().map(|(n, m)| graft(n, m)).collect();
    let learners = backbone.clone().learners(grafts).unwrap();
    let text = |seed: usize| CausalLm::default().sample(example(seed, 2).ids, &mut |_| 0);
    let batch = Batch { whose: vec![0, 0, 1], ..(0..3).map(text).collect() };
    let mut g = Gradients::new();
    let losses = losses_of_each(&learners.iter().collect::<Vec<_>>(), &batch, &mut g).unwrap();
    for (n, own) in [vec![text(0), text(1)], vec![text(2)]].into_iter().enumerate() {
        let (graft, task) = graft(n, methods[n]);
        let (one, mut of_one) = (backbone.clone().learner(graft, task).unwrap(), Gradients::new());
        let loss = one.examine(&own, Some(&mut of_one)).unwrap().loss.unwrap();
        assert!((losses[n].unwrap() - f64::from(loss)).abs() < 1e-6, "{n}");
        assert!(gradients(&learners[n], &g) == gradients(&one, &of_one), "{n}");
    }
}

const FOUR: &Methods =
    &[("houlsby", 2, false), ("houlsby", 3, true), ("lora[r=4]", 2, false), ("none", 4, false)];

fn trainer(n: usize) -> Trainer {
    Trainer::new(AdamW::new(0.1).clipping(0.5), n as u64)
}
fn seats<'a>(learners: &'a mut [Learner], trainers: &'a mut [Trainer]) -> Vec<Seat<'a>> {
    let both = learners.iter_mut().zip(trainers);
    both.map(|(learner, trainer)| Seat::Learns(Stepping { trainer, learner, lr: 1e-2 })).collect()
}

#[test]
fn steps_are_those_of_each_alone() {
    let backbone = open("bert", Some(0.0));
    let mut learners = together(&backbone, FOUR);
    let mut trainers: Vec<Trainer> = (0..4).map(trainer).collect();
    let mut ones: Vec<Learner> = FOUR.iter().enumerate().map(|(n, m)| alone(&backbone, n, *m)).collect();
    let mut of_ones: Vec<Trainer> = (0..4).map(trainer).collect();
    // some sit out steps, and there are several batches in one
    let steps: [&[&[usize]]; 4] =
        [&[&[0, 0, 1, 2, 3]], &[&[1, 1, 2]], &[&[0, 3], &[3, 3, 1]], &[&[0, 0, 1, 3]]];
    for (k, step) in steps.iter().enumerate() {
        let batches: Vec<(Batch, Vec<Vec<Example>>)> =
            step.iter().map(|whose| examples(FOUR, whose)).collect();
        let mixed: Vec<Batch> = batches.iter().map(|(b, _)| b.clone()).collect();
        let before: Vec<_> = learners.iter().map(weights).collect();
        let done = step_mixed(seats(&mut learners, &mut trainers), &mixed).unwrap();
        for n in 0..4 {
            let own = batches.iter().map(|(_, own)| own[n].iter().cloned().collect::<Batch>());
            let own: Vec<Batch> = own.filter(|b| !b.is_empty()).collect();
            let Some(done) = &done[n] else {
                assert!(
                    own.is_empty() && before[n] == weights(&learners[n]),
                    "step {k}: {n} did not sit still"
                );
                continue;
            };
            let expected = of_ones[n].step(&mut ones[n], &own, 1e-2).unwrap();
            let done = done.as_ref().unwrap();
            assert_eq!((done.labels, of_ones[n].steps()), (expected.labels, trainers[n].steps()));
            assert!((done.loss - expected.loss).abs() < 1e-6, "step {k}: {n}");
            assert!((done.norm / expected.norm - 1.0).abs() < 1e-5, "step {k}: {n}");
            let worst = worst(&weights(&learners[n]), &weights(&ones[n]));
            assert!(worst < 1e-6, "step {k}: {n}: {worst:.1e}");
        }
    }
    assert_eq!(trainers.iter().map(Trainer::steps).collect::<Vec<_>>(), [3, 4, 2, 3]);
}

#[test]
fn who_answers_only_stays_as_it_is() {
    let backbone = open("bert", None);
    let mut all: Vec<Vec<Learner>> = (0..2).map(|_| together(&backbone, FOUR)).collect();
    let mut trainers: Vec<Vec<Trainer>> = (0..2).map(|_| (0..4).map(trainer).collect()).collect();
    let (batch, _) = examples(FOUR, &[0, 0, 1, 1, 2, 3]);
    let before = weights(&all[1][1]);
    step_mixed(seats(&mut all[0], &mut trainers[0]), std::slice::from_ref(&batch)).unwrap();
    let [a, b, c, d] = &mut all[1][..] else { unreachable!() };
    let [of_a, _, of_c, _] = &mut trainers[1][..] else { unreachable!() };
    let stepping = |trainer, learner| Seat::Learns(Stepping { trainer, learner, lr: 1e-2 });
    let seats = vec![stepping(of_a, a), Seat::Answers(b), stepping(of_c, c), Seat::Answers(d)];
    let done = step_mixed(seats, &[batch]).unwrap();
    assert_eq!(done.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true, false]);
    // with dropout as the model has it: those that learn do not see the difference
    for n in [0, 2] {
        assert!(weights(&all[0][n]) == weights(&all[1][n]), "{n}");
    }
    assert!(before == weights(&all[1][1]) && before != weights(&all[0][1]));
}

#[test]
fn one_whose_loss_is_no_number_ends_alone() {
    let backbone = open("bert", Some(0.0));
    let mut learners = together(&backbone, FOUR);
    let mut trainers: Vec<Trainer> = (0..4).map(trainer).collect();
    let (batch, _) = examples(FOUR, &[0, 0, 1, 1, 2, 3]);
    let both = learners.iter_mut().zip(&mut trainers).enumerate();
    let lr = |n| if n == 1 { 1e38 } else { 1e-2 };
    let seats = both.map(|(n, (learner, trainer))| Seat::Learns(Stepping { trainer, learner, lr: lr(n) }));
    step_mixed(seats.collect(), std::slice::from_ref(&batch)).unwrap();
    let done = step_mixed(self::seats(&mut learners, &mut trainers), &[batch]).unwrap();
    let failed: Vec<bool> = done.into_iter().map(|d| d.unwrap().is_err_and(|e| e.has_diverged())).collect();
    assert_eq!(failed, [false, true, false, false]);
    for n in [0, 2, 3] {
        assert_eq!(learners[n].not_finite().unwrap(), None);
    }
}

#[test]
fn what_cannot_learn_together_is_refused() {
    let backbone = open("bert", Some(0.0));
    let (batch, _) = examples(FOUR, &[0, 1, 2, 3]);
    let refused = |learners: &mut [Learner], trainers: &mut [Trainer], batch: &Batch, word: &str| {
        let error =
            step_mixed(seats(learners, trainers), std::slice::from_ref(batch)).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    let mut trainers: Vec<Trainer> = (0..4).map(trainer).collect();
    let mut apart: Vec<Learner> = FOUR.iter().enumerate().map(|(n, m)| alone(&backbone, n, *m)).collect();
    refused(&mut apart, &mut trainers, &batch, "made together");
    let mut all = together(&backbone, FOUR);
    refused(&mut all, &mut trainers, &Batch { whose: vec![], ..batch.clone() }, "who learns from it");
    refused(&mut all, &mut trainers, &Batch { whose: vec![0, 1, 2, 4], ..batch.clone() }, "learner 4");
    refused(
        &mut all,
        &mut trainers,
        &Batch { labels: vec![IGNORED; 4], ..batch.clone() },
        "nothing to learn",
    );
    all[3] = together(&open("bert", None), FOUR).remove(3);
    refused(&mut all, &mut trainers, &batch, "one model");
    let mut all = together(&backbone, FOUR);
    trainers[2].step(&mut alone(&backbone, 0, FOUR[0]), &[Batch::of(&[(&[2, 3], 0)])], 1e-3).unwrap();
    refused(&mut all, &mut trainers, &batch, "same batches");
    let full = Backbone::open_to_train(model("bert"), &Device::cpu(1).unwrap(), Opening::default()).unwrap();
    assert!(full.learners(vec![]).is_err());
}
