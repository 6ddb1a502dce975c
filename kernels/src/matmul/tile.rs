//! The micro-kernel: one tile of C, held in registers while the depth passes by.
//!
//! ```text
//! for p in 0..depth:   NV vectors of row p of B;  for each of MR rows: broadcast A[i][p], NV multiply-adds
//! ```
//! B comes from a packed panel (or from a matrix in place); A is read where it lies, its rows or
//! its columns neighbours. What is multiplied and summed, floats or words of four bytes, is an
//! [`Arithmetic`]; what the sums become is up to the kernel, which ends with [`write`].
//!
//! What comes from far is asked for while the tile is computed, a little at a time: a processor
//! waits for some ten lines at once, and the next load, though from a near cache, would wait behind
//! them. So the depth is cut in as many stretches as there are rows; each begins by asking for a
//! row of what the tile ends with, and goes on, step by step, with addresses that the caller names
//! ([`TilePrefetch`]).
use crate::{
    epilogue::AtTile,
    simd::{F32s, PrefetchHint, Simd, opaque, prefetch},
};
use std::sync::atomic::{Ordering, compiler_fence};

/// The operands of one tile of C, `rows` x (`vectors` * LANES); both counts are the kernel's own.
pub(crate) struct Tile {
    /// Products to be summed.
    pub depth: usize,
    /// A's first element, and the distances between its rows and columns, one of which is 1.
    pub a: (*const f32, usize, usize),
    /// What is asked for.
    pub ahead: TilePrefetch,
    /// B's first element, and the distance between its rows: if B is packed, their length. Whole
    /// vectors are read.
    pub b: (*const f32, usize),
    /// Where B's rows, if it is not packed, are written as they are read, without
    /// gaps; null: nowhere.
    pub keep: *mut f32,
    /// What the sums of floats begin with, and the distance between its rows, in whole vectors;
    /// null for nothing.
    pub begin: (*const f32, usize),
    /// What is added to the products.
    pub plus: AtTile,
    /// C's first element, and the distance between its rows.
    pub c: (*mut f32, usize),
    /// Columns of the last vector that exist in C and in what is added.
    pub last: usize,
}

/// Addresses to be asked for, one with each step of depth. They may be any; one that is in the
/// cache anyway costs next to nothing.
#[derive(Clone, Copy)]
pub(crate) struct TilePrefetch {
    /// The first one.
    pub at: *const f32,
    /// How far apart two rows of the tile begin.
    pub row: usize,
    /// How far the address moves on with each step.
    pub step: usize,
}
impl TilePrefetch {
    /// Nothing new: what is at `near` is in the cache.
    pub(crate) fn nothing(near: *const f32) -> TilePrefetch {
        TilePrefetch { at: near, row: 0, step: 0 }
    }
    /// From `at`, `step` on with each step of a tile of this depth and so many rows.
    pub(crate) fn line(at: *const f32, step: usize, depth: usize, rows: usize) -> TilePrefetch {
        TilePrefetch { at, row: stretch(depth, rows) * step, step }
    }
    /// Part `part` of `parts` of the next tile's rows, which follow this one's at `a`, `row` apart.
    pub(crate) fn next(
        a: *const f32,
        row: usize,
        rows: usize,
        depth: usize,
        (part, parts): (usize, usize),
    ) -> TilePrefetch {
        TilePrefetch {
            at: a.wrapping_add(rows * row + part * depth / parts),
            row,
            step: rows.div_ceil(parts),
        }
    }
}

/// Steps of depth that are written out one after the other. Beside the multiply-adds there is then
/// little else to be issued, which counts where two threads share a core.
const UNROLL: usize = 4;

/// Rows between the one that is read of a packed B, which lies in the second-level cache, and the
/// one that is asked for.
const NEAR: usize = 16;

/// Steps between two rows that are asked for.
fn stretch(depth: usize, rows: usize) -> usize {
    depth.div_ceil(rows).next_multiple_of(UNROLL)
}

/// A tile of a certain size.
///
/// # Safety
/// The processor has the kernel's instructions; with R rows and V vectors of L lanes: R x depth
/// elements of A, depth x V L of B, R x V L of what the sums begin with (if any) and
/// R x ((V - 1) L + last) of C and of what is added lie in memory that may be read (C: written,
/// and touched by nobody else), and 1 <= last <= L; so may, unless `keep` is null, depth x V L
/// values there be written.
pub(crate) type Kernel = unsafe fn(&Tile);

/// What a tile computes with. Its operands are 32 bits wide: floats, or words of four bytes.
pub(crate) trait Arithmetic: Copy {
    /// The vectors' instructions.
    type S: Simd;
    /// A vector of sums, or of B.
    type V: Copy;
    /// An element of A for all lanes, made ready.
    type Left: Copy;
    /// Rows of a packed B are asked for ahead.
    const NEAR: bool;
    /// No sum yet.
    fn zero(self) -> Self::V;
    /// The element of A at `p`.
    ///
    /// # Safety
    /// It may be read.
    unsafe fn left(self, p: *const f32) -> Self::Left;
    /// The vector at `p`.
    ///
    /// # Safety
    /// It may be read.
    unsafe fn load(self, p: *const f32) -> Self::V;
    /// Writes a vector to `p`.
    ///
    /// # Safety
    /// It may be written.
    unsafe fn store(self, v: Self::V, p: *mut f32);
    /// sum + a b.
    fn step(self, sum: Self::V, a: Self::Left, b: Self::V) -> Self::V;
}

/// Floats, each product and sum rounded once.
#[derive(Clone, Copy)]
pub(super) struct Floats<S>(pub S);
impl<S: Simd> Arithmetic for Floats<S> {
    type S = S;
    type V = S::V;
    type Left = S::V;
    const NEAR: bool = true;
    #[inline(always)]
    fn zero(self) -> S::V {
        self.0.splat(0.0)
    }
    #[inline(always)]
    unsafe fn left(self, p: *const f32) -> S::V {
        // SAFETY: the precondition.
        self.0.splat(unsafe { *p })
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> S::V {
        // SAFETY: the precondition is the same.
        unsafe { self.0.load_at(p) }
    }
    #[inline(always)]
    unsafe fn store(self, v: S::V, p: *mut f32) {
        // SAFETY: the precondition is the same.
        unsafe { v.store_at(p, S::V::LANES) }
    }
    #[inline(always)]
    fn step(self, sum: S::V, a: S::V, b: S::V) -> S::V {
        a.fma(b, sum)
    }
}

/// Vectors of a tile: MR rows of NV.
pub(crate) type Vectors<V, const MR: usize, const NV: usize> = [[V; NV]; MR];

/// Where a tile is in its operands.
struct At {
    /// Every third row of A. An address is one of them and up to twice the distance between rows,
    /// which costs no instruction of its own.
    a: [*const f32; 5],
    b: *const f32,
    ahead: *const f32,
    keep: *mut f32,
}

/// The body of every [`Kernel`] of MR rows and NV vectors. ALONG: A's columns are neighbours; else
/// its rows are. PACKED: B's rows follow one another.
///
/// # Safety
/// As for a [`Kernel`].
#[inline(always)]
#[allow(clippy::needless_range_loop)] // i and j are the tile's rows and vectors, in every loop
pub(super) unsafe fn tile<
    S: Simd,
    const MR: usize,
    const NV: usize,
    const ALONG: bool,
    const PACKED: bool,
>(
    s: S,
    t: &Tile,
) {
    // SAFETY: the precondition is the same.
    unsafe {
        let mut begin = [[s.splat(0.0); NV]; MR];
        if !t.begin.0.is_null() {
            for i in 0..MR {
                for j in 0..NV {
                    begin[i][j] = s.load_at(t.begin.0.add(i * t.begin.1 + S::V::LANES * j));
                }
            }
        }
        let sums = sums::<_, MR, NV, ALONG, PACKED>(Floats(s), t, begin);
        write(s, t, sums);
    }
}

/// The sums of a tile, which begin with `acc`.
///
/// # Safety
/// As for a [`Kernel`]; C and what is added are not touched.
#[inline(always)]
pub(crate) unsafe fn sums<
    A: Arithmetic,
    const MR: usize,
    const NV: usize,
    const ALONG: bool,
    const PACKED: bool,
>(
    by: A,
    t: &Tile,
    mut acc: Vectors<A::V, MR, NV>,
) -> Vectors<A::V, MR, NV> {
    let lanes = <A::S as Simd>::V::LANES;
    let (a, a_row, _) = t.a;
    let ((base, base_row), _) = t.plus.addresses(t.c);
    let thirds = std::array::from_fn(|i| a.wrapping_add(if ALONG { 3 * i * a_row } else { 0 }));
    let mut at = At { a: thirds, b: t.b.0, ahead: t.ahead.at, keep: t.keep };
    // SAFETY: every access lies inside the areas that the caller vouches for (see `Kernel`). The
    // pointers wrap, because after the last step they may point past the areas.
    unsafe {
        let (mut left, mut row) = (t.depth, 0);
        while left > 0 {
            for j in 0..NV {
                if !base.is_null() {
                    prefetch(base.wrapping_add(row * base_row + lanes * j), PrefetchHint::Read);
                }
                prefetch(t.c.0.wrapping_add(row * t.c.1 + lanes * j), PrefetchHint::Read);
            }
            at.ahead = t.ahead.at.wrapping_add(row * t.ahead.row);
            let n = stretch(t.depth, MR).min(left);
            if PACKED || at.keep.is_null() {
                for _ in 0..n / UNROLL {
                    steps::<A, MR, NV, ALONG, PACKED, false, UNROLL>(by, t, &mut at, &mut acc);
                }
                for _ in 0..n % UNROLL {
                    steps::<A, MR, NV, ALONG, PACKED, false, 1>(by, t, &mut at, &mut acc);
                }
            } else {
                for _ in 0..n {
                    steps::<A, MR, NV, ALONG, PACKED, true, 1>(by, t, &mut at, &mut acc);
                }
            }
            left -= n;
            row += 1;
        }
        acc
    }
}

/// N steps of depth. KEEP: B's rows are written down.
///
/// # Safety
/// As for a [`Kernel`], from `at` on.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // as above
unsafe fn steps<
    A: Arithmetic,
    const MR: usize,
    const NV: usize,
    const ALONG: bool,
    const PACKED: bool,
    const KEEP: bool,
    const N: usize,
>(
    by: A,
    t: &Tile,
    at: &mut At,
    acc: &mut Vectors<A::V, MR, NV>,
) {
    let lanes = <A::S as Simd>::V::LANES;
    let (_, a_row, a_col) = t.a;
    let b_row = if PACKED { NV * lanes } else { t.b.1 };
    // SAFETY: the precondition.
    unsafe {
        for n in 0..N {
            // not earlier: the vectors of several steps do not fit in the registers
            compiler_fence(Ordering::SeqCst);
            prefetch(at.ahead.wrapping_add(n * t.ahead.step), PrefetchHint::Read);
            let mut row = [by.zero(); NV];
            for j in 0..NV {
                let b = at.b.add(n * b_row + lanes * j);
                row[j] = by.load(b);
                if A::NEAR && PACKED && N > 1 {
                    prefetch(b.wrapping_add(NEAR * b_row), PrefetchHint::Read);
                }
                if KEEP {
                    by.store(row[j], at.keep.add(lanes * (n * NV + j)));
                }
            }
            for third in 0..MR.div_ceil(3) {
                let x = match ALONG {
                    true => at.a[third].add(n),
                    false => at.a[0].add(n * a_col + 3 * third),
                };
                for i in 3 * third..MR.min(3 * third + 3) {
                    let x = by.left(x.add((i - 3 * third) * if ALONG { a_row } else { 1 }));
                    for j in 0..NV {
                        acc[i][j] = by.step(acc[i][j], x, row[j]);
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
            at.keep = at.keep.wrapping_add(N * NV * lanes);
        }
    }
}

/// C = what the sums have become + base + bias, in this order.
///
/// # Safety
/// As for a [`Kernel`]; neither A nor B is touched.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // as above
pub(crate) unsafe fn write<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    t: &Tile,
    mut out: Vectors<S::V, MR, NV>,
) {
    let lanes = S::V::LANES;
    let ((base, base_row), bias) = t.plus.addresses(t.c);
    // SAFETY: the precondition.
    unsafe {
        if !base.is_null() {
            for i in 0..MR {
                for j in 0..NV {
                    out[i][j] = out[i][j] + some(s, base.add(i * base_row + lanes * j), j + 1 == NV, t.last);
                }
            }
        }
        if !bias.is_null() {
            for j in 0..NV {
                let b = some(s, bias.add(lanes * j), j + 1 == NV, t.last);
                for i in 0..MR {
                    out[i][j] = out[i][j] + b;
                }
            }
        }
        for i in 0..MR {
            for j in 0..NV {
                let n = if j + 1 < NV { lanes } else { t.last };
                out[i][j].store_at(t.c.0.add(i * t.c.1 + lanes * j), n);
            }
        }
    }
}
/// The vector at `p`, of which, if it is the last of its row, the first `n` values exist.
///
/// # Safety
/// They may be read.
#[inline(always)]
unsafe fn some<S: Simd>(s: S, p: *const f32, last: bool, n: usize) -> S::V {
    // SAFETY: the precondition.
    unsafe { if last { s.load_first(p, n) } else { s.load_at(p) } }
}
