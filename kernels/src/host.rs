//! Host memory: aligned blocks that are kept for reuse, so that the steady state neither allocates nor page-faults.
use crate::{Error, Result};
use std::{alloc::Layout, collections::BTreeMap, ptr::NonNull, sync::Mutex};

/// Bytes, aligned for any vector load, initialised from birth.
#[derive(Debug)]
pub(crate) struct Block {
    ptr: NonNull<u8>,
    capacity: usize,
    /// What it was taken for.
    asked: usize,
}
// SAFETY: a block owns its bytes; there is no interior mutability.
unsafe impl Send for Block {}
// SAFETY: as above: shared access only reads.
unsafe impl Sync for Block {}

const ALIGN: usize = 64;
/// From this size on a block is pages of its own, which go back to the system when it is dropped: the C library's
/// allocator would keep them, and a run whose batches differ in size would grow by half.
const PAGES: usize = 128 << 10;
/// From this size on the system is asked for huge pages.
#[cfg(target_os = "linux")]
const HUGE: usize = 4 << 20;

impl Block {
    fn layout(capacity: usize) -> Layout {
        Layout::from_size_align(capacity, ALIGN).expect("a size below isize::MAX and a power of two")
    }
    fn new(capacity: usize) -> Result<Block> {
        let ptr = if cfg!(unix) && capacity >= PAGES { pages(capacity) } else { small(capacity) };
        let ptr = ptr.ok_or(Error::Memory { device: "cpu", bytes: capacity })?;
        Ok(Block { ptr, capacity, asked: capacity })
    }
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `capacity` initialised bytes owned by self.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.capacity) }
    }
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.capacity) }
    }
}
impl Drop for Block {
    fn drop(&mut self) {
        #[cfg(unix)]
        if self.capacity >= PAGES {
            // SAFETY: mapped in `pages` with this very length, and nobody else has the address any more.
            unsafe { libc::munmap(self.ptr.as_ptr().cast(), self.capacity) };
            return;
        }
        // SAFETY: allocated in `small` with this very layout.
        unsafe { std::alloc::dealloc(self.ptr.as_ptr(), Self::layout(self.capacity)) }
    }
}

/// Zeroed memory from the allocator; `capacity` is at least one granule.
fn small(capacity: usize) -> Option<NonNull<u8>> {
    // SAFETY: the layout is not of size zero. Zeroed memory is initialised memory for every element type we store.
    NonNull::new(unsafe { std::alloc::alloc_zeroed(Block::layout(capacity)) })
}
/// Zeroed pages from the system.
#[cfg(unix)]
fn pages(capacity: usize) -> Option<NonNull<u8>> {
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new private mapping at an address of the system's choice touches no memory that exists.
    let ptr = unsafe { libc::mmap(std::ptr::null_mut(), capacity, access, kind, -1, 0) };
    if ptr == libc::MAP_FAILED {
        return None;
    }
    #[cfg(target_os = "linux")]
    if capacity >= HUGE {
        // SAFETY: the range is the mapping just made; the call is advice and its failure changes nothing.
        unsafe { libc::madvise(ptr, capacity, libc::MADV_HUGEPAGE) };
    }
    NonNull::new(ptr.cast())
}
#[cfg(not(unix))]
fn pages(capacity: usize) -> Option<NonNull<u8>> {
    small(capacity)
}

/// The blocks that wait for reuse, by capacity. The ledger counts what was asked for, and the process should not be much
/// larger: held and waiting bytes together stay below the most that was ever asked for at once and a sixteenth of it, unless
/// what is held alone is more (a block may be a quarter larger than it need be). Rather than grow, the pool lets go of what
/// waits.
#[derive(Debug, Default)]
pub(crate) struct Blocks(Mutex<Pool>);
#[derive(Debug, Default)]
struct Pool {
    free: BTreeMap<usize, Vec<Block>>,
    /// Bytes of the blocks that wait, of those that are held, and what the latter were asked for, now and at most.
    waiting: usize,
    held: usize,
    asked: usize,
    most: usize,
}

impl Blocks {
    /// A block of at least `bytes` bytes.
    pub(crate) fn take(&self, bytes: usize) -> Result<Block> {
        let want = bytes.max(1).next_multiple_of(ALIGN);
        let mut p = self.0.lock().unwrap_or_else(|e| e.into_inner());
        p.asked += want;
        p.most = p.most.max(p.asked);
        let limit = p.most + p.most / 16;
        // a quarter larger at most, and only while that does not make the whole too large
        let near = p.free.range(want..=want + want / 4).next().map(|(c, _)| *c);
        let near = near.filter(|c| *c == want || p.held + c <= limit);
        if let Some(mut block) = near.and_then(|c| p.pop(c)) {
            block.asked = want;
            p.held += block.capacity;
            return Ok(block);
        }
        while p.waiting > 0 && p.held + p.waiting + want > limit {
            let Some(largest) = p.free.keys().next_back().copied() else { break };
            p.pop(largest);
        }
        p.held += want;
        drop(p);
        Block::new(want).inspect_err(|_| {
            let mut p = self.0.lock().unwrap_or_else(|e| e.into_inner());
            (p.held, p.asked) = (p.held - want, p.asked - want);
        })
    }
    /// Back for reuse.
    pub(crate) fn give(&self, block: Block) {
        let mut p = self.0.lock().unwrap_or_else(|e| e.into_inner());
        p.held -= block.capacity;
        p.asked -= block.asked;
        p.waiting += block.capacity;
        p.free.entry(block.capacity).or_default().push(block);
    }
}
impl Pool {
    fn pop(&mut self, capacity: usize) -> Option<Block> {
        let of = self.free.get_mut(&capacity)?;
        let block = of.pop();
        if of.is_empty() {
            self.free.remove(&capacity);
        }
        self.waiting -= block.as_ref().map_or(0, |b| b.capacity);
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_reused_and_the_pool_does_not_hoard() {
        let pool = Blocks::default();
        let a = pool.take(1000).unwrap();
        let at = a.bytes().as_ptr();
        pool.give(a);
        let b = pool.take(900).unwrap();
        assert_eq!(b.bytes().as_ptr(), at, "a block a little larger serves");
        pool.give(b);
        let c = pool.take(4000).unwrap();
        assert!(c.bytes().len() >= 4000);
        let p = pool.0.lock().unwrap();
        assert_eq!((p.waiting, p.free.len()), (0, 0), "growing lets go of what waits");
    }
    #[test]
    fn batches_of_many_sizes_hold_little_more_than_they_ask_for() {
        let (pool, mut s) = (Blocks::default(), 12345u64);
        let mut number = |n: usize| {
            s = s.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (s >> 33) as usize % n
        };
        let mut worst = 0f64;
        for _ in 0..200 {
            // a pass of a few layers: some blocks stay to its end, others come and go; weights of a fixed size
            let (tokens, mut kept) = (300 + number(1700), vec![pool.take(1 << 20).unwrap()]);
            for _ in 0..6 {
                for channels in [64, 64, 64, 256, 16, 64] {
                    kept.push(pool.take(4 * tokens * channels).unwrap());
                    pool.give(pool.take(4 * tokens * 256).unwrap());
                    let p = pool.0.lock().unwrap();
                    worst = worst.max((p.held + p.waiting) as f64 / p.most as f64);
                }
            }
            while let Some(b) = kept.pop() {
                pool.give(b);
            }
        }
        let p = pool.0.lock().unwrap();
        assert_eq!((p.held, p.asked), (0, 0));
        assert!(worst < 1.07 && p.waiting as f64 > 0.5 * p.most as f64, "{worst} {} {}", p.waiting, p.most);
    }
    #[test]
    fn a_block_is_zero_when_new_and_aligned() {
        for bytes in [0, 1, 63, 4097, PAGES - 1, PAGES, (4 << 20) + 5] {
            let b = Block::new(bytes.max(1).next_multiple_of(ALIGN)).unwrap();
            assert_eq!(b.bytes().as_ptr().align_offset(ALIGN), 0);
            assert!(b.bytes().iter().all(|x| *x == 0));
        }
    }
}
