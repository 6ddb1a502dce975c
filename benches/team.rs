//! Passes of short launches: `kernels/src/team` beside rayon's `par_iter` on a pool of as many
//! threads.
//!
//! `cargo bench -p engraft-workspace --bench team`; `ENGRAFT_THREADS` sets the threads (default:
//! all cores). A launch is eight tasks, each on floats of its own; between two launches the thread
//! that makes them works alone for a while, as it does between the kernels of a training step.
//! Passes run in turn, and what is printed is the time at the lower decile of each: on a machine
//! that is shared the others measure who else was there.
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
const ROUNDS: usize = 300;

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
fn pass(alone: Duration, launch: impl Fn()) {
    for _ in 0..LAUNCHES {
        launch();
        let start = Instant::now();
        while start.elapsed() < alone {
            std::hint::spin_loop();
        }
    }
}

fn main() {
    let threads = std::env::var("ENGRAFT_THREADS").ok().and_then(|t| t.parse().ok()).unwrap_or(0);
    let team = Team::new(threads).expect("a team");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
    println!("µs for a launch, {} threads; between launches one works alone for so many µs", team.threads());
    println!(
        "{:>8} {:>8} {:>11} {:>8} {:>9} {:>14}",
        "floats", "alone", "one thread", "team", "par_iter", "team/par_iter"
    );
    for floats in [8 << 10, 64 << 10, 512 << 10] {
        for alone in [0, 5, 50].map(Duration::from_micros) {
            let pieces = Pieces::new(floats);
            let one = || pass(alone, || (0..TASKS).for_each(|i| pieces.task(i)));
            let by_team = || team.install(|| pass(alone, || team.each(TASKS, &|i, _| pieces.task(i))));
            let launch = || (0..TASKS).into_par_iter().for_each(|i| pieces.task(i));
            let by_rayon = || pool.install(|| pass(alone, launch));
            let mut times = [(); 3].map(|_| vec![]);
            for _ in 0..ROUNDS {
                for (f, times) in
                    [&one as &(dyn Fn() + Sync), &by_team, &by_rayon].into_iter().zip(&mut times)
                {
                    let start = Instant::now();
                    f();
                    times.push(start.elapsed());
                }
            }
            let [one, team, rayon] = times.map(|mut t| {
                t.sort_unstable();
                t[ROUNDS / 10].saturating_sub(alone * LAUNCHES as u32).as_secs_f64() * 1e6 / LAUNCHES as f64
            });
            let (alone, ratio) = (alone.as_micros(), team / rayon);
            println!("{floats:>8} {alone:>8} {one:>11.2} {team:>8.2} {rayon:>9.2} {ratio:>14.2}");
        }
    }
}
