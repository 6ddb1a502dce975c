//! How the thread that leads a pass hands its launches to the threads that follow it.
//!
//! A launch is a closure on the leader's stack. The leader publishes its address and opens a
//! *gate*; a follower counts itself in, runs the closure if the gate was open, and counts itself
//! out. The leader closes the gate when its own part is done and waits until nobody is inside. Gate
//! and count are one number, so every entry is either before the closing, and waited for, or after
//! it, and turned away.
//!
//! Nothing here knows of tasks or of the pool whose threads these are: `tests/team.rs` compiles
//! this file with loom's atomics in the place of `sync`, and runs it through all their orders.
use super::{
    shares::CacheAligned,
    sync::{AtomicPtr, AtomicUsize, Condvar, Mutex, Spin, fence},
};
use std::{
    ptr::null_mut,
    sync::{
        PoisonError,
        atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
    },
};

/// No thread leads.
const NOBODY: usize = usize::MAX;
/// In `Handshake::gate`: followers that come may enter. Below it: how many are inside.
const OPEN: usize = 1 << (usize::BITS - 1);

/// Run by each thread, with its number, that takes part in a launch.
type Work<'a> = &'a (dyn Fn(usize) + Sync);

/// Where the leader and its followers meet.
#[derive(Debug)]
pub(super) struct Handshake {
    /// Goes up when a pass begins and when it ends: odd while one is led.
    pass: CacheAligned<AtomicUsize>,
    leader: AtomicUsize,
    /// Goes up with each launch.
    launches: CacheAligned<AtomicUsize>,
    /// What the last launch runs; it exists while the gate is open or anybody is inside.
    work: AtomicPtr<Work<'static>>,
    gate: CacheAligned<AtomicUsize>,
    /// Followers that sleep or are about to.
    sleepers: CacheAligned<AtomicUsize>,
    sleep_lock: Mutex<()>,
    wake: Condvar,
}

/// Ends the process if it is dropped. A thread that unwound past it would leave memory that
/// others still use.
struct AbortOnUnwind;
impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        eprintln!("a panic cannot leave a launch that other threads take part in");
        std::process::abort();
    }
}

impl Handshake {
    pub(super) fn new() -> Handshake {
        let zero = || CacheAligned(AtomicUsize::new(0));
        Handshake {
            pass: zero(),
            leader: AtomicUsize::new(NOBODY),
            launches: zero(),
            work: AtomicPtr::new(null_mut()),
            gate: zero(),
            sleepers: zero(),
            sleep_lock: Mutex::new(()),
            wake: Condvar::new(),
        }
    }
    /// Thread `me` begins to lead, unless another does: the pass's number, to be
    /// handed to `follow`.
    pub(super) fn begin(&self, me: usize) -> Option<usize> {
        let even = self.pass.0.load(Relaxed) & !1;
        self.pass.0.compare_exchange(even, even + 1, AcqRel, Relaxed).ok()?;
        self.leader.store(me, Relaxed);
        Some(even + 1)
    }
    /// The leader's pass is over.
    pub(super) fn end(&self) {
        self.leader.store(NOBODY, Relaxed);
        self.pass.0.fetch_add(1, AcqRel);
        self.wake_sleepers();
    }
    /// True on the leader's thread, between launches.
    pub(super) fn leads(&self, thread: usize) -> bool {
        self.leader.load(Relaxed) == thread && self.gate.0.load(Relaxed) & OPEN == 0
    }
    /// On the leader's thread, between launches: runs `work` here and on every follower that comes
    /// before this returns. A panic in `work` ends the process.
    pub(super) fn launch(&self, me: usize, work: Work<'_>) {
        let guard = AbortOnUnwind;
        self.work.store((&raw const work).cast_mut().cast(), Relaxed);
        self.gate.0.fetch_or(OPEN, Release); // publishes the address and what the closure refers to
        self.launches.0.fetch_add(1, Release);
        self.wake_sleepers();
        work(me);
        self.gate.0.fetch_and(!OPEN, Relaxed);
        // Nobody enters any more, and what those inside have done is seen here once they have left.
        let mut spin = Spin::new();
        while self.gate.0.load(Acquire) != 0 {
            spin.wait();
        }
        std::mem::forget(guard);
    }
    /// On each other thread: takes part in launches until the pass is over.
    pub(super) fn follow(&self, me: usize, pass: usize) {
        if self.leader.load(Relaxed) == me {
            return; // its own call, run while it waits for something else
        }
        let mut seen = self.launches.0.load(Relaxed).wrapping_sub(1); // one may be running
        while self.wait(seen, pass) {
            seen = self.launches.0.load(Acquire);
            if self.gate.0.fetch_add(1, Acquire) & OPEN != 0 {
                let guard = AbortOnUnwind;
                // SAFETY: the gate was open when this thread was counted, so the address is that of
                // the launch that opened it, and the leader keeps it, and what it borrows, until
                // the count is zero (see `launch`).
                unsafe { (*self.work.load(Relaxed))(me) };
                std::mem::forget(guard);
            }
            self.gate.0.fetch_sub(1, Release);
        }
    }
    /// Until there is a launch other than number `seen` (true), or the pass is over (false).
    fn wait(&self, seen: usize, pass: usize) -> bool {
        let over = || self.pass.0.load(Acquire) != pass;
        let new = || self.launches.0.load(Acquire) != seen;
        let mut spin = Spin::new();
        loop {
            if over() {
                return false;
            }
            if new() {
                return true;
            }
            if spin.wait() {
                let mut held = self.sleep_lock.lock().unwrap_or_else(PoisonError::into_inner);
                self.sleepers.0.fetch_add(1, Relaxed);
                // Between this and the look: `wake_sleepers` has the same fence between its change
                // and its look, so one of the two threads sees what the other has changed.
                fence(SeqCst);
                while !over() && !new() {
                    held = self.wake.wait(held).unwrap_or_else(PoisonError::into_inner);
                }
                self.sleepers.0.fetch_sub(1, Relaxed);
            }
        }
    }
    /// After a change of `pass` or `launches`.
    fn wake_sleepers(&self) {
        fence(SeqCst);
        if self.sleepers.0.load(Relaxed) > 0 {
            // those who are about to sleep hold the lock from their last look on
            drop(self.sleep_lock.lock());
            self.wake.notify_all();
        }
    }
}
