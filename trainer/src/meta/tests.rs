use super::{
    episodes::{Classes, Episodes, Sets, Shape},
    inner::{Inner, Rule},
    outer::{Algorithm, Drawn, Meta, Outer, Tasks, Weights},
    protocol::Scores,
};
use crate::{
    learner::{Backbone, Graft, Learner, Opening},
    run::step::Trainer,
    tasks::{Classification, Task},
    text::{
        batch::Batch,
        example::{Example, IGNORED, Reads},
        examples::Examples,
    },
};
use engraft_adapters::BnConfig;
use engraft_engine::Device;
use std::collections::{BTreeMap, BTreeSet};

fn learner(threads: usize) -> Learner {
    let model: std::path::PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "..", "tests", "fixtures", "bert", "model"].iter().collect();
    let backbone = Backbone::open(model, &Device::cpu(threads).unwrap(), Opening::default()).unwrap();
    let task = Classification::new(["a", "b"]).unwrap();
    let head = task.head(backbone.model().info(), true);
    let adapter = Some(BnConfig::houlsby().into());
    let graft = Graft { name: "meta".into(), adapter, head, seed: 3, ..Graft::default() };
    backbone.learner(graft, Box::new(task)).unwrap()
}
fn batch(seed: u32) -> Batch {
    let one = |k: u32| {
        let ids = (0..4 + k % 3).map(|i| 1 + (seed * 7 + k * 5 + i * 11) % 50).collect();
        Example::new(ids, Reads::Summary, vec![(seed + k) % 2])
    };
    (0..4).map(one).collect()
}
fn inner(rule: Rule, steps: usize) -> Inner {
    Inner { rule, steps, lr: 1e-2, beta2: 0.999, epsilon: 1e-8, clip: 1.0 }
}
fn bits(weights: &Weights) -> Vec<u32> {
    weights.iter().flatten().map(|x| x.to_bits()).collect()
}

#[test]
fn reptile_on_one_task_with_a_share_of_one_is_training() {
    let (inner, steps) = (inner(Rule::Adam, 4), [1, 2, 3, 4].map(batch));
    let outer = Outer { algorithm: Algorithm::Reptile, steps: 9, rate: 1.0 };
    let mut learners = vec![learner(1)];
    let mut meta = Meta { weights: learners[0].adapter_weights().unwrap(), taken: 0 };
    let before = meta.weights.clone();
    let task = Drawn { learner: 0, support: steps.to_vec(), query: batch(5) };
    let loss = meta.step(&mut learners, &[task], (&outer, &inner), 11).unwrap();
    let (mut plain, mut trainer) = (learner(1), Trainer::new(inner.adam(), 11));
    plain.clear_heads().unwrap();
    let mut last = None;
    for batch in steps {
        last = Some(trainer.step(&mut plain, &[batch], inner.lr).unwrap());
    }
    assert_eq!(bits(&meta.weights), bits(&plain.adapter_weights().unwrap()));
    assert_ne!(bits(&meta.weights), bits(&before));
    assert_eq!((loss, meta.taken), (last.unwrap().loss, 1));
    // the second step goes only most of the way, and forgets the head
    let task = Drawn { learner: 0, support: vec![batch(1)], query: batch(5) };
    let (one, from) = (super::inner::Inner { steps: 1, ..inner }, meta.weights.clone());
    meta.step(&mut learners, &[task], (&outer, &one), 11).unwrap();
    let there = learners[0].adapter_weights().unwrap();
    for ((w, from), there) in
        meta.weights.iter().flatten().zip(from.iter().flatten()).zip(there.iter().flatten())
    {
        let want = f64::from(*from) / 9.0 + f64::from(*there) * 8.0 / 9.0;
        assert!((f64::from(*w) - want).abs() <= 1e-6 * want.abs().max(1e-3));
    }
}

#[test]
fn steps_of_maml_are_those_of_its_formula() {
    // loss ½ ‖θ - a‖²: k steps at η lead to a + (1 - η)^k (θ - a)
    let (eta, k) = (0.1f64, 3);
    let tasks: [([f64; 2], [f64; 2]); 2] = [([1.0, -2.0], [1.5, -1.0]), ([0.5, 4.0], [0.0, 3.0])];
    let from = [0.25f64, -0.75];
    let there = |a: &[f64; 2], x: [f64; 2]| [0, 1].map(|i| a[i] + (1.0 - eta).powi(k) * (x[i] - a[i]));
    for (algorithm, rate) in [(Algorithm::Reptile, 0.5), (Algorithm::Fomaml, 0.2)] {
        let outer = Outer { algorithm, steps: 4, rate };
        let mut meta = Meta { weights: vec![from.map(|x| x as f32).to_vec()], taken: 0 };
        let mut want = from;
        for step in 0..3 {
            let inner = |weights: &Weights, _: u64, (a, q): &([f64; 2], [f64; 2])| {
                let mut x = [weights[0][0], weights[0][1]].map(f64::from);
                for _ in 0..k {
                    x = [0, 1].map(|i| x[i] - eta * (x[i] - a[i]));
                }
                let found = if algorithm == Algorithm::Reptile { x } else { [x[0] - q[0], x[1] - q[1]] };
                Ok((0.0, vec![found.map(|x| x as f32).to_vec()]))
            };
            meta.follow(&tasks, &outer, inner).unwrap();
            let ends = tasks.map(|(a, q)| (there(&a, want), q));
            want = [0, 1].map(|i| match algorithm {
                Algorithm::Reptile => {
                    let epsilon = rate * (1.0 - f64::from(step) / 4.0);
                    want[i] + epsilon * ((ends[0].0[i] + ends[1].0[i]) / 2.0 - want[i])
                }
                Algorithm::Fomaml => want[i] - rate * ends.iter().map(|(x, q)| x[i] - q[i]).sum::<f64>(),
            });
            for (got, want) in meta.weights[0].iter().zip(want) {
                assert!((f64::from(*got) - want).abs() < 1e-6, "{algorithm} {step}: {got} {want}");
            }
        }
        // where a task leaves the numbers nothing changes
        let before = meta.clone();
        let bad = meta.follow(&tasks, &outer, |w, _, _| Ok((f64::NAN, w.clone())));
        assert!(bad.unwrap_err().has_diverged() && meta == before);
    }
}

#[test]
fn maml_on_a_model_goes_down_the_gradient_at_the_end() {
    let (mut learners, sgd) = (vec![learner(1)], inner(Rule::Sgd, 2));
    let outer = Outer { algorithm: Algorithm::Fomaml, steps: 3, rate: 0.3 };
    let start = learners[0].adapter_weights().unwrap();
    let mut meta = Meta { weights: start.clone(), taken: 0 };
    let task = |n: u32| Drawn { learner: 0, support: vec![batch(n), batch(n + 1)], query: batch(n + 2) };
    let tasks = [task(1), task(7)];
    let loss = meta.step(&mut learners, &tasks, (&outer, &sgd), 5).unwrap();
    let (mut want, mut losses) = (start.clone(), 0.0);
    for (n, task) in tasks.iter().enumerate() {
        let mut one = learner(1);
        one.clear_heads().unwrap();
        let seed = 5 ^ (n as u64) << 16;
        sgd.learn(&mut one, &task.support, seed).unwrap();
        let pass = engraft_engine::Pass::train(seed, 2);
        let (g, loss) = super::inner::gradients(&one, &task.query, pass).unwrap();
        losses += loss / 2.0;
        for (w, g) in want.iter_mut().flatten().zip(one.adapter_gradients(&g).unwrap().iter().flatten()) {
            *w -= 0.3 * g;
        }
    }
    assert!((loss - losses).abs() < 1e-12);
    let far = meta.weights.iter().flatten().zip(want.iter().flatten()).map(|(a, b)| (a - b).abs());
    assert!(far.fold(0f32, f32::max) < 1e-6);
    assert_ne!(bits(&meta.weights), bits(&start));
    // the same with any number of threads
    let mut other = Meta { weights: start, taken: 0 };
    other.step(&mut [learner(3)], &tasks, (&outer, &sgd), 5).unwrap();
    assert_eq!(bits(&other.weights), bits(&meta.weights));
}

#[test]
fn plain_descent_is_plain() {
    let (mut one, mut two) = (learner(1), learner(1));
    let free = Inner { clip: 0.0, ..inner(Rule::Sgd, 1) };
    let before = one.adapter_weights().unwrap();
    let pass = engraft_engine::Pass::train(4, 0);
    let (g, loss) = super::inner::gradients(&one, &batch(1), pass).unwrap();
    let g = one.adapter_gradients(&g).unwrap();
    assert_eq!(free.learn(&mut one, &[batch(1)], 4).unwrap(), loss);
    let after = one.adapter_weights().unwrap();
    let all = before.iter().flatten().zip(g.iter().flatten()).zip(after.iter().flatten());
    all.for_each(|((w, g), after)| assert!((w - 1e-2 * g - after).abs() < 1e-7));
    // clipped to a norm of its gradients, the step is shorter
    let clipped = Inner { clip: 1e-3, ..free };
    clipped.learn(&mut two, &[batch(1)], 4).unwrap();
    let length = |a: &Weights, b: &Weights| {
        a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
    };
    let (far, near) = (length(&after, &before), length(&two.adapter_weights().unwrap(), &before));
    assert!(near < far && near <= 1.1e-5, "{near} {far}");
    let empty = Batch { labels: vec![IGNORED; 4], ..batch(1) };
    assert!(free.learn(&mut one, &[empty], 4).is_err());
    assert!(one.set_adapter_weights(&before[1..]).is_err());
    assert!(one.set_adapter_weights(&[before.clone(), before].concat()).is_err());
}

fn classes(counts: &[usize]) -> Examples {
    let of = |(class, n): (usize, &usize)| vec![class as u32; *n];
    let labels: Vec<u32> = counts.iter().enumerate().flat_map(of).collect();
    labels.iter().map(|l| Example::new(vec![*l, 7], Reads::Summary, vec![*l])).collect()
}

#[test]
fn episodes_are_fair_and_ask_for_what_was_not_shown() {
    let examples = classes(&[6; 5]);
    let (shape, all) = (Shape { ways: 3, shots: 2, queries: 3 }, Classes::of(&examples).unwrap());
    let (mut classes_drawn, mut shown) = (BTreeMap::new(), BTreeMap::new());
    let rounds = 2000;
    for number in 0..rounds {
        let e = all.episode(shape, 5, number).unwrap();
        assert_eq!((e.support.len(), e.query.len()), (6, 9));
        let places: BTreeSet<usize> = e.support.iter().chain(&e.query).map(|(place, _)| *place).collect();
        assert_eq!(places.len(), 15, "no example twice");
        let mut labels = BTreeMap::<u32, BTreeSet<u32>>::new();
        for (place, label) in e.support.iter().chain(&e.query) {
            labels.entry(*label).or_default().insert(examples.get(*place).labels[0]);
        }
        assert!(labels.keys().eq(&[0, 1, 2]) && labels.values().all(|own| own.len() == 1), "{labels:?}");
        for (label, own) in labels {
            *classes_drawn.entry((label, own.into_iter().next().unwrap())).or_insert(0u64) += 1;
        }
        e.support.iter().for_each(|(place, _)| *shown.entry(*place).or_insert(0u64) += 1);
    }
    // each class as often in each place, each example as often: within five standard deviations
    let fair = |counts: &BTreeMap<_, u64>, p: f64| {
        let (mean, s) = (rounds as f64 * p, (rounds as f64 * p * (1.0 - p)).sqrt());
        counts.values().all(|n| (*n as f64 - mean).abs() < 5.0 * s)
    };
    assert!(classes_drawn.len() == 15 && fair(&classes_drawn, 0.2), "{classes_drawn:?}");
    let shown: BTreeMap<(u32, u32), u64> = shown.into_iter().map(|(k, n)| ((k as u32, 0), n)).collect();
    assert!(shown.len() == 30 && fair(&shown, 0.2), "{shown:?}");
    assert_eq!(all.episode(shape, 5, 8).unwrap(), all.episode(shape, 5, 8).unwrap());
    assert_ne!(all.episode(shape, 5, 8).unwrap(), all.episode(shape, 6, 8).unwrap());
    for shape in [Shape { ways: 6, ..shape }, Shape { queries: 5, ..shape }] {
        assert!(all.episode(shape, 5, 0).is_err());
    }
    let e = all.episode(shape, 5, 8).unwrap();
    let batch = all.batch(&e.query);
    assert_eq!(batch.labels, e.query.iter().map(|(_, label)| *label).collect::<Vec<_>>());
}

#[test]
fn classes_are_divided_and_sampled() {
    let examples = classes(&[6, 2, 6, 6, 6]);
    let all = Classes::of(&examples).unwrap();
    assert_eq!(all.support(3, 1, 0).unwrap_err(), (1, 2));
    let few = all.support(2, 1, 0).unwrap();
    let count = |set: &Examples| {
        let mut counts = BTreeMap::new();
        set.iter().for_each(|e| *counts.entry(e.labels[0]).or_insert(0) += 1);
        counts
    };
    assert!(count(&few).values().all(|n| *n == 2) && few.len() == 10);
    assert_eq!(few, all.support(2, 1, 0).unwrap());
    assert_ne!(few, all.support(2, 1, 1).unwrap());
    let all = all.with_at_least(5);
    assert_eq!(all.len(), 4);
    let (seen, unseen) = all.clone().split(2, 9);
    let names = ["a", "b", "c", "d", "e"].map(String::from);
    let of = |c: &Classes<'_>| c.names(&names).cloned().collect::<BTreeSet<String>>();
    assert!((seen.len(), unseen.len()) == (2, 2) && of(&seen).is_disjoint(&of(&unseen)));
    assert_eq!(of(&unseen), of(&all.clone().split(2, 9).1));
    let other = classes(&[3; 5]);
    assert_eq!(of(&unseen.like(Classes::of(&other).unwrap())), of(&unseen));
    let several: Examples = [Example::new(vec![1, 2], Reads::All, vec![0, 1])].into_iter().collect();
    assert!(Classes::of(&several).is_err());
}

#[test]
fn tasks_are_drawn_by_the_step() {
    let examples = classes(&[6; 5]);
    let shape = Shape { ways: 2, shots: 1, queries: 2 };
    let episodes = Episodes { classes: Classes::of(&examples).unwrap(), shape, tasks: 3, seed: 1 };
    let drawn = episodes.draw(4).unwrap();
    assert_eq!((drawn.len(), drawn[0].support[0].len(), drawn[0].query.len()), (3, 2, 4));
    assert!(drawn == episodes.draw(4).unwrap() && drawn != episodes.draw(5).unwrap());
    // of data sets: some of them, and what is asked for is none of what is learned
    let text = |n: usize, i: usize| Example::new(vec![(100 * n + i) as u32], Reads::Summary, vec![0]);
    for (count, learned, asked) in [(20, 12, 4), (9, 8, 1), (5, 4, 1), (3, 2, 1), (2, 1, 1)] {
        let of_each = (0..4).map(|n| (0..count).map(|i| text(n, i)).collect()).collect();
        let sets = Sets { of_each, tasks: 2, batches: 3, size: 4, seed: 1 };
        let mut whose = BTreeSet::new();
        for step in 0..20 {
            let drawn = sets.draw(step).unwrap();
            assert!(drawn.len() == 2 && drawn[0].learner != drawn[1].learner);
            for one in &drawn {
                whose.insert(one.learner);
                let mut ids: Vec<u32> = one.support.iter().flat_map(|b| b.input.ids.clone()).collect();
                assert_eq!((ids.len(), one.query.len()), (learned, asked), "{count}");
                ids.extend(&one.query.input.ids);
                assert!(ids.iter().all(|id| *id as usize / 100 == one.learner));
                assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), learned + asked, "none twice");
            }
            assert_eq!(drawn, sets.draw(step).unwrap());
        }
        assert_eq!(whose.len(), 4);
    }
}

#[test]
fn scores_have_an_interval() {
    let s = Scores::of(vec![0.8, 0.9, 0.7, 0.8]);
    assert!((s.mean - 0.8).abs() < 1e-12);
    let deviation = (0.02f64 / 3.0).sqrt();
    assert!((s.deviation.unwrap() - deviation).abs() < 1e-12);
    assert!((s.interval.unwrap() - 1.96 * deviation / 2.0).abs() < 1e-12);
    assert_eq!((Scores::of(vec![0.5]).deviation, Scores::of(vec![0.5]).interval), (None, None));
}
