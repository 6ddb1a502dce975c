//! The micro-kernel: one tile of C, held in registers while the depth passes by.
//!
//! ```text
//! for p in 0..depth:   NV vectors of row p of B;  for each of MR rows: broadcast A[i][p], NV multiply-adds
//! ```
//! B comes from a packed panel (or from a matrix in place); A is read where it lies, its rows or its columns neighbours.
//! What the tile is added to are further operands: a matrix (C itself, perhaps) and a bias, one row for all rows.
//!
//! What comes from far is asked for while the tile is computed, a little at a time: a processor waits for some ten lines at
//! once, and the next load, though from a near cache, would wait behind them. So the depth is cut in as many stretches as there
//! are rows; each begins by asking for a row of what the tile ends with, and goes on, step by step, with addresses that the
//! caller names ([`Ahead`]).
use super::{
    AtTile,
    vector::{Vector, opaque},
};
use std::sync::atomic::{Ordering, compiler_fence};

/// The operands of one tile of C, `rows` x (`vectors` * LANES); both counts are the kernel's own.
pub(super) struct Tile {
    /// Products to be summed.
    pub depth: usize,
    /// A's first element, and the distances between its rows and columns, one of which is 1.
    pub a: (*const f32, usize, usize),
    /// What is asked for.
    pub ahead: Ahead,
    /// B's first element, and the distance between its rows: if B is packed, their length. Whole vectors are read.
    pub b: (*const f32, usize),
    /// Where B's rows, if it is not packed, are written as they are read, without gaps; null: nowhere.
    pub keep: *mut f32,
    /// What is added to the products.
    pub plus: AtTile,
    /// C's first element, and the distance between its rows.
    pub c: (*mut f32, usize),
    /// Columns of the last vector that exist in C and in what is added.
    pub last: usize,
}

/// Addresses to be asked for, one with each step of depth. They may be any; one that is in the cache anyway costs next to
/// nothing.
#[derive(Clone, Copy)]
pub(crate) struct Ahead {
    /// The first one.
    pub at: *const f32,
    /// How far apart two rows of the tile begin.
    pub row: usize,
    /// How far the address moves on with each step.
    pub step: usize,
}
impl Ahead {
    /// Nothing new: what is at `near` is in the cache.
    pub(crate) fn nothing(near: *const f32) -> Ahead {
        Ahead { at: near, row: 0, step: 0 }
    }
    /// From `at`, `step` on with each step of a tile of this depth and so many rows.
    pub(super) fn line(at: *const f32, step: usize, depth: usize, rows: usize) -> Ahead {
        Ahead { at, row: stretch(depth, rows) * step, step }
    }
    /// Part `part` of `parts` of the next tile's rows, which follow this one's at `a`, `row` apart.
    pub(crate) fn next(
        a: *const f32,
        row: usize,
        rows: usize,
        depth: usize,
        (part, parts): (usize, usize),
    ) -> Ahead {
        Ahead { at: a.wrapping_add(rows * row + part * depth / parts), row, step: rows.div_ceil(parts) }
    }
}

/// Steps of depth that are written out one after the other. Beside the multiply-adds there is then little else to be
/// issued, which counts where two threads share a core.
pub(crate) const UNROLL: usize = 4;

/// Rows between the one that is read of a packed B, which lies in the second-level cache, and the one that is asked for.
const NEAR: usize = 16;

/// Steps between two rows that are asked for.
pub(crate) fn stretch(depth: usize, rows: usize) -> usize {
    depth.div_ceil(rows).next_multiple_of(UNROLL)
}

/// A tile of a certain size.
///
/// # Safety
/// The processor has the kernel's instructions; with R rows and V vectors of L lanes: R x depth elements of A, depth x
/// V L of B, and R x ((V - 1) L + last) of C and of what is added lie in memory that may be
/// read (C: written, and touched by nobody else), and 1 <= last <= L; so may, unless `keep` is null, depth x V L values there be
/// written.
pub(super) type Kernel = unsafe fn(&Tile);

/// Where a tile is in its operands.
struct At {
    /// Every third row of A. An address is one of them and up to twice the distance between rows, which costs no
    /// instruction of its own.
    a: [*const f32; 5],
    b: *const f32,
    ahead: *const f32,
    keep: *mut f32,
}

/// The body of every [`Kernel`] of MR rows and NV vectors. ALONG: A's columns are neighbours; else its rows are. PACKED: B's rows
/// follow one another.
///
/// # Safety
/// As for a [`Kernel`].
#[inline(always)]
#[allow(clippy::needless_range_loop)] // i and j are the tile's rows and vectors, in every loop
pub(super) unsafe fn tile<
    V: Vector,
    const MR: usize,
    const NV: usize,
    const ALONG: bool,
    const PACKED: bool,
>(
    t: &Tile,
) {
    let (a, a_row, _) = t.a;
    let ((base, base_row), bias) = t.plus.addresses(t.c);
    let thirds = std::array::from_fn(|i| a.wrapping_add(if ALONG { 3 * i * a_row } else { 0 }));
    let mut at = At { a: thirds, b: t.b.0, ahead: t.ahead.at, keep: t.keep };
    // SAFETY: every access lies inside the areas that the caller vouches for (see `Kernel`). The pointers wrap, because
    // after the last step they may point past the areas.
    unsafe {
        let mut acc = [[V::zero(); NV]; MR];
        let (mut left, mut row) = (t.depth, 0);
        while left > 0 {
            for j in 0..NV {
                if !base.is_null() {
                    V::prefetch(base.wrapping_add(row * base_row + V::LANES * j));
                }
                V::prefetch(t.c.0.wrapping_add(row * t.c.1 + V::LANES * j));
            }
            at.ahead = t.ahead.at.wrapping_add(row * t.ahead.row);
            let n = stretch(t.depth, MR).min(left);
            if PACKED || at.keep.is_null() {
                for _ in 0..n / UNROLL {
                    steps::<V, MR, NV, ALONG, PACKED, false, UNROLL>(t, &mut at, &mut acc);
                }
                for _ in 0..n % UNROLL {
                    steps::<V, MR, NV, ALONG, PACKED, false, 1>(t, &mut at, &mut acc);
                }
            } else {
                for _ in 0..n {
                    steps::<V, MR, NV, ALONG, PACKED, true, 1>(t, &mut at, &mut acc);
                }
            }
            left -= n;
            row += 1;
        }
        if !base.is_null() {
            for i in 0..MR {
                for j in 0..NV {
                    let p = base.add(i * base_row + V::LANES * j);
                    let s = if j + 1 < NV { V::load(p) } else { V::load_first(p, t.last) };
                    acc[i][j] = acc[i][j].add(s);
                }
            }
        }
        if !bias.is_null() {
            for j in 0..NV {
                let p = bias.add(V::LANES * j);
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

/// N steps of depth. KEEP: B's rows are written down.
///
/// # Safety
/// As for a [`Kernel`], from `at` on.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // as above
unsafe fn steps<
    V: Vector,
    const MR: usize,
    const NV: usize,
    const ALONG: bool,
    const PACKED: bool,
    const KEEP: bool,
    const N: usize,
>(
    t: &Tile,
    at: &mut At,
    acc: &mut [[V; NV]; MR],
) {
    let (_, a_row, a_col) = t.a;
    let b_row = if PACKED { NV * V::LANES } else { t.b.1 };
    // SAFETY: the precondition.
    unsafe {
        for n in 0..N {
            // not earlier: the vectors of several steps do not fit in the registers
            compiler_fence(Ordering::SeqCst);
            V::prefetch(at.ahead.wrapping_add(n * t.ahead.step));
            let mut row = [V::zero(); NV];
            for j in 0..NV {
                let b = at.b.add(n * b_row + V::LANES * j);
                row[j] = V::load(b);
                if PACKED && N > 1 {
                    V::prefetch(b.wrapping_add(NEAR * b_row));
                }
                if KEEP {
                    row[j].store(at.keep.add(V::LANES * (n * NV + j)));
                }
            }
            for third in 0..MR.div_ceil(3) {
                let x = match ALONG {
                    true => at.a[third].add(n),
                    false => at.a[0].add(n * a_col + 3 * third),
                };
                for i in 3 * third..MR.min(3 * third + 3) {
                    let x = V::splat(x.add((i - 3 * third) * if ALONG { a_row } else { 1 }));
                    for j in 0..NV {
                        acc[i][j] = x.mul_add(row[j], acc[i][j]);
                    }
                }
            }
        }
        for a in &mut at.a[..if ALONG { MR.div_ceil(3) } else { 1 }] {
            // or the compiler would see how they are related, and add its way from one to the next
            *a = opaque(a.wrapping_add(N * if ALONG { 1 } else { a_col }));
        }
        at.b = at.b.wrapping_add(N * b_row);
        at.ahead = at.ahead.wrapping_add(N * t.ahead.step);
        if KEEP {
            at.keep = at.keep.wrapping_add(N * NV * V::LANES);
        }
    }
}
