//! How the threads of a pass hand launches over (`src/team/handshake.rs`, `shares.rs`), run by loom
//! through all orders in which the threads and their memory accesses can follow one another, up to
//! a number of preemptions.
//!
//! The sources are compiled here once more, with loom's atomics, locks and threads as their `sync`.
//! What a launch reads and writes is in loom's cells: an access that is not ordered with another
//! one to the same cell fails the test, and so does a thread that is never woken.
use handshake::Handshake;
use loom::{cell::UnsafeCell, sync::Arc, thread};
use shares::Shares;

#[path = "../src/team/handshake.rs"]
mod handshake;
#[path = "../src/team/shares.rs"]
#[allow(dead_code)]
mod shares;
mod sync {
    pub(super) use loom::sync::{
        Condvar, Mutex,
        atomic::{AtomicPtr, AtomicU64, AtomicUsize, fence},
    };
    /// Loom has no clock: a thread that has looked once sleeps.
    pub(super) struct Spin;
    impl Spin {
        pub(super) fn new() -> Spin {
            Spin
        }
        pub(super) fn wait(&mut self) -> bool {
            loom::thread::yield_now();
            true
        }
    }
}

/// Runs `f` through the orders with at most so many preemptions.
fn model(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(f);
}

/// Memory that a launch borrows: how often each task ran.
struct Runs(Vec<UnsafeCell<usize>>);
// SAFETY: loom looks at every access, and fails the test where two are not ordered.
unsafe impl Sync for Runs {}

/// A leader and its shares, as `Team` has them.
struct Team {
    handshake: Handshake,
    shares: Shares,
}
impl Team {
    fn new(threads: usize) -> Arc<Team> {
        Arc::new(Team { handshake: Handshake::new(), shares: Shares::new(threads) })
    }
    fn follow(team: &Arc<Team>, thread: usize, pass: usize) -> thread::JoinHandle<()> {
        let team = team.clone();
        thread::spawn(move || team.handshake.follow(thread, pass))
    }
    /// A launch of so many tasks, led by thread 0: each runs once, and nobody touches its
    /// memory afterwards.
    fn launch(&self, tasks: usize) {
        assert!(self.handshake.leads(0));
        self.shares.fill(tasks);
        let runs = Runs((0..tasks).map(|_| UnsafeCell::new(0)).collect());
        let all = &runs;
        self.handshake.launch(0, &|thread| {
            assert!(!self.handshake.leads(thread), "a launch within a launch");
            while let Some(i) = self.shares.next(thread) {
                // SAFETY: see `Runs`.
                all.0[i].with_mut(|n| unsafe { *n += 1 });
            }
        });
        assert!(self.shares.next(0).is_none());
        // SAFETY: see `Runs`.
        assert!(runs.0.iter().all(|n| n.with_mut(|n| unsafe { *n }) == 1));
    }
}

#[test]
fn launches_with_a_follower_that_may_sleep() {
    model(2, || {
        let team = Team::new(2);
        let pass = team.handshake.begin(0).unwrap();
        assert!(team.handshake.begin(1).is_none(), "one leads at a time");
        let follower = Team::follow(&team, 1, pass);
        team.launch(2);
        team.launch(1);
        team.handshake.end();
        follower.join().unwrap();
    });
}

#[test]
fn a_launch_with_two_followers() {
    model(1, || {
        let team = Team::new(3);
        let pass = team.handshake.begin(0).unwrap();
        let followers = [Team::follow(&team, 1, pass), Team::follow(&team, 2, pass)];
        team.launch(2);
        team.handshake.end();
        for f in followers {
            f.join().unwrap();
        }
    });
}

#[test]
fn a_follower_that_is_late_belongs_to_no_later_pass() {
    model(1, || {
        let team = Team::new(3);
        let first = team.handshake.begin(0).unwrap();
        let late = Team::follow(&team, 1, first);
        team.launch(1);
        team.handshake.end();
        let second = team.handshake.begin(0).unwrap();
        let follower = Team::follow(&team, 2, second);
        late.join().unwrap(); // although the second pass is still led
        team.launch(2);
        team.handshake.end();
        follower.join().unwrap();
    });
}

#[test]
fn the_leader_does_not_follow_itself() {
    model(1, || {
        let team = Team::new(2);
        let pass = team.handshake.begin(0).unwrap();
        team.handshake.follow(0, pass);
        team.handshake.end();
        assert!(!team.handshake.leads(0));
    });
}
