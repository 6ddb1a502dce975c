//! The micro-kernel: one tile of C, held in registers while the depth passes by.
//!
//! ```text
//! for p in 0..depth:   NV vectors of row p of B;  for each of MR rows: broadcast A[i][p], NV multiply-adds
//! ```
//! B comes from a packed panel (or from a matrix in place); A is read where it lies, with any strides. What the tile is
//! added to are further operands: a matrix (C itself, perhaps) and a bias, one row for all rows.
//!
//! What comes from far is asked for while the tile is computed, a little at a time: a processor waits for some ten lines at
//! once, and the next load, though from a near cache, would wait behind them. So the depth is cut in as many stretches as there
//! are rows; each begins by asking for a row of what the tile ends with, and goes on, step by step, with addresses that the
//! caller names ([`Ahead`]).
use super::vector::Vector;

/// The operands of one tile of C, `rows` x (`vectors` * LANES); both counts are the kernel's own.
pub(super) struct Tile {
    /// Products to be summed.
    pub depth: usize,
    /// A's first element, and the distances between its rows and columns.
    pub a: (*const f32, usize, usize),
    /// What is asked for.
    pub ahead: Ahead,
    /// B's first element, and the distance between its rows. Whole vectors are read.
    pub b: (*const f32, usize),
    /// Where B's rows are written as they are read, without gaps; null: nowhere.
    pub keep: *mut f32,
    /// What the products are added to, and the distance between its rows; null for nothing.
    pub start: (*const f32, usize),
    /// A row that is added to every row; null for none.
    pub bias: *const f32,
    /// C's first element, and the distance between its rows.
    pub c: (*mut f32, usize),
    /// Columns of the last vector that exist in C, in `start` and in `bias`.
    pub last: usize,
}

/// Addresses to be asked for, one with each step of depth. They may be any; one that is in the cache anyway costs next to
/// nothing.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    /// The first one.
    pub at: *const f32,
    /// How far apart two rows of the tile begin.
    pub row: usize,
    /// How far the address moves on with each step.
    pub step: usize,
}
impl Ahead {
    /// Nothing new: what is at `near` is in the cache.
    pub(super) fn nothing(near: *const f32) -> Ahead {
        Ahead { at: near, row: 0, step: 0 }
    }
    /// From `at`, `step` on with each step of a tile of this depth and so many rows.
    pub(super) fn line(at: *const f32, step: usize, depth: usize, rows: usize) -> Ahead {
        Ahead { at, row: depth.div_ceil(rows) * step, step }
    }
    /// Part `part` of `parts` of the next tile's rows, which follow this one's at `a`, `row` apart.
    pub(super) fn next(
        a: *const f32,
        row: usize,
        rows: usize,
        depth: usize,
        (part, parts): (usize, usize),
    ) -> Ahead {
        Ahead { at: a.wrapping_add(rows * row + part * depth / parts), row, step: rows.div_ceil(parts) }
    }
}

/// A tile of a certain size.
///
/// # Safety
/// The processor has the kernel's instructions; with R rows and V vectors of L lanes: R x depth elements of A, depth x
/// V L of B, and R x ((V - 1) L + last) of C and, unless null, of `start` and one row of `bias` lie in memory that may be
/// read (C: written, and touched by nobody else), and 1 <= last <= L; so may, unless `keep` is null, depth x V L values there be
/// written.
pub(super) type Kernel = unsafe fn(&Tile);

/// The body of every [`Kernel`] of MR rows and NV vectors.
///
/// # Safety
/// As for a [`Kernel`].
#[inline(always)]
#[allow(clippy::needless_range_loop)] // i and j are the tile's rows and vectors, in every loop
pub(super) unsafe fn tile<V: Vector, const MR: usize, const NV: usize>(t: &Tile) {
    let (mut a, a_row, a_col) = t.a;
    let (mut b, b_row) = t.b;
    // SAFETY: every access lies inside the areas that the caller vouches for (see `Kernel`). The pointers wrap, because
    // after the last step they may point past the areas.
    unsafe {
        let mut acc = [[V::zero(); NV]; MR];
        let (mut left, mut stretch, mut keep) = (t.depth, 0, t.keep);
        while left > 0 {
            let mut ahead = t.ahead.at.wrapping_add(stretch * t.ahead.row);
            for j in 0..NV {
                if !t.start.0.is_null() {
                    V::prefetch(t.start.0.wrapping_add(stretch * t.start.1 + V::LANES * j));
                }
                V::prefetch(t.c.0.wrapping_add(stretch * t.c.1 + V::LANES * j));
            }
            let steps = t.depth.div_ceil(MR).min(left);
            for _ in 0..steps {
                V::prefetch(ahead);
                ahead = ahead.wrapping_add(t.ahead.step);
                let mut row = [V::zero(); NV];
                for j in 0..NV {
                    row[j] = V::load(b.add(V::LANES * j));
                }
                if !keep.is_null() {
                    for j in 0..NV {
                        row[j].store(keep.add(V::LANES * j));
                    }
                    keep = keep.wrapping_add(V::LANES * NV);
                }
                for i in 0..MR {
                    let x = V::splat(a.add(i * a_row));
                    for j in 0..NV {
                        acc[i][j] = x.mul_add(row[j], acc[i][j]);
                    }
                }
                a = a.wrapping_add(a_col);
                b = b.wrapping_add(b_row);
            }
            left -= steps;
            stretch += 1;
        }
        if !t.start.0.is_null() {
            for i in 0..MR {
                for j in 0..NV {
                    let p = t.start.0.add(i * t.start.1 + V::LANES * j);
                    let s = if j + 1 < NV { V::load(p) } else { V::load_first(p, t.last) };
                    acc[i][j] = acc[i][j].add(s);
                }
            }
        }
        if !t.bias.is_null() {
            for j in 0..NV {
                let p = t.bias.add(V::LANES * j);
                let b = if j + 1 < NV { V::load(p) } else { V::load_first(p, t.last) };
                for i in 0..MR {
                    acc[i][j] = acc[i][j].add(b);
                }
            }
        }
        for i in 0..MR {
            for j in 0..NV {
                let p = t.c.0.add(i * t.c.1 + V::LANES * j);
                if j + 1 < NV {
                    acc[i][j].store(p);
                } else {
                    acc[i][j].store_first(p, t.last);
                }
            }
        }
    }
}
