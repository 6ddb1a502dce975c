//! Passes of short launches: `kernels/src/team` beside rayon's `par_iter` on a pool of as many threads.
//!
//! `cargo bench -p engraft-workspace --bench team`; `ENGRAFT_THREADS` sets the threads (default: all cores). A launch is
//! eight tasks, each on floats of its own; between two launches the thread that makes them may work alone for a while, as
//! it does between the kernels of a training step.
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rayon::prelude::*;
use std::{
    sync::Mutex,
    time::{Duration, Instant},
};
use team::Team;

#[path = "../kernels/src/team/mod.rs"]
#[allow(dead_code, unused_imports)]
mod team;

const LAUNCHES: usize = 100;
const TASKS: usize = 8;

/// What the tasks of a launch work on.
struct Pieces(Vec<Mutex<Vec<f32>>>);
impl Pieces {
    fn new(floats: usize) -> Pieces {
        Pieces((0..TASKS).map(|_| Mutex::new(vec![1.0; floats / TASKS])).collect())
    }
    fn task(&self, i: usize) {
        self.0[i].lock().unwrap().iter_mut().for_each(|v| *v = *v * 0.999 + 0.001);
    }
}
/// A pass: `launch` is called again and again, with `alone` between two calls.
fn pass(alone: Duration, mut launch: impl FnMut()) {
    for _ in 0..LAUNCHES {
        launch();
        let start = Instant::now();
        while start.elapsed() < alone {
            std::hint::spin_loop();
        }
    }
}

fn passes(c: &mut Criterion) {
    let threads = std::env::var("ENGRAFT_THREADS").ok().and_then(|t| t.parse().ok()).unwrap_or(0);
    let team = Team::new(threads).expect("a team");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
    for alone in [0, 5, 50].map(Duration::from_micros) {
        let mut group = c.benchmark_group(format!("{LAUNCHES} launches, {alone:?} between"));
        for floats in [8 << 10, 64 << 10, 512 << 10] {
            let pieces = Pieces::new(floats);
            let one_thread = || pass(alone, || (0..TASKS).for_each(|i| pieces.task(i)));
            group.bench_function(BenchmarkId::new("one thread", floats), |b| b.iter(one_thread));
            let by_team = || team.install(|| pass(alone, || team.each(TASKS, &|i, _| pieces.task(i))));
            group.bench_function(BenchmarkId::new("team", floats), |b| b.iter(by_team));
            let launch = || (0..TASKS).into_par_iter().for_each(|i| pieces.task(i));
            let by_rayon = || pool.install(|| pass(alone, launch));
            group.bench_function(BenchmarkId::new("par_iter", floats), |b| b.iter(by_rayon));
        }
        group.finish();
    }
}
criterion_group! {
    name = all;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2));
    targets = passes
}
criterion_main!(all);
