//! Training several tasks at once: a step from one mixed batch of three tasks (classification in two
//! and in 77 classes, tagging), each with an adapter of its own, beside the three steps that they
//! take separately; and with one adapter for all. On the shape of MiniLM (6 layers of 384 channels)
//! with random weights: forward, backward and optimiser.
//!
//! `cargo bench -p engraft --bench tasks [-- FILTER]`; `ENGRAFT_THREADS` sets the threads
//! (default: all cores). The numbers of a method are taken in turn, and the ratios are medians of
//! the rounds'.
use engraft::{
    AdamW, Device,
    adapters::{Fields, parse},
    engine::checkpoint::{TensorData, save},
    learner::{Backbone, Graft, Learner, NewPart, Opening},
    models::{Holding, load_frozen},
    run::{
        mixed::{Seat, step_mixed},
        step::{Stepping, Trainer},
    },
    tasks::{Classification, Tagging, Task},
    text::{
        batch::Batch,
        example::{Example, Reads},
    },
};
use std::{path::Path, time::Instant};

/// Sequences of each task in a step.
const SEQUENCES: usize = 16;
/// Tokens of a sequence of each task.
const TOKENS: [usize; 3] = [28, 16, 24];
const ROUNDS: usize = 15;

/// Reproducible values around 0.
fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut s = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = move || {
        s = s.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (s >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..n).map(|_| 0.1 * uniform()).collect()
}
/// A BERT of MiniLM's shape with random weights.
fn model(dir: &Path, device: &Device) -> Backbone {
    let config = serde_json::json!({
        "model_type": "bert", "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
        "intermediate_size": 1536, "vocab_size": 2000,
    });
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let shapes = load_frozen(dir, &Device::null(1), Holding::default()).unwrap().model;
    let one = |(i, (name, t)): (usize, &(String, &engraft::engine::Tensor))| {
        let values = match name.ends_with("LayerNorm.weight") {
            true => vec![1.0; t.elements()],
            false => noise(i as u64, t.elements()),
        };
        (name.clone(), TensorData::f32(&values, t.shape()))
    };
    let tensors: Vec<_> = shapes.named().iter().enumerate().map(one).collect();
    save(&dir.join("model.safetensors"), &tensors).unwrap();
    Backbone::open(dir, device, Opening { dropout: Some(0.0), ..Opening::default() }).unwrap()
}
fn task(n: usize) -> Box<dyn Task> {
    let names = |count: usize| (0..count).map(|i| format!("class {i}"));
    match n {
        0 => Box::new(Classification::new(names(2)).unwrap()),
        1 => Box::new(Classification::new(names(77)).unwrap()),
        _ => Box::new(Tagging::new(names(13)).unwrap()),
    }
}
fn graft(method: &str, n: usize) -> Graft {
    let adapter = Some(parse(method, &Fields::new()).unwrap());
    Graft { name: format!("a{n}"), adapter, seed: n as u64, ..Graft::default() }
}
/// A learner for each task.
fn apart(method: &str, backbone: &Backbone) -> Vec<Learner> {
    let one = |n: usize| {
        let task = task(n);
        let head = task.head(backbone.model().info(), false);
        (Graft { head, ..graft(method, n) }, task)
    };
    backbone.clone().learners((0..3).map(one)).unwrap()
}
/// One for all of them.
fn shared(method: &str, backbone: &Backbone) -> Vec<Learner> {
    let one = |n: usize| {
        let task = task(n);
        let head = task.head(backbone.model().info(), false);
        NewPart { name: format!("t{n}"), head, task, weight: 1.0 }
    };
    vec![backbone.clone().learner_of(graft(method, 0), (0..3).map(one).collect()).unwrap()]
}
/// The examples of a task in a step.
fn examples(n: usize) -> Vec<Example> {
    let ids = |i: usize| (0..TOKENS[n]).map(|t| ((7 * t + 31 * i + n) % 1999) as u32).collect::<Vec<_>>();
    let one = |i: usize| match n {
        2 => {
            let rows: Vec<usize> = (1..TOKENS[n] - 1).collect();
            let labels = rows.iter().map(|row| ((row + i) % 13) as u32).collect();
            Example::new(ids(i), Reads::These(rows), labels)
        }
        _ => Example::new(ids(i), Reads::Summary, vec![(i % 2) as u32]),
    };
    (0..SEQUENCES).map(one).collect()
}
/// Seconds of the steps of some learners from one batch.
fn step(learners: &mut [Learner], trainers: &mut [Trainer], batch: &Batch) -> f64 {
    let began = Instant::now();
    let both = learners.iter_mut().zip(trainers);
    let seats = both.map(|(learner, trainer)| Seat::Learns(Stepping { trainer, learner, lr: 1e-4 }));
    for done in step_mixed(seats.collect(), std::slice::from_ref(batch)).unwrap() {
        done.unwrap().unwrap();
    }
    began.elapsed().as_secs_f64()
}
fn median(mut v: Vec<f64>) -> f64 {
    v.sort_by(f64::total_cmp);
    v[v.len() / 2]
}

fn main() {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let threads = std::env::var("ENGRAFT_THREADS").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let device = Device::cpu(threads).unwrap();
    let dir = std::env::temp_dir().join(format!("engraft-tasks-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let backbone = model(&dir, &device);
    let trainers = |n: usize| -> Vec<Trainer> { (0..n).map(|_| Trainer::new(AdamW::new(0.01), 1)).collect() };
    let all: Batch = (0..3).flat_map(examples).collect();
    let all = Batch { whose: (0..3).flat_map(|n| vec![n; SEQUENCES]).collect(), ..all };
    let each: Vec<Batch> =
        (0..3).map(|n| Batch { whose: vec![0; SEQUENCES], ..examples(n).into_iter().collect() }).collect();
    for method in ["pfeiffer", "houlsby", "lora"] {
        if filter.as_ref().is_some_and(|f| !method.contains(f.as_str())) {
            continue;
        }
        let (mut mixed, mut of_mixed) = (apart(method, &backbone), trainers(3));
        let (mut alone, mut of_alone) = (apart(method, &backbone), trainers(3));
        let (mut one, mut of_one) = (shared(method, &backbone), trainers(1));
        let mut times: [Vec<f64>; 3] = Default::default();
        for round in 0..=ROUNDS {
            let separate = each.iter().enumerate().map(|(n, batch)| {
                step(std::slice::from_mut(&mut alone[n]), std::slice::from_mut(&mut of_alone[n]), batch)
            });
            let separate: f64 = separate.sum();
            let found = [separate, step(&mut mixed, &mut of_mixed, &all), step(&mut one, &mut of_one, &all)];
            if round > 0 {
                // the first one touches its memory for the first time
                times.iter_mut().zip(found).for_each(|(times, t)| times.push(t));
            }
        }
        for (name, t) in ["separately", "at once", "one adapter"].into_iter().zip(&times) {
            let ratio = median(t.iter().zip(&times[0]).map(|(t, separate)| t / separate).collect());
            println!("{method:<10} {name:<12} {:>8.1} ms   x {ratio:.3}", 1e3 * median(t.clone()));
        }
    }
    drop(backbone);
    std::fs::remove_dir_all(&dir).unwrap();
}
