//! Few rows, as in decoding: what a product costs is to read the weight. It is read once, as it
//! lies, decoded on the way and used at once; nothing is packed.
//!
//! An element of C is summed in the order of the tiles, block by block of depth, so that it has the
//! same bits whatever rows stand beside it.
use super::{operands::Job, plan::HEADER};
use crate::{
    epilogue::AtTile,
    simd::{F32s, MOST_LANES, PrefetchHint, Simd, prefetch},
    storage::view::Stored,
};
use std::array::from_fn;

/// Lines of B that pass by at a time: so often sums are fetched and put back less.
const LINES: usize = 8;
/// Vectors of elements that are not f32 whose bytes are asked for at once.
const TOGETHER: usize = 4;

/// Computes one task.
///
/// # Safety
/// The processor has the token's instructions; the extents of the job's operands have been checked
/// (A's columns are neighbours), nobody else writes the task's block of C, and `slot` is this
/// call's own and as long as the plan says.
#[inline(always)]
pub(super) unsafe fn run<S: Simd, W: Stored>(s: S, job: &Job<'_, W>, task: usize, slot: *mut f32) {
    // SAFETY: the precondition is the same.
    unsafe {
        match job.plan.m {
            1 => rows::<S, W, 1>(s, job, task, slot),
            2 => rows::<S, W, 2>(s, job, task, slot),
            3 | 4 => rows::<S, W, 4>(s, job, task, slot),
            _ => rows::<S, W, 8>(s, job, task, slot),
        }
    }
}

/// A block of depth of a task, with M rows of A, of which the last may be there several times.
struct Block<'j, 'a, W, const M: usize> {
    job: &'j Job<'a, W>,
    a: [*const f32; M],
    /// The first row and column of B.
    p: usize,
    j: usize,
    depth: usize,
    cols: usize,
    plus: AtTile,
    /// C's first element.
    c: *mut f32,
}

/// # Safety
/// As of [`run`]; there are at most M rows.
#[inline(always)]
unsafe fn rows<S: Simd, W: Stored, const M: usize>(s: S, job: &Job<'_, W>, task: usize, slot: *mut f32) {
    let plan = &job.plan;
    let (_, j, m, cols) = plan.task(task);
    let (mut p, mut plus) = (0, job.plus.at(0, j));
    loop {
        let depth = plan.kc.min(plan.depth - p);
        let row = |i: usize| job.a.data.as_ptr().wrapping_add(i.min(m - 1) * job.a.row + p);
        // SAFETY: column j is in C (precondition), and so is the block in B.
        unsafe {
            let c = job.c.get().add(j);
            let block = Block::<W, M> { job, a: from_fn(row), p, j, depth, cols, plus, c };
            match job.b.transposed {
                true => block.down(s),
                false => block.along(s, slot.add(HEADER)),
            }
        }
        plus = AtTile::OUTPUT;
        p += depth;
        if p >= plan.depth {
            return;
        }
    }
}

impl<W: Stored, const M: usize> Block<'_, '_, W, M> {
    /// B's lines are its rows: some at a time pass by, and the sums of all columns wait in `sums`.
    ///
    /// # Safety
    /// As of [`run`]; M rows of `nc` values may be written at `sums`.
    #[inline(always)]
    unsafe fn along<S: Simd>(&self, s: S, sums: *mut f32) {
        let nc = self.job.plan.nc;
        let mut q = 0;
        // SAFETY: whole vectors of `cols` columns are no more than `nc`, which is whole vectors.
        unsafe {
            for c in (0..M * nc).step_by(S::V::LANES) {
                s.splat(0.0).store_at(sums.add(c), S::V::LANES);
            }
            while self.depth - q >= LINES {
                self.lines::<S, LINES>(s, q, sums);
                q += LINES;
            }
            while q < self.depth {
                self.lines::<S, 1>(s, q, sums);
                q += 1;
            }
            for c in (0..self.cols).step_by(S::V::LANES) {
                let sum: [S::V; M] = from_fn(|i| s.load_at(sums.add(i * nc + c)));
                self.finish(s, sum, c);
            }
        }
    }
    /// N lines from number `q` of the block.
    ///
    /// # Safety
    /// As of `along`.
    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // rows, lines and lanes, in every loop
    unsafe fn lines<S: Simd, const N: usize>(&self, s: S, q: usize, sums: *mut f32) {
        let (w, nc, line) = (self.job.b.from, self.job.plan.nc, self.p + q);
        for c in (0..self.cols).step_by(S::V::LANES) {
            let (at, live) = (self.j + c, self.cols - c);
            // SAFETY: the lines and columns are in B, the rows of A are as long as the block is
            // deep, and the sums are ours.
            unsafe {
                let b: [S::V; N] = match live >= S::V::LANES {
                    true => from_fn(|k| w.load(s, line + k, at)),
                    false => from_fn(|k| w.load_first(s, line + k, at, live)),
                };
                if W::IS_F32 || (c / S::V::LANES).is_multiple_of(TOGETHER) {
                    (0..N).for_each(|k| prefetch(w.address(line + N + k, at), PrefetchHint::Read));
                }
                for i in 0..M {
                    let sum_at = sums.add(i * nc + c);
                    let mut sum = s.load_at(sum_at);
                    for k in 0..N {
                        sum = s.splat(*self.a[i].add(q + k)).fma(b[k], sum);
                    }
                    sum.store_at(sum_at, S::V::LANES);
                }
            }
        }
    }
    /// B's lines are its columns: squares of them are turned in registers.
    ///
    /// # Safety
    /// As of [`run`].
    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // rows, lines and lanes, in every loop
    unsafe fn down<S: Simd>(&self, s: S) {
        let (w, lanes) = (self.job.b.from, S::V::LANES);
        for c in (0..self.cols).step_by(lanes) {
            let (first, live) = (self.j + c, lanes.min(self.cols - c));
            let mut sum = [s.splat(0.0); M];
            for q in (0..self.depth).step_by(lanes) {
                let (at, n) = (self.p + q, lanes.min(self.depth - q));
                let mut square = [s.splat(0.0); MOST_LANES];
                // SAFETY: the lines and their elements are in B, and the rows of A are as long as
                // the block is deep.
                unsafe {
                    if (q / lanes).is_multiple_of(TOGETHER) {
                        (0..lanes).for_each(|i| {
                            prefetch(w.address(first + lanes + i, at), PrefetchHint::ReadLater);
                        });
                    }
                    if live == lanes && n == lanes {
                        for i in 0..S::V::LANES {
                            square[i] = w.load(s, first + i, at);
                        }
                        s.transpose_square(&mut square);
                        for k in 0..S::V::LANES {
                            for i in 0..M {
                                sum[i] = s.splat(*self.a[i].add(q + k)).fma(square[k], sum[i]);
                            }
                        }
                    } else {
                        for (i, v) in square[..live].iter_mut().enumerate() {
                            *v = w.load_first(s, first + i, at, n);
                        }
                        s.transpose_square(&mut square);
                        for (k, b) in square[..n].iter().enumerate() {
                            for i in 0..M {
                                sum[i] = s.splat(*self.a[i].add(q + k)).fma(*b, sum[i]);
                            }
                        }
                    }
                }
            }
            // SAFETY: the precondition.
            unsafe { self.finish(s, sum, c) };
        }
    }
    /// C = sums + base + bias, in this order, for a vector of columns.
    ///
    /// # Safety
    /// As of [`run`].
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, s: S, sum: [S::V; M], c: usize) {
        let row = self.job.c_row;
        let ((base, base_row), bias) = self.plus.addresses((self.c, row));
        let n = S::V::LANES.min(self.cols - c);
        for (i, sum) in sum.into_iter().enumerate().take(self.job.plan.m) {
            let mut y = sum;
            // SAFETY: row i < m of C and of what is added has `n` columns from `c` on.
            unsafe {
                if !base.is_null() {
                    y = y + s.load_first(base.add(i * base_row + c), n);
                }
                if !bias.is_null() {
                    y = y + s.load_first(bias.add(c), n);
                }
                y.store_at(self.c.add(i * row + c), n);
            }
        }
    }
}
