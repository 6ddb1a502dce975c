//! Host memory that is kept for reuse, so that the steady state neither allocates nor page-faults.
//!
//! Large blocks are cut from regions of address space that are reserved once and filled from the bottom; what is given back
//! joins its free neighbours, and the smallest free range that is large enough serves next. So batches of ever different
//! sizes run on the same pages, which an allocator that keeps blocks by their size could not do, and the pages in use are at
//! most those of the largest moment. Small blocks come from the system's allocator and are kept by size.
use crate::{Error, Result};
use std::{
    alloc::Layout,
    collections::{BTreeMap, BTreeSet},
    ptr::NonNull,
    sync::{Mutex, MutexGuard},
};

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
/// From this size on blocks are cut from regions, in whole pages.
const LARGE: usize = 64 << 10;
const PAGE: usize = 4 << 10;
/// Address space of a region: more than most runs ever use, and little of what there is.
const REGION: usize = 64 << 30;

impl Block {
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `capacity` initialised bytes owned by self.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.capacity) }
    }
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.capacity) }
    }
    fn small(capacity: usize) -> Option<Block> {
        // SAFETY: the layout is not of size zero. Zeroed memory is initialised memory for every element type we store.
        let ptr = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout(capacity)) })?;
        Some(Block { ptr, capacity })
    }
}
fn layout(capacity: usize) -> Layout {
    Layout::from_size_align(capacity, ALIGN).expect("a size below isize::MAX and a power of two")
}

/// All blocks of a device: those that wait for reuse and the regions they are cut from.
#[derive(Debug, Default)]
pub(crate) struct Blocks(Mutex<Pool>);
#[derive(Debug, Default)]
struct Pool {
    small: BTreeMap<usize, Vec<Block>>,
    free: Free,
    regions: Vec<Region>,
}

impl Blocks {
    /// A block of at least `bytes` bytes.
    pub(crate) fn take(&self, bytes: usize) -> Result<Block> {
        let mut p = self.lock();
        let block = match bytes.max(1).checked_next_multiple_of(ALIGN) {
            Some(n) if n < LARGE => p.small.get_mut(&n).and_then(Vec::pop).or_else(|| Block::small(n)),
            _ => bytes.checked_next_multiple_of(PAGE).and_then(|n| p.large(n)),
        };
        block.ok_or(Error::Memory { device: "cpu", bytes })
    }
    /// Back for reuse.
    pub(crate) fn give(&self, block: Block) {
        let mut p = self.lock();
        match block.capacity {
            n if n < LARGE => p.small.entry(n).or_default().push(block),
            n => p.free.give(block.ptr.as_ptr() as usize, n),
        }
    }
    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}
impl Pool {
    fn large(&mut self, capacity: usize) -> Option<Block> {
        let at = match self.free.take(capacity) {
            Some(at) => at,
            None => self.grow(capacity)?,
        };
        // the address comes from `Region::reserve`, which is never null
        Some(Block { ptr: NonNull::new(at as *mut u8)?, capacity })
    }
    /// Takes from the unused end of the last region, together with what is free in front of it.
    fn grow(&mut self, capacity: usize) -> Option<usize> {
        let fits = |r: &Region, free: &Free| capacity - free.before(r.top).1 <= r.end - r.top;
        if !self.regions.last().is_some_and(|r| fits(r, &self.free)) {
            self.regions.push(Region::reserve(capacity)?);
        }
        let r = self.regions.last_mut()?;
        let (at, len) = self.free.before(r.top);
        self.free.remove(at, len);
        r.top = at + capacity;
        Some(at)
    }
}
impl Drop for Pool {
    fn drop(&mut self) {
        for b in self.small.values_mut().flat_map(std::mem::take) {
            // SAFETY: allocated in `Block::small` with this very layout, and owned by the pool.
            unsafe { std::alloc::dealloc(b.ptr.as_ptr(), layout(b.capacity)) }
        }
    }
}

/// Free ranges of addresses, no two of them neighbours.
#[derive(Debug, Default)]
struct Free {
    by_start: BTreeMap<usize, usize>,
    by_len: BTreeSet<(usize, usize)>,
}
impl Free {
    fn insert(&mut self, at: usize, len: usize) {
        if len > 0 {
            self.by_start.insert(at, len);
            self.by_len.insert((len, at));
        }
    }
    fn remove(&mut self, at: usize, len: usize) {
        self.by_start.remove(&at);
        self.by_len.remove(&(len, at));
    }
    /// The smallest range of at least `want` bytes, cut to it.
    fn take(&mut self, want: usize) -> Option<usize> {
        let (len, at) = *self.by_len.range((want, 0)..).next()?;
        self.remove(at, len);
        self.insert(at + want, len - want);
        Some(at)
    }
    fn give(&mut self, at: usize, len: usize) {
        let (before, front) = self.before(at);
        self.remove(before, front);
        let behind = self.by_start.get(&(at + len)).copied().unwrap_or(0);
        self.remove(at + len, behind);
        self.insert(before, front + len + behind);
    }
    /// The range that ends at `end`: its start and length (0 if there is none).
    fn before(&self, end: usize) -> (usize, usize) {
        match self.by_start.range(..end).next_back() {
            Some((at, len)) if at + len == end => (*at, *len),
            _ => (end, 0),
        }
    }
}

/// Address space; the part from `top` on has never been used.
#[derive(Debug)]
struct Region {
    start: usize,
    top: usize,
    end: usize,
}
impl Region {
    /// Address space for at least `least` bytes: as much as the system gives, up to [`REGION`].
    fn reserve(least: usize) -> Option<Region> {
        let mut len = least.max(REGION);
        loop {
            if let Some(start) = reserve(len) {
                return Some(Region { start, top: start, end: start + len });
            }
            if len == least {
                return None;
            }
            len = (len / 2).next_multiple_of(PAGE).max(least);
        }
    }
}
#[cfg(unix)]
fn reserve(len: usize) -> Option<usize> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new private mapping at an address of the system's choice touches no memory that exists. Its pages are
    // zeros, which are initialised memory for every element type we store.
    let ptr = unsafe { libc::mmap(std::ptr::null_mut(), len, access, kind, -1, 0) };
    if ptr == libc::MAP_FAILED {
        return None;
    }
    #[cfg(target_os = "linux")]
    // SAFETY: the range is the mapping just made; the call is advice and its failure changes nothing.
    unsafe {
        libc::madvise(ptr, len, libc::MADV_HUGEPAGE)
    };
    Some(ptr as usize)
}
#[cfg(unix)]
impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: mapped in `reserve` with this very length. A block's buffer keeps its device alive, and the device this
        // region, so no block of it is left.
        unsafe { libc::munmap(self.start as *mut libc::c_void, self.end - self.start) };
    }
}
/// Without address space to spare a region is the size of its first block.
#[cfg(not(unix))]
fn reserve(len: usize) -> Option<usize> {
    if len >= REGION {
        return None;
    }
    // SAFETY: the layout is not of size zero, and zeroed memory is initialised memory for every element type we store.
    NonNull::new(unsafe { std::alloc::alloc_zeroed(layout(len)) }).map(|p| p.as_ptr() as usize)
}
#[cfg(not(unix))]
impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: allocated in `reserve` with this very layout; no block of it is left (see there).
        unsafe { std::alloc::dealloc(self.start as *mut u8, layout(self.end - self.start)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blocks_are_zero_when_new_aligned_and_reused() {
        let pool = Blocks::default();
        for bytes in [0, 1, 63, 4097, LARGE - 1, LARGE, (4 << 20) + 5] {
            let b = pool.take(bytes).unwrap();
            let at = b.bytes().as_ptr();
            assert_eq!(at.align_offset(ALIGN), 0);
            assert!(b.bytes().len() >= bytes && b.bytes().iter().all(|x| *x == 0));
            pool.give(b);
            assert_eq!(pool.take(bytes).unwrap().bytes().as_ptr(), at);
        }
    }
    #[test]
    fn more_than_the_system_has_is_an_error() {
        let pool = Blocks::default();
        assert!(matches!(pool.take(1 << 60), Err(Error::Memory { bytes, .. }) if bytes == 1 << 60));
        assert!(pool.take(1 << 20).is_ok());
    }
    #[test]
    fn another_order_of_sizes_needs_no_new_pages() {
        let pool = Blocks::default();
        let round = |sizes: &[usize]| {
            let held: Vec<Block> = sizes.iter().map(|s| pool.take(s << 20).unwrap()).collect();
            held.into_iter().for_each(|b| pool.give(b));
            let p = pool.lock();
            (p.regions.len(), p.regions[0].top - p.regions[0].start)
        };
        assert_eq!(round(&[3, 5, 7, 2]), (1, 17 << 20));
        assert_eq!(round(&[9, 1, 4, 3]), (1, 17 << 20));
        assert_eq!(round(&[17]), (1, 17 << 20));
        assert_eq!(round(&[18]), (1, 18 << 20), "what is free at the end counts");
    }

    #[test]
    fn batches_of_many_sizes_use_little_more_than_they_ask_for() {
        let (pool, mut s) = (Blocks::default(), 12345u64);
        let mut number = |n: usize| {
            s = s.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (s >> 33) as usize % n
        };
        let (mut most, mut used) = (0usize, 0);
        for _ in 0..200 {
            // a pass of a few layers: some blocks stay to its end, others come and go; weights of a fixed size
            let (tokens, mut kept) = (300 + number(1700), vec![pool.take(1 << 20).unwrap()]);
            for _ in 0..6 {
                for channels in [64, 64, 64, 256, 16, 64] {
                    kept.push(pool.take(4 * tokens * channels).unwrap());
                    let passing = pool.take(4 * tokens * 256).unwrap();
                    let large = kept.iter().chain([&passing]).map(|b| b.capacity).filter(|c| *c >= LARGE);
                    most = most.max(large.sum());
                    pool.give(passing);
                }
            }
            while let Some(b) = kept.pop() {
                pool.give(b);
            }
            let p = pool.lock();
            used = p.regions[0].top - p.regions[0].start;
            assert_eq!(p.free.by_start.len(), 1, "all of it is one free range again");
        }
        assert!((used as f64) < 1.07 * most as f64, "{used} {most}");
    }

    proptest! {
        #[test]
        fn blocks_never_overlap_and_free_ranges_join(steps in prop::collection::vec((0usize..40, 1usize..300), 1..200)) {
            let pool = Blocks::default();
            let mut held: Vec<Block> = vec![];
            for (i, kib) in steps {
                if i < held.len() {
                    pool.give(held.swap_remove(i));
                } else {
                    held.push(pool.take(LARGE + (kib << 10)).unwrap());
                }
                let mut used: Vec<_> = held.iter().map(|b| (b.ptr.as_ptr() as usize, b.capacity)).collect();
                let p = pool.lock();
                let free: Vec<_> = p.free.by_start.iter().map(|(a, l)| (*a, *l)).collect();
                prop_assert!(free.windows(2).all(|w| w[0].0 + w[0].1 < w[1].0));
                prop_assert_eq!(free.len(), p.free.by_len.len());
                used.extend(free);
                used.sort_unstable();
                prop_assert!(used.windows(2).all(|w| w[0].0 + w[0].1 == w[1].0), "no gap, no overlap");
                let all: usize = used.iter().map(|u| u.1).sum();
                prop_assert!(p.regions.is_empty() || all == p.regions[0].top - p.regions[0].start);
            }
        }
    }
}
