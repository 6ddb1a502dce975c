//! The tasks of a launch, and who takes which.
use super::sync::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// On cache lines of its own: the neighbour is pre-fetched with a line.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct CacheAligned<T>(pub(super) T);

/// What is left of each thread's share of a launch.
///
/// The tasks are numbers that are taken once; what they read and write is passed on by the
/// hand-over around them, so no order is asked of the memory here.
#[derive(Debug)]
pub(super) struct Shares(Box<[CacheAligned<Share>]>);
impl Shares {
    /// Of nothing, for `threads` threads.
    pub(super) fn new(threads: usize) -> Shares {
        Shares((0..threads).map(|_| CacheAligned(Share(AtomicU64::new(0)))).collect())
    }
    /// Neighbouring tasks of `0..tasks` for every thread, while nobody takes from them.
    pub(super) fn fill(&self, tasks: usize) {
        let tasks = u64::from(u32::try_from(tasks).expect("fewer than four billion tasks"));
        let threads = self.0.len() as u64;
        for (t, share) in (0..).zip(&self.0) {
            share.0.set((tasks * t / threads) as u32, (tasks * (t + 1) / threads) as u32);
        }
    }
    /// Nobody need begin another task.
    pub(super) fn empty(&self) {
        self.0.iter().for_each(|s| s.0.set(0, 0));
    }
    /// The next task for a thread: the first of its own share, or the last of the fullest.
    pub(super) fn next(&self, thread: usize) -> Option<usize> {
        if let Some(i) = self.0[thread].0.front() {
            return Some(i);
        }
        loop {
            // looked at once: who leaves has seen every share empty
            let (left, fullest) = self.0.iter().map(|s| (s.0.left(), &s.0)).max_by_key(|s| s.0)?;
            if left == 0 {
                return None;
            }
            if let Some(i) = fullest.back() {
                return Some(i);
            }
        }
    }
}

/// Neighbouring tasks that nobody has taken yet: the first one's number in the upper half, the
/// end in the lower.
#[derive(Debug)]
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
