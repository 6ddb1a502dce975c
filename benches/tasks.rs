//! Training several tasks at once: a step from one mixed batch of three tasks (classification in two
//! and in 77 classes, tagging), each with an adapter of its own, beside the three steps that they
//! take separately; and with one adapter for all. On the shape of MiniLM (6 layers of 384 channels)
//! with random weights: forward, backward and optimiser.
//!
//! `cargo bench -p engraft --bench tasks [-- FILTER]`; `ENGRAFT_THREADS` sets the threads
//! (default: all cores). The numbers of a method are taken in turn, and the ratios are medians of
//! the rounds'.
mod minilm_shape;

use engraft::{
    AdamW, Device,
    adapters::{Fields, parse},
    learner::{Backbone, Graft, Learner, NewPart},
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
use minilm_shape::model;
use std::time::Instant;

/// Sequences of each task in a step.
const SEQUENCES: usize = 16;
/// Tokens of a sequence of each task.
const TOKENS: [usize; 3] = [28, 16, 24];
const ROUNDS: usize = 15;

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
