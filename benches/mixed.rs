//! Training on mixed batches: 32 sequences of 64 tokens, each with one of 1, 8 or 32 adapters and
//! its head, on the shape of MiniLM (6 layers of 384 channels) with random weights: forward and
//! backward, without the optimiser, whose share grows with its parameters.
//!
//! `cargo bench -p engraft --bench mixed [-- FILTER]`; `ENGRAFT_THREADS` sets the threads
//! (default: all cores). The three numbers of a method are taken in turn, and their ratios to one
//! adapter are printed at the end.
mod minilm_shape;

use engraft::{
    Device,
    adapters::{Fields, parse},
    engine::Gradients,
    learner::{Backbone, Graft, Learner, losses_of_each},
    tasks::{Classification, Task},
    text::{
        batch::Batch,
        example::{Example, Reads},
    },
};
use minilm_shape::model;
use std::time::Instant;

const SEQUENCES: usize = 32;
const TOKENS: usize = 64;
const ADAPTERS: [usize; 3] = [1, 8, 32];
const ROUNDS: usize = 9;

/// So many adapters with heads, all of which train.
fn learners(method: &str, n: usize, backbone: &Backbone) -> Vec<Learner> {
    let one = |i: usize| {
        let task = Classification::new(["no", "yes"]).unwrap();
        let head = task.head(backbone.model().info(), false);
        let adapter = Some(parse(method, &Fields::new()).unwrap());
        let graft = Graft { name: format!("a{i}"), adapter, head, seed: i as u64, ..Graft::default() };
        (graft, Box::new(task) as Box<dyn Task>)
    };
    backbone.clone().learners((0..n).map(one)).unwrap()
}
/// Seconds of a forward and a backward pass in which the sequences are shared out evenly.
fn pass(learners: &[Learner]) -> f64 {
    let ids: Vec<u32> = (0..TOKENS as u32).map(|t| 7 * t % 1999).collect();
    let texts = (0..SEQUENCES).map(|i| Example::new(ids.clone(), Reads::Summary, vec![i as u32 % 2]));
    let whose = (0..SEQUENCES).map(|i| i * learners.len() / SEQUENCES).collect();
    let batch = Batch { whose, ..texts.collect() };
    let began = Instant::now();
    losses_of_each(&learners.iter().collect::<Vec<_>>(), &batch, &mut Gradients::new()).unwrap();
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
    let dir = std::env::temp_dir().join(format!("engraft-mixed-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let backbone = model(&dir, &device);
    for method in ["pfeiffer", "houlsby", "lora"] {
        if filter.as_ref().is_some_and(|f| !method.contains(f.as_str())) {
            continue;
        }
        let sets = ADAPTERS.map(|n| learners(method, n, &backbone));
        let mut times = vec![vec![]; sets.len()];
        for round in 0..=ROUNDS {
            for (learners, times) in sets.iter().zip(&mut times) {
                let t = pass(learners);
                if round > 0 {
                    times.push(t); // the first one touches its memory for the first time
                }
            }
        }
        for (i, n) in ADAPTERS.iter().enumerate() {
            let ratio = median(times[i].iter().zip(&times[0]).map(|(t, one)| t / one).collect());
            let ms = 1e3 * median(times[i].clone());
            println!("{method:<10} {n:>3} adapters {ms:>8.1} ms   x {ratio:.3}");
        }
    }
    drop(backbone);
    std::fs::remove_dir_all(&dir).unwrap();
}
