//! The threads of a processor, and how they share a launch.
//!
//! A launch takes some tens of microseconds to milliseconds, and a sleeping thread takes as long to
//! wake. So the workers of a rayon pool stay awake while a *pass* runs on one of them
//! ([`Team::install`]): that one **leads**, the others **follow**, which is to wait for launches,
//! spinning for a moment before they sleep. A follower joins a launch whenever it comes; the leader
//! takes tasks all the while and waits only for those who have one in hand.
//!
//! Tasks that follow one another often share data: the columns of a weight, or the rows that the
//! last kernel wrote. So each thread has a contiguous share of them, the same in every launch, and
//! takes from its front; when its own is empty, it takes from the back of the fullest.
//!
//! What a task computes must depend on its number alone: then results do not depend on the
//! number of threads.
mod handshake;
mod shares;
mod sync;

use handshake::Handshake;
use shares::Shares;
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Mutex, PoisonError},
};

/// A pool of threads.
#[derive(Debug)]
pub(crate) struct Team {
    pool: rayon::ThreadPool,
    handshake: Arc<Handshake>,
    shares: Shares,
}

/// A pointer that threads may share: each writes places of its own.
pub(crate) struct Shared<T>(pub *mut T);
impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Shared<T> {}
// SAFETY: it is only a number; whoever dereferences it says why that is sound.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}
impl<T> Shared<T> {
    /// Through a method, so that a closure captures the whole (shareable) struct.
    pub(crate) fn get(self) -> *mut T {
        self.0
    }
}

impl Team {
    /// `threads` threads; 0: one for each core.
    pub(crate) fn new(threads: usize) -> Result<Team, rayon::ThreadPoolBuildError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("engraft-{i}"))
            .build()?;
        let shares = Shares::new(pool.current_num_threads());
        Ok(Team { pool, handshake: Arc::new(Handshake::new()), shares })
    }
    pub(crate) fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }
    /// Runs `f` on one of the threads, as the leader of the others, if no other thread
    /// of the pool leads.
    pub(crate) fn install<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        if self.pool.current_thread_index().is_some() {
            return f();
        }
        self.pool.install(|| {
            let _pass = self.lead();
            f()
        })
    }
    /// Runs `f(task, thread)` for every task below `n`. No two calls that run at once have the
    /// same `thread`, which is below `threads()`. A panic of a task reaches the caller once no
    /// other task runs.
    pub(crate) fn each(&self, n: usize, f: &(dyn Fn(usize, usize) + Sync)) {
        if n <= 1 || self.threads() == 1 {
            return (0..n).for_each(|i| f(i, 0));
        }
        match self.pool.current_thread_index() {
            None => self.install(|| self.each(n, f)),
            Some(me) if self.handshake.leads(me) => self.launch(n, me, f),
            // a launch within a launch, or a pass beside the one that is led
            Some(me) => (0..n).for_each(|i| f(i, me)),
        }
    }
    /// The calling thread, a worker of the pool, begins to lead.
    fn lead(&self) -> Option<Pass<'_>> {
        let pass = self.handshake.begin(self.pool.current_thread_index()?)?;
        let handshake = self.handshake.clone();
        self.pool.spawn_broadcast(move |t| handshake.follow(t.index(), pass));
        Some(Pass(&self.handshake))
    }
    /// On the leader's thread: all tasks of a launch.
    fn launch(&self, n: usize, me: usize, f: &(dyn Fn(usize, usize) + Sync)) {
        self.shares.fill(n);
        let panic: Mutex<Option<Box<dyn Any + Send>>> = Mutex::default();
        self.handshake.launch(me, &|thread| {
            let done = catch_unwind(AssertUnwindSafe(|| {
                while let Some(i) = self.shares.next(thread) {
                    f(i, thread);
                }
            }));
            if let Err(e) = done {
                self.shares.empty();
                panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
            }
        });
        if let Some(e) = panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(e);
        }
    }
}

/// Lasts as long as its thread leads.
struct Pass<'a>(&'a Handshake);
impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering::SeqCst},
    };

    /// Every task of every launch runs once, on a thread that runs nothing else.
    fn check(team: &Team, n: usize) {
        let runs: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
        let busy: Vec<AtomicUsize> = (0..team.threads()).map(|_| AtomicUsize::new(0)).collect();
        team.each(n, &|i, t| {
            assert_eq!(busy[t].fetch_add(1, SeqCst), 0);
            runs[i].fetch_add(1, SeqCst);
            assert_eq!(busy[t].fetch_sub(1, SeqCst), 1);
        });
        assert!(runs.iter().all(|r| r.load(SeqCst) == 1));
    }

    #[test]
    fn every_task_once() {
        for threads in [1, 2, 3, 8] {
            let team = Team::new(threads).unwrap();
            for n in [0, 1, 2, 7, 100] {
                check(&team, n);
            }
            for pass in 0..20 {
                team.install(|| {
                    for n in 0..200 {
                        if n % 50 == 49 {
                            std::thread::sleep(sync::AWAKE * 2); // followers sleep
                        }
                        check(&team, (n * 7 + pass) % 13);
                    }
                });
            }
        }
    }

    #[test]
    fn passes_beside_and_within_one_another() {
        let team = Team::new(3).unwrap();
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for _ in 0..50 {
                        team.install(|| {
                            check(&team, 20);
                            team.install(|| check(&team, 20));
                            team.each(4, &|_, _| team.each(3, &|i, t| assert!(i < 3 && t < 3)));
                        });
                        check(&team, 5);
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_team_works_on() {
        let team = Team::new(2).unwrap();
        for at in 0..10 {
            let run = AssertUnwindSafe(|| {
                team.install(|| team.each(10, &|i, _| assert_ne!(i, at, "task {at}")));
            });
            let e = catch_unwind(run).unwrap_err();
            assert!(e.downcast_ref::<String>().unwrap().contains(&format!("task {at}")));
            check(&team, 10);
        }
    }

    /// What a panic carries, and what panics again where it is dropped.
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("a second one");
        }
    }
    /// Both threads panic; what the later one threw is dropped inside the launch.
    #[test]
    fn a_panic_that_would_leave_a_launch_ends_the_process() {
        const CHILD: &str = "ENGRAFT_TEST_TEAM_BOMB";
        if std::env::var_os(CHILD).is_some() {
            let (team, both) = (Team::new(2).unwrap(), Barrier::new(2));
            team.each(2, &|_, _| {
                both.wait();
                std::panic::panic_any(Bomb);
            });
            unreachable!();
        }
        let name = "team::tests::a_panic_that_would_leave_a_launch_ends_the_process";
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stderr);
        assert!(said.contains("a panic cannot leave a launch"), "{said}");
        #[cfg(unix)]
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.status), Some(6), "{said}");
    }
}
