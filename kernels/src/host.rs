//! Host memory that is kept for reuse, so that the steady state neither allocates nor page-faults.
//!
//! Large blocks are cut from regions of address space that are reserved once and filled from the
//! bottom; what is given back joins its free neighbours, and the smallest free range that is large
//! enough serves next. So batches of ever different sizes run on the same pages, which an allocator
//! that keeps blocks by their size could not do, and the pages in use are at most those of the
//! largest moment. Small blocks come from the system's allocator and are kept by size.
use crate::{Error, Result};
use memmap2::{MmapMut, MmapOptions};
use std::{
    collections::{BTreeMap, BTreeSet},
    ptr::NonNull,
    sync::{Mutex, MutexGuard},
};

/// Bytes, aligned for any vector load, initialised from birth.
#[derive(Debug)]
pub(crate) enum Block {
    Small(Box<[Line]>),
    Large(Pages),
}

/// As many bytes as a block of any size is aligned to.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub(crate) struct Line([u8; ALIGN]);

/// Pages of a region that nobody else has.
#[derive(Debug)]
pub(crate) struct Pages {
    start: NonNull<u8>,
    len: usize,
}
// SAFETY: it owns its bytes; there is no interior mutability.
unsafe impl Send for Pages {}
// SAFETY: as above: shared access only reads.
unsafe impl Sync for Pages {}

const ALIGN: usize = 64;
/// From this size on blocks are cut from regions, in whole pages.
const LARGE: usize = 64 << 10;
const PAGE: usize = 4 << 10;
/// Address space of a region: more than most runs ever use, and little of what there is. Where
/// address space is counted like memory, a region is the size of its first block.
const REGION: usize = if cfg!(unix) { 64 << 30 } else { 0 };

impl Block {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Block::Small(lines) => bytemuck::cast_slice(lines),
            // SAFETY: `len` initialised bytes owned by self.
            Block::Large(r) => unsafe { std::slice::from_raw_parts(r.start.as_ptr(), r.len) },
        }
    }
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Block::Small(lines) => bytemuck::cast_slice_mut(lines),
            // SAFETY: as in `bytes`, and `&mut self` makes the access exclusive.
            Block::Large(r) => unsafe { std::slice::from_raw_parts_mut(r.start.as_ptr(), r.len) },
        }
    }
    fn small(lines: usize) -> Option<Block> {
        bytemuck::try_zeroed_slice_box(lines).ok().map(Block::Small)
    }
}

/// All blocks of a device: those that wait for reuse and the regions they are cut from.
#[derive(Debug, Default)]
pub(crate) struct Blocks(Mutex<Pool>);
#[derive(Debug, Default)]
struct Pool {
    /// By their lines.
    small: BTreeMap<usize, Vec<Block>>,
    free: Free,
    regions: Vec<Region>,
}

impl Blocks {
    /// A block of at least `bytes` bytes.
    pub(crate) fn take(&self, bytes: usize) -> Result<Block> {
        let mut p = self.lock();
        let block = match bytes.max(1).div_ceil(ALIGN) {
            n if n < LARGE / ALIGN => p.small.get_mut(&n).and_then(Vec::pop).or_else(|| Block::small(n)),
            _ => bytes.checked_next_multiple_of(PAGE).and_then(|n| p.large(n)),
        };
        block.ok_or(Error::Memory { device: "cpu", bytes })
    }
    /// Back for reuse.
    pub(crate) fn give(&self, block: Block) {
        let mut p = self.lock();
        match block {
            Block::Small(lines) => p.small.entry(lines.len()).or_default().push(Block::Small(lines)),
            Block::Large(r) => p.free.give(r.start.as_ptr() as usize, r.len),
        }
    }
    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}
impl Pool {
    fn large(&mut self, len: usize) -> Option<Block> {
        let at = match self.free.take(len) {
            Some(at) => at,
            None => self.grow(len)?,
        };
        // an address in a region, which is never null
        Some(Block::Large(Pages { start: NonNull::new(at as *mut u8)?, len }))
    }
    /// Takes from the unused end of the last region, together with what is free in front of it.
    fn grow(&mut self, len: usize) -> Option<usize> {
        let fits = |r: &Region, free: &Free| len - free.before(r.top).1 <= r.unused();
        if !self.regions.last().is_some_and(|r| fits(r, &self.free)) {
            self.regions.push(Region::reserve(len)?);
        }
        let r = self.regions.last_mut()?;
        let (at, before) = self.free.before(r.top);
        self.free.remove(at, before);
        r.top = at + len;
        Some(at)
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
    top: usize,
    /// Unmapped when it is dropped. A block's buffer keeps its device alive, and the device this,
    /// so no block is left then.
    map: MmapMut,
}
impl Region {
    /// Address space for at least `least` bytes: as much as the system gives, up to [`REGION`].
    fn reserve(least: usize) -> Option<Region> {
        let mut len = least.max(REGION);
        loop {
            if let Ok(mut map) = MmapOptions::new().len(len).no_reserve_swap().map_anon() {
                #[cfg(target_os = "linux")]
                let _ = map.advise(memmap2::Advice::HugePage); // advice: its failure changes nothing
                return Some(Region { top: map.as_mut_ptr() as usize, map });
            }
            if len == least {
                return None;
            }
            len = (len / 2).next_multiple_of(PAGE).max(least);
        }
    }
    /// Bytes from `top` on.
    fn unused(&self) -> usize {
        self.map.len() - self.used()
    }
    fn used(&self) -> usize {
        self.top - self.map.as_ptr() as usize
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
            (p.regions.len(), p.regions[0].used())
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
            // a pass of a few layers: some blocks stay to its end, others come and go;
            // weights of a fixed size
            let (tokens, mut kept) = (300 + number(1700), vec![pool.take(1 << 20).unwrap()]);
            for _ in 0..6 {
                for channels in [64, 64, 64, 256, 16, 64] {
                    kept.push(pool.take(4 * tokens * channels).unwrap());
                    let passing = pool.take(4 * tokens * 256).unwrap();
                    let large =
                        kept.iter().chain([&passing]).map(|b| b.bytes().len()).filter(|c| *c >= LARGE);
                    most = most.max(large.sum());
                    pool.give(passing);
                }
            }
            while let Some(b) = kept.pop() {
                pool.give(b);
            }
            let p = pool.lock();
            used = p.regions[0].used();
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
                let mut used: Vec<_> = held.iter().map(|b| (b.bytes().as_ptr() as usize, b.bytes().len())).collect();
                let p = pool.lock();
                let free: Vec<_> = p.free.by_start.iter().map(|(a, l)| (*a, *l)).collect();
                prop_assert!(free.windows(2).all(|w| w[0].0 + w[0].1 < w[1].0));
                prop_assert_eq!(free.len(), p.free.by_len.len());
                used.extend(free);
                used.sort_unstable();
                prop_assert!(used.windows(2).all(|w| w[0].0 + w[0].1 == w[1].0), "no gap, no overlap");
                let all: usize = used.iter().map(|u| u.1).sum();
                prop_assert!(p.regions.is_empty() || all == p.regions[0].used());
            }
        }
    }
}
