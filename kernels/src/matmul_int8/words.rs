//! The tile and the packing, once for all vector instructions.
//!
//! The methods are `inline(always)` and carry no target feature themselves (a trait's method cannot): they fold into the
//! entry points of `avx512.rs` and `avx2.rs`, which do. Hence the precondition common to all of them: **the processor
//! has the instructions of the type**.
use super::{
    cpu::{Piece, Tile},
    plan::TOP,
};
use crate::matmul::{MOST_LANES, UNROLL, Vector, opaque, stretch};
use std::sync::atomic::{Ordering, compiler_fence};

/// A vector of 32-bit words: sums, or four bytes each.
pub(super) trait Words: Copy {
    /// The same register as floats: it moves and transposes words as they are.
    type Floats: Vector;
    /// A's word in all lanes, made ready for `dot`.
    type Left: Copy;
    /// Words in one vector.
    const LANES: usize = Self::Floats::LANES;
    /// True if `dot` takes A's bytes as they are, without sign and 128 too large.
    const RAW: bool;

    /// The bits of floats.
    unsafe fn of(floats: Self::Floats) -> Self;
    /// As floats of the same bits.
    unsafe fn bits(self) -> Self::Floats;
    /// 0 - self.
    unsafe fn negated(self) -> Self;
    /// Each of `self`'s words, a number, as a float times `by`.
    unsafe fn scaled(self, by: Self::Floats) -> Self::Floats;
    /// a · b.
    unsafe fn product(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// The word at `p` (which is aligned).
    unsafe fn left(p: *const u8) -> Self::Left;
    /// self + Σ of the four products of bytes of `a` and `b`.
    unsafe fn dot(self, a: Self::Left, b: Self) -> Self;
    /// Four lines of bytes to words of one byte from each, in order.
    unsafe fn interleave(lines: [Self; 4]) -> [Self; 4];

    #[inline(always)]
    unsafe fn load(p: *const u32) -> Self {
        // SAFETY: the processor has the instructions; the caller answers for the pointer.
        unsafe { Self::of(Self::Floats::load(p.cast())) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut u32) {
        // SAFETY: as above.
        unsafe { self.bits().store(p.cast()) }
    }
    /// The first `n` bytes from `p`, 1 <= n <= 4 LANES, and zeros; nothing behind them is read.
    #[inline(always)]
    unsafe fn load_bytes(p: *const i8, n: usize) -> Self {
        // SAFETY: `n` bytes may be read (precondition) and fit in `padded`, which holds a vector.
        unsafe {
            if n == 4 * Self::LANES {
                return Self::load(p.cast());
            }
            let mut padded = [0i8; 4 * MOST_LANES];
            std::ptr::copy_nonoverlapping(p, padded.as_mut_ptr(), n);
            Self::load(padded.as_ptr().cast())
        }
    }
}

/// Where a tile is in its operands: every third row of A, as in [`crate::matmul`], B, and what is asked for.
struct At {
    a: [*const f32; 3],
    b: *const u32,
    ahead: *const f32,
}

/// The body of every [`super::cpu::TileFn`] of MR <= 9 rows and NV vectors.
///
/// # Safety
/// As there.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // i and j are the tile's rows and vectors, in every loop
pub(super) unsafe fn tile<W: Words, const MR: usize, const NV: usize>(t: &Tile) {
    let ((base, base_row), _) = t.plus.addresses(t.c);
    let a: [*const f32; 3] = std::array::from_fn(|i| t.a.0.wrapping_add(3 * i * t.a.1).cast());
    let mut at = At { a, b: t.b.wrapping_add(TOP * W::LANES * NV), ahead: t.ahead.at };
    // SAFETY: every access lies inside the areas that the caller vouches for (see `TileFn`). The pointers wrap, because
    // after the last step they point behind the areas.
    unsafe {
        let mut row = [W::of(W::Floats::zero()); NV];
        for j in 0..NV {
            row[j] = W::load(t.b.add(W::LANES * j));
        }
        let mut sums = [row; MR];
        let (mut left, mut row) = (t.words, 0);
        while left > 0 {
            for j in 0..NV {
                if !base.is_null() {
                    W::Floats::prefetch(base.wrapping_add(row * base_row + W::LANES * j));
                }
                W::Floats::prefetch(t.c.0.wrapping_add(row * t.c.1 + W::LANES * j));
            }
            at.ahead = t.ahead.at.wrapping_add(row * t.ahead.row);
            let n = stretch(t.words, MR).min(left);
            for _ in 0..n / UNROLL {
                steps::<W, MR, NV, UNROLL>(t, &mut at, &mut sums);
            }
            for _ in 0..n % UNROLL {
                steps::<W, MR, NV, 1>(t, &mut at, &mut sums);
            }
            left -= n;
            row += 1;
        }
        let mut out = [[W::Floats::zero(); NV]; MR];
        for i in 0..MR {
            let scale = W::Floats::splat(t.scales.add(i));
            for j in 0..NV {
                let at = t.b.add(W::LANES * j).cast::<f32>();
                let v = W::product(sums[i][j].scaled(scale), W::Floats::load(at.add(W::LANES * NV)));
                out[i][j] = v.add(W::Floats::load(at.add(2 * W::LANES * NV)));
            }
        }
        if !base.is_null() {
            for i in 0..MR {
                for j in 0..NV {
                    let p = base.add(i * base_row + W::LANES * j);
                    let r = if j + 1 < NV { W::Floats::load(p) } else { W::Floats::load_first(p, t.last) };
                    out[i][j] = out[i][j].add(r);
                }
            }
        }
        for i in 0..MR {
            for j in 0..NV {
                let c = t.c.0.add(i * t.c.1 + W::LANES * j);
                if j + 1 < NV {
                    out[i][j].store(c);
                } else {
                    out[i][j].store_first(c, t.last);
                }
            }
        }
    }
}

/// N words of depth.
///
/// # Safety
/// As for [`tile`], from `at` on.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // as above
unsafe fn steps<W: Words, const MR: usize, const NV: usize, const N: usize>(
    t: &Tile,
    at: &mut At,
    sums: &mut [[W; NV]; MR],
) {
    // SAFETY: the precondition.
    unsafe {
        for n in 0..N {
            compiler_fence(Ordering::SeqCst); // as in f32
            W::Floats::prefetch(at.ahead.wrapping_add(n * t.ahead.step));
            let mut row = [W::of(W::Floats::zero()); NV];
            for j in 0..NV {
                row[j] = W::load(at.b.add(W::LANES * (n * NV + j)));
            }
            for third in 0..MR.div_ceil(3) {
                for i in 3 * third..MR.min(3 * third + 3) {
                    let x = W::left(at.a[third].add(n).cast::<u8>().add((i - 3 * third) * t.a.1));
                    for j in 0..NV {
                        sums[i][j] = sums[i][j].dot(x, row[j]);
                    }
                }
            }
        }
        for a in &mut at.a[..MR.div_ceil(3)] {
            *a = opaque(a.wrapping_add(N));
        }
        at.b = at.b.wrapping_add(N * W::LANES * NV);
        at.ahead = at.ahead.wrapping_add(N * t.ahead.step);
    }
}

/// The body of every [`super::cpu::PackFn`].
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn pack<W: Words>(from: &Piece, panel: usize, to: *mut u32) {
    // SAFETY: the preconditions are the same.
    unsafe {
        if from.transposed {
            turn::<W>(from, panel, to);
        } else {
            interleave::<W>(from, panel, to);
        }
    }
}

/// Where vectors of a packed block lie: the first word of column `group` (whole vectors) of the panels, and the width of
/// its panel.
#[inline(always)]
fn place(from: &Piece, panel: usize, lanes: usize, group: usize) -> (usize, usize) {
    let first = group / panel * panel;
    (
        first * (TOP + from.depth.div_ceil(4)) + group - first,
        panel.min((from.cols - first).next_multiple_of(lanes)),
    )
}

/// What A's bytes are too large by.
static OFFSET: u32 = 0x8080_8080;

/// A stored line becomes a column: squares of words are transposed in registers.
#[inline(always)]
unsafe fn turn<W: Words>(from: &Piece, panel: usize, to: *mut u32) {
    let Piece { at, stride, depth, cols, .. } = *from;
    for group in (0..cols).step_by(W::LANES) {
        let live = W::LANES.min(cols - group);
        let (first, width) = place(from, panel, W::LANES, group);
        // SAFETY: line group + i < cols and its bytes p .. p + n <= depth are in the piece; the place of the group has
        // rows of `width` words, TOP + words of them.
        unsafe {
            let (from, to) = (at.add(group * stride), to.add(first));
            let mut sum = W::of(W::Floats::zero());
            let offset = W::left((&raw const OFFSET).cast());
            for p in (0..depth).step_by(4 * W::LANES) {
                let n = (4 * W::LANES).min(depth - p);
                let mut square = [W::Floats::zero(); MOST_LANES];
                for (i, line) in square[..live].iter_mut().enumerate() {
                    *line = W::load_bytes(from.add(i * stride + p), n).bits();
                }
                W::Floats::transpose(&mut square);
                for (k, row) in square[..n.div_ceil(4)].iter().enumerate() {
                    row.store(to.add((TOP + p / 4 + k) * width).cast());
                    if W::RAW {
                        sum = sum.dot(offset, W::of(*row));
                    }
                }
            }
            sum.negated().store(to);
        }
    }
}

/// Words that are asked for ahead of their use: their lines are far apart, and the processor does not see where this leads.
const AHEAD: usize = 8;

/// Four stored lines become a row of words.
#[inline(always)]
unsafe fn interleave<W: Words>(from: &Piece, panel: usize, to: *mut u32) {
    let Piece { at, stride, depth, cols, .. } = *from;
    // SAFETY: line p + i < depth and its bytes g .. g + n <= cols are in the piece, and each
    // group's place has rows of `width` words, TOP + words of them.
    unsafe {
        let (zero, offset) = (W::of(W::Floats::zero()), W::left((&raw const OFFSET).cast()));
        for group in (0..cols).step_by(W::LANES) {
            zero.store(to.add(place(from, panel, W::LANES, group).0));
        }
        for p in (0..depth).step_by(4) {
            for g in (0..cols).step_by(4 * W::LANES) {
                let n = (4 * W::LANES).min(cols - g);
                let mut lines = [zero; 4];
                for (i, line) in lines[..4.min(depth - p)].iter_mut().enumerate() {
                    let at = at.add((p + i) * stride + g);
                    W::Floats::prefetch(at.wrapping_add(AHEAD * stride));
                    *line = W::load_bytes(at, n);
                }
                for (k, words) in W::interleave(lines).iter().enumerate() {
                    let group = g + k * W::LANES;
                    if group < cols {
                        let (first, width) = place(from, panel, W::LANES, group);
                        words.store(to.add(first + (TOP + p / 4) * width));
                        if W::RAW {
                            let sum = to.add(first);
                            W::load(sum).dot(offset, *words).store(sum);
                        }
                    }
                }
            }
        }
        for group in (0..cols).step_by(W::LANES) {
            let sum = to.add(place(from, panel, W::LANES, group).0);
            W::load(sum).negated().store(sum);
        }
    }
}
