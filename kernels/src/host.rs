//! Host memory: aligned blocks that are kept for reuse, so that the steady state neither allocates nor page-faults.
use crate::{Error, Result};
use std::{alloc::Layout, collections::BTreeMap, ptr::NonNull, sync::Mutex};

/// Bytes, aligned for any vector load, initialised from birth.
#[derive(Debug)]
pub(crate) struct Block {
    ptr: NonNull<u8>,
    capacity: usize,
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
        Ok(Block { ptr, capacity })
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

/// The blocks that wait for reuse, by capacity. Held and waiting bytes together never pass the most that was ever held
/// by more than one block: rather than grow, the pool lets go of what waits.
#[derive(Debug, Default)]
pub(crate) struct Blocks(Mutex<Pool>);
#[derive(Debug, Default)]
struct Pool {
    free: BTreeMap<usize, Vec<Block>>,
    waiting: usize,
    held: usize,
    most: usize,
}

impl Blocks {
    /// A block of at least `bytes` bytes.
    pub(crate) fn take(&self, bytes: usize) -> Result<Block> {
        let want = bytes.max(1).next_multiple_of(ALIGN);
        let mut p = self.0.lock().unwrap_or_else(|e| e.into_inner());
        // a quarter larger at most: the ledger does not see the difference, so it must stay small
        let near = p.free.range(want..=want + want / 4).next().map(|(c, _)| *c);
        if let Some(block) = near.and_then(|c| p.pop(c)) {
            p.hold(block.capacity);
            return Ok(block);
        }
        while p.waiting > 0 && p.held + p.waiting + want > p.most {
            let Some(largest) = p.free.keys().next_back().copied() else { break };
            p.pop(largest);
        }
        drop(p);
        let block = Block::new(want)?;
        self.0.lock().unwrap_or_else(|e| e.into_inner()).hold(block.capacity);
        Ok(block)
    }
    /// Back for reuse.
    pub(crate) fn give(&self, block: Block) {
        let mut p = self.0.lock().unwrap_or_else(|e| e.into_inner());
        p.held -= block.capacity;
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
    fn hold(&mut self, capacity: usize) {
        self.held += capacity;
        self.most = self.most.max(self.held);
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
    fn a_block_is_zero_when_new_and_aligned() {
        for bytes in [0, 1, 63, 4097, PAGES - 1, PAGES, (4 << 20) + 5] {
            let b = Block::new(bytes.max(1).next_multiple_of(ALIGN)).unwrap();
            assert_eq!(b.bytes().as_ptr().align_offset(ALIGN), 0);
            assert!(b.bytes().iter().all(|x| *x == 0));
        }
    }
}
