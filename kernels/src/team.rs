//! The threads of a processor, and how they share a launch.
//!
//! A launch takes some tens of microseconds to milliseconds, and a sleeping thread takes as long to wake. So the workers of
//! a rayon pool stay awake while a *pass* runs on one of them ([`Team::install`]): that one **leads**, the others
//! **follow**, which is to wait for launches, spinning for a moment before they sleep. A follower joins a launch whenever it
//! comes; the leader takes tasks all the while and waits only for those who have one in hand.
//!
//! Tasks that follow one another often share data: the columns of a weight, or the rows that the last kernel wrote. So each
//! thread has a contiguous share of them, the same in every launch, and takes from its front; when its own is empty, it takes
//! from the back of the fullest.
//!
//! What a task computes must depend on its number alone: then results do not depend on the number of threads.
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    ptr::null_mut,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{
            AtomicPtr, AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release, SeqCst},
        },
    },
    time::{Duration, Instant},
};

/// How long a follower waits awake: about twice what waking takes.
const PATIENCE: Duration = Duration::from_micros(200);
/// How often it looks before it looks at the clock and lets another program run.
const LOOKS: usize = 64;
/// No thread leads.
const NOBODY: usize = usize::MAX;

/// A pool of threads.
#[derive(Debug)]
pub(crate) struct Team {
    pool: rayon::ThreadPool,
    desk: Arc<Desk>,
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

/// On cache lines of its own: the neighbour is pre-fetched with a line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart<T>(T);

/// Where the leader and its followers meet.
#[derive(Debug)]
struct Desk {
    /// Goes up when a pass begins and when it ends: odd while one is led.
    pass: Apart<AtomicUsize>,
    leader: AtomicUsize,
    /// Goes up with each launch.
    number: Apart<AtomicUsize>,
    /// What runs; null between launches.
    launch: AtomicPtr<Launch<'static>>,
    /// What is left of each thread's share of the launch.
    shares: Box<[Apart<Share>]>,
    /// Followers that may hold what they read from `launch`.
    inside: Apart<AtomicUsize>,
    /// Followers that sleep or are about to.
    asleep: Apart<AtomicUsize>,
    bed: Mutex<()>,
    bell: Condvar,
}

/// Tasks of one launch.
struct Launch<'a> {
    run: &'a (dyn Fn(usize, usize) + Sync),
    shares: &'a [Apart<Share>],
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Launch<'_> {
    fn work(&self, thread: usize) {
        let done = catch_unwind(AssertUnwindSafe(|| {
            while let Some(i) = self.next(thread) {
                (self.run)(i, thread);
            }
        }));
        if let Err(e) = done {
            self.shares.iter().for_each(|s| s.0.set(0, 0)); // nobody need begin another
            self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
        }
    }
    /// The next task for this thread.
    fn next(&self, thread: usize) -> Option<usize> {
        if let Some(i) = self.shares[thread].0.front() {
            return Some(i);
        }
        loop {
            // looked at once: who leaves has seen every share empty
            let (left, fullest) = self.shares.iter().map(|s| (s.0.left(), &s.0)).max_by_key(|s| s.0)?;
            if left == 0 {
                return None;
            }
            if let Some(i) = fullest.back() {
                return Some(i);
            }
        }
    }
}

/// Neighbouring tasks that nobody has taken yet: the first one's number in the upper half, the end in the lower.
#[derive(Debug, Default)]
struct Share(AtomicU64);
impl Share {
    fn set(&self, first: u32, end: u32) {
        self.0.store(u64::from(first) << 32 | u64::from(end), Relaxed);
    }
    fn split(v: u64) -> (u32, u32) {
        ((v >> 32) as u32, v as u32)
    }
    fn left(&self) -> u32 {
        let (first, end) = Self::split(self.0.load(Relaxed));
        end - first
    }
    /// Takes the first task.
    fn front(&self) -> Option<usize> {
        self.take(|v| v + (1 << 32)).map(|(first, _)| first as usize)
    }
    /// Takes the last task.
    fn back(&self) -> Option<usize> {
        self.take(|v| v - 1).map(|(_, end)| end as usize - 1)
    }
    /// What there was, unless it was nothing, before `rest` of it was left.
    fn take(&self, rest: impl Fn(u64) -> u64) -> Option<(u32, u32)> {
        let some = |v| (Self::split(v).0 < Self::split(v).1).then(|| rest(v));
        self.0.fetch_update(Relaxed, Relaxed, some).ok().map(Self::split)
    }
}

impl Team {
    /// `threads` threads; 0: one for each core.
    pub(crate) fn new(threads: usize) -> Result<Team, rayon::ThreadPoolBuildError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("engraft-{i}"))
            .build()?;
        let desk = Desk {
            pass: Apart::default(),
            leader: AtomicUsize::new(NOBODY),
            number: Apart::default(),
            launch: AtomicPtr::new(null_mut()),
            shares: (0..pool.current_num_threads()).map(|_| Apart::default()).collect(),
            inside: Apart::default(),
            asleep: Apart::default(),
            bed: Mutex::default(),
            bell: Condvar::new(),
        };
        Ok(Team { pool, desk: Arc::new(desk) })
    }
    pub(crate) fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }
    /// Runs `f` on one of the threads, as the leader of the others, if no other thread of the pool leads.
    pub(crate) fn install<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        if self.pool.current_thread_index().is_some() {
            return f();
        }
        self.pool.install(|| {
            let _pass = self.lead();
            f()
        })
    }
    /// Runs `f(task, thread)` for every task below `n`. No two calls that run at once have the same `thread`, which is
    /// below `threads()`.
    pub(crate) fn each(&self, n: usize, f: &(dyn Fn(usize, usize) + Sync)) {
        if n <= 1 || self.threads() == 1 {
            return (0..n).for_each(|i| f(i, 0));
        }
        match self.pool.current_thread_index() {
            None => self.install(|| self.each(n, f)),
            Some(me) if self.desk.leads(me) => self.desk.launch(n, me, f),
            // a launch within a launch, or a pass beside the one that is led
            Some(me) => (0..n).for_each(|i| f(i, me)),
        }
    }
    /// The calling thread, a worker of the pool, begins to lead.
    fn lead(&self) -> Option<Pass<'_>> {
        let me = self.pool.current_thread_index()?;
        let even = self.desk.pass.0.load(Relaxed) & !1;
        self.desk.pass.0.compare_exchange(even, even + 1, SeqCst, Relaxed).ok()?;
        self.desk.leader.store(me, Relaxed);
        let desk = self.desk.clone();
        self.pool.spawn_broadcast(move |t| desk.follow(t.index(), even + 1));
        Some(Pass(&self.desk))
    }
}

/// Lasts as long as its thread leads.
struct Pass<'a>(&'a Desk);
impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.0.leader.store(NOBODY, Relaxed);
        self.0.pass.0.fetch_add(1, SeqCst);
        self.0.ring();
    }
}

impl Desk {
    /// True on the leader's thread, between launches.
    fn leads(&self, thread: usize) -> bool {
        self.leader.load(Relaxed) == thread && self.launch.load(Relaxed).is_null()
    }
    /// On the leader's thread: all tasks of a launch.
    fn launch(&self, tasks: usize, me: usize, run: &(dyn Fn(usize, usize) + Sync)) {
        let tasks = u64::from(u32::try_from(tasks).expect("fewer than four billion tasks"));
        let threads = self.shares.len() as u64;
        // nobody takes from them: all have left the last launch (see below)
        for (t, share) in (0..).zip(&self.shares) {
            share.0.set((tasks * t / threads) as u32, (tasks * (t + 1) / threads) as u32);
        }
        let launch = Launch { run, shares: &self.shares, panic: Mutex::default() };
        self.launch.store((&raw const launch).cast_mut().cast(), SeqCst);
        self.number.0.fetch_add(1, SeqCst);
        self.ring();
        launch.work(me); // does not unwind
        self.launch.store(null_mut(), SeqCst);
        // Whoever has read the address had counted itself before, and reads null if it counts itself from now on: all
        // these are sequentially consistent. So nobody holds the address after the wait.
        let mut looks = 0_usize;
        while self.inside.0.load(SeqCst) != 0 {
            looks += 1;
            pause(looks);
        }
        if let Some(e) = launch.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(e);
        }
    }
    /// On each other thread: takes part in launches until the pass is over.
    fn follow(&self, me: usize, pass: usize) {
        if self.leader.load(Relaxed) == me {
            return; // its own call, run while it waits for something else
        }
        let mut seen = self.number.0.load(Relaxed).wrapping_sub(1); // one may be running
        while self.wait(seen, pass) {
            seen = self.number.0.load(Acquire);
            self.inside.0.fetch_add(1, SeqCst);
            let launch = self.launch.load(SeqCst);
            if !launch.is_null() {
                // SAFETY: the leader keeps the launch, and what it borrows, until `inside` is zero (see `launch`).
                unsafe { (*launch).work(me) };
            }
            self.inside.0.fetch_sub(1, Release);
        }
    }
    /// Until there is a launch other than number `seen` (true), or the pass is over (false).
    fn wait(&self, seen: usize, pass: usize) -> bool {
        let over = || self.pass.0.load(SeqCst) != pass;
        let new = || self.number.0.load(SeqCst) != seen;
        let (start, mut looks) = (Instant::now(), 0_usize);
        loop {
            if over() {
                return false;
            }
            if new() {
                return true;
            }
            looks += 1;
            pause(looks);
            if looks.is_multiple_of(LOOKS) && start.elapsed() > PATIENCE {
                let mut bed = self.bed.lock().unwrap_or_else(PoisonError::into_inner);
                // Who rings looks at `asleep` after it has changed what is looked at here: one of the two sees the other.
                self.asleep.0.fetch_add(1, SeqCst);
                while !over() && !new() {
                    bed = self.bell.wait(bed).unwrap_or_else(PoisonError::into_inner);
                }
                self.asleep.0.fetch_sub(1, SeqCst);
            }
        }
    }
    /// Wakes those who sleep.
    fn ring(&self) {
        if self.asleep.0.load(SeqCst) > 0 {
            // those who are about to sleep hold the lock from their last look on
            drop(self.bed.lock());
            self.bell.notify_all();
        }
    }
}

/// Between two looks.
fn pause(looks: usize) {
    if looks.is_multiple_of(LOOKS) {
        std::thread::yield_now();
    } else {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
                            std::thread::sleep(PATIENCE * 2); // followers sleep
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
}
