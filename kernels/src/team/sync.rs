//! What the hand-over between threads is made of. `tests/team.rs` puts loom's versions in the
//! place of this file.
pub(super) use std::sync::{
    Condvar, Mutex,
    atomic::{AtomicPtr, AtomicU64, AtomicUsize, fence},
};
use std::time::{Duration, Instant};

/// How long a thread waits awake: about twice what waking takes.
pub(super) const AWAKE: Duration = Duration::from_micros(200);
/// How often it looks before it looks at the clock and lets another program run.
const LOOKS: usize = 64;

/// Waits awake for what another thread is about to do.
pub(super) struct Spin {
    start: Instant,
    looks: usize,
}
impl Spin {
    pub(super) fn new() -> Spin {
        Spin { start: Instant::now(), looks: 0 }
    }
    /// To be called between two looks. True if it has been long enough to sleep instead.
    pub(super) fn wait(&mut self) -> bool {
        self.looks += 1;
        if self.looks.is_multiple_of(LOOKS) {
            std::thread::yield_now();
            self.start.elapsed() > AWAKE
        } else {
            std::hint::spin_loop();
            false
        }
    }
}
