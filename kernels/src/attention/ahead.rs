//! Memory read ahead of its use.
//!
//! The rows of a head are short and lie far apart, one or two to a page: nothing the processor's own prefetchers follow.
//! While the products of one head run, the rows of the next are asked for, a few after each tile, so that they are in the
//! second-level cache when their turn comes.

use crate::simd::LINE;

/// Rows to ask for, spread over an amount of work.
pub(super) struct Ahead {
    /// First row and rows of each matrix.
    parts: [(*const f32, usize); PARTS],
    /// From row to row, and a row's values.
    stride: usize,
    cols: usize,
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

impl Ahead {
    /// Nothing to ask for.
    pub(super) fn none() -> Ahead {
        Ahead::new([].into_iter(), 0, 0, 0)
    }
    /// Matrices given by their first rows and numbers of rows, of `cols` values, `stride` apart, during `work`
    /// multiplications.
    pub(super) fn new(
        from: impl Iterator<Item = (*const f32, usize)>,
        stride: usize,
        cols: usize,
        work: usize,
    ) -> Ahead {
        let mut parts = [(std::ptr::null(), 0); PARTS];
        parts.iter_mut().zip(from).for_each(|(p, from)| *p = from);
        let rows = parts.iter().map(|p| p.1).sum();
        Ahead { parts, stride, cols, next: (0, 0), asked: 0, rows, done: 0, work: work.max(1) }
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
            while self.next.1 >= self.parts[self.next.0].1 {
                self.next = (self.next.0 + 1, 0);
            }
            let row = self.parts[self.next.0].0.wrapping_add(self.next.1 * self.stride);
            // rows begin anywhere within a line
            for col in (0..self.cols).step_by(LINE).chain(self.cols.checked_sub(1)) {
                prefetch(row.wrapping_add(col));
            }
            self.next.1 += 1;
            self.asked += 1;
        }
    }
}

/// Asks for the line of `p`, into the second-level cache. Any address will do: nothing is read that the program could see.
#[inline(always)]
fn prefetch(p: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction is part of every x86-64, and does nothing where `p` is no memory of ours.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}
