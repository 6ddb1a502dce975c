//! Many saved adapters on one model: how long they take to load, what each of them holds, and what
//! it costs to ask them.
//!
//! `cargo bench -p engraft --bench serving [-- FILTER]`; `ENGRAFT_THREADS` sets the threads
//! (default: all cores). A model of MiniLM's shape (6 layers of 384 channels) with random weights;
//! `pfeiffer` adapters (reduction factor 16) and `lora`, each with a head of two classes. They are
//! loaded from as many directories, which the system has at hand. Printed are, for 100 and 1,000
//! adapters as they are stored (f32, mapped) and held in bf16: seconds, the ledger's bytes for
//! each, how much the process has grown, and a batch of 32 texts of 64 tokens with an adapter each
//! beside 32 with one.
mod minilm_shape;

use engraft::{
    Device, Storage,
    adapters::{Fields, parse},
    learner::{Backbone, Graft, Learner},
    reports::process::rss_bytes,
    serving::Bank,
    tasks::{Classification, Task},
    text::{
        batch::Batch,
        example::{Example, Reads},
    },
};
use minilm_shape::model;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

const COUNTS: [usize; 2] = [100, 1000];
const TEXTS: usize = 32;
const TOKENS: usize = 64;
const ROUNDS: usize = 5;

/// Saves as many adapters with heads.
fn saved(method: &str, n: usize, backbone: &Backbone, dir: &Path) -> Vec<(String, PathBuf)> {
    let one = |i: usize| {
        let (name, out) = (format!("a{i}"), dir.join(format!("{method}-{i}")));
        if !out.exists() {
            let task = Classification::new(["no", "yes"]).unwrap();
            let head = task.head(backbone.model().info(), true);
            let adapter = Some(parse(method, &Fields::new()).unwrap());
            let graft = Graft { name: name.clone(), adapter, head, seed: i as u64, ..Graft::default() };
            backbone.clone().learner(graft, Box::new(task)).unwrap().save(&out).unwrap();
        }
        (name, out)
    };
    (0..n).map(one).collect()
}
/// Seconds of a batch in which text i has adapter i mod n.
fn asked(bank: &Bank, n: usize) -> f64 {
    let batch: Batch = (0..TEXTS)
        .map(|i| {
            Example::new((0..TOKENS).map(|t| ((7 * t + i) % 1999) as u32).collect(), Reads::Summary, vec![])
        })
        .collect();
    let of: Vec<Arc<Learner>> = (0..TEXTS).map(|i| bank.get(&format!("a{}", i % n)).unwrap()).collect();
    let mut times: Vec<f64> = (0..=ROUNDS)
        .map(|_| {
            let began = Instant::now();
            Bank::answers(&of, &batch).unwrap();
            began.elapsed().as_secs_f64()
        })
        .skip(1)
        .collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}

fn main() {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let threads = std::env::var("ENGRAFT_THREADS").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let device = Device::cpu(threads).unwrap();
    let dir = std::env::temp_dir().join(format!("engraft-serving-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let backbone = model(&dir, &device);
    for method in ["pfeiffer", "lora"] {
        if filter.as_ref().is_some_and(|f| !method.contains(f.as_str())) {
            continue;
        }
        for n in COUNTS {
            let named = saved(method, n, &backbone, &dir);
            for (title, storage) in [("f32", Storage::F32), ("bf16", Storage::Bf16)] {
                let bank = Bank::new(backbone.clone());
                let bank = bank.storing(storage).unwrap();
                let (ledger, rss) = (device.ledger().usage().live_total(), rss_bytes().unwrap_or(0));
                let began = Instant::now();
                bank.load_all(named.clone()).unwrap();
                let seconds = began.elapsed().as_secs_f64();
                let each = (device.ledger().usage().live_total() - ledger) / n;
                let grown = rss_bytes().unwrap_or(0).saturating_sub(rss) / n as u64;
                let (one, all) = (asked(&bank, 1), asked(&bank, TEXTS));
                println!(
                    "{method:<9} {n:>5} in {title:<4} {seconds:>7.3} s  {:>6.2} ms each  ledger {:>7.1} kB  process {:>7.1} kB  \
                     32 texts: 1 adapter {:>6.1} ms, 32 {:>6.1} ms (x {:.2})",
                    1e3 * seconds / n as f64,
                    each as f64 / 1e3,
                    grown as f64 / 1e3,
                    1e3 * one,
                    1e3 * all,
                    all / one
                );
            }
        }
    }
    drop(backbone);
    std::fs::remove_dir_all(&dir).unwrap();
}
