//! Memory read ahead of its use.
//!
//! The rows of a head are short and lie far apart, one or two to a page: nothing the processor's
//! own prefetchers follow. While the products of one head run, the rows of the next are asked for,
//! a few after each tile, so that they are in the second-level cache when their turn comes.

use crate::simd::{LINE, PrefetchHint, prefetch};

/// Rows of a matrix to ask for.
#[derive(Clone, Copy)]
pub(super) struct PrefetchPart {
    pub first: *const f32,
    pub rows: usize,
    /// From row to row.
    pub stride: usize,
    /// Values of a row.
    pub cols: usize,
}

/// Rows to ask for, spread over an amount of work.
pub(super) struct PrefetchRows {
    parts: [PrefetchPart; PARTS],
    /// The next row, as a part and a row of it.
    next: (usize, usize),
    /// Rows asked for, and rows in all.
    asked: usize,
    rows: usize,
    /// Multiplications done, and those to be done in all.
    done: usize,
    work: usize,
}
/// Matrices, at most.
const PARTS: usize = 7;

impl PrefetchRows {
    /// Nothing to ask for.
    pub(super) fn none() -> PrefetchRows {
        PrefetchRows::new([].into_iter(), 0)
    }
    /// These rows, during `work` multiplications.
    pub(super) fn new(from: impl Iterator<Item = PrefetchPart>, work: usize) -> PrefetchRows {
        let mut parts = [PrefetchPart { first: std::ptr::null(), rows: 0, stride: 0, cols: 0 }; PARTS];
        parts.iter_mut().zip(from).for_each(|(p, from)| *p = from);
        let rows = parts.iter().map(|p| p.rows).sum();
        PrefetchRows { parts, next: (0, 0), asked: 0, rows, done: 0, work: work.max(1) }
    }
    /// That much work was done: asks for its share of the rows.
    #[inline(always)]
    pub(super) fn worked(&mut self, work: usize) {
        if self.asked < self.rows {
            self.done += work;
            self.ask();
        }
    }
    #[inline(never)]
    fn ask(&mut self) {
        let due = (self.done as f32 / self.work as f32 * self.rows as f32) as usize;
        while self.asked < due.min(self.rows) {
            while self.next.1 >= self.parts[self.next.0].rows {
                self.next = (self.next.0 + 1, 0);
            }
            let part = self.parts[self.next.0];
            let row = part.first.wrapping_add(self.next.1 * part.stride);
            // rows begin anywhere within a line
            for col in (0..part.cols).step_by(LINE).chain(part.cols.checked_sub(1)) {
                prefetch(row.wrapping_add(col), PrefetchHint::ReadLater);
            }
            self.next.1 += 1;
            self.asked += 1;
        }
    }
}
