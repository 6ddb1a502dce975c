//! The tile and the packing, once for all vector instructions.
//!
//! The tile is that of [`crate::matmul`] with other vectors: [`ByteDot`].
use super::{
    plan::TOP,
    tile::{Piece, Tile},
};
use crate::{
    matmul::tile::{Arithmetic, sums, write},
    simd::{F32s, MOST_LANES, PrefetchHint, Simd, prefetch},
};

/// What multiplies vectors of 32-bit words: sums, or four bytes each. Their products are sums of
/// four products of bytes.
pub(super) trait ByteDot: Arithmetic {
    /// True if A's bytes are taken as they are, without sign and 128 too large.
    const RAW: bool;
    /// The token of the vectors' instructions.
    fn simd(self) -> Self::S;
    /// The words of these bits.
    fn of(self, floats: Floats<Self>) -> Self::V;
    /// As floats of the same bits.
    fn bits(self, words: Self::V) -> Floats<Self>;
    /// 0 - words.
    fn negated(self, words: Self::V) -> Self::V;
    /// Each of the words, a number, as a float.
    fn numbers(self, words: Self::V) -> Floats<Self>;
    /// Four lines of bytes to words of one byte from each, in order.
    fn interleave(self, lines: [Self::V; 4]) -> [Self::V; 4];

    /// The first `n` bytes from `p`, 1 <= n <= 4 LANES, and zeros; nothing behind them is read.
    ///
    /// # Safety
    /// `n` bytes may be read.
    #[inline(always)]
    unsafe fn load_bytes(self, p: *const i8, n: usize) -> Self::V {
        // SAFETY: `n` bytes may be read (precondition) and fit in `padded`, which holds a vector.
        unsafe {
            if n == 4 * lanes::<Self>() {
                return self.load(p.cast());
            }
            let mut padded = [0i8; 4 * MOST_LANES];
            std::ptr::copy_nonoverlapping(p, padded.as_mut_ptr(), n);
            self.load(padded.as_ptr().cast())
        }
    }
}
/// The vectors of floats beside those of words.
pub(super) type Floats<W> = <<W as Arithmetic>::S as Simd>::V;
/// Words in a vector.
const fn lanes<W: Arithmetic>() -> usize {
    <Floats<W> as F32s>::LANES
}

/// The body of every [`super::tile::TileFn`] of MR rows and NV vectors.
///
/// # Safety
/// As there.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // i and j are the tile's rows and vectors, in every loop
pub(super) unsafe fn tile<W: ByteDot, const MR: usize, const NV: usize>(w: W, t: &Tile) {
    let (s, lanes) = (w.simd(), lanes::<W>());
    // SAFETY: every access lies inside the areas that the caller vouches for (see `TileFn`).
    unsafe {
        let mut first = [w.zero(); NV];
        for j in 0..NV {
            first[j] = w.load(t.panel.add(lanes * j));
        }
        let sums = sums::<W, MR, NV, true, true>(w, &t.of, [first; MR]);
        let mut out = [[s.splat(0.0); NV]; MR];
        for i in 0..MR {
            let scale = s.splat(*t.scales.add(i));
            for j in 0..NV {
                let at = t.panel.add(lanes * j);
                let v = w.numbers(sums[i][j]) * scale * s.load_at(at.add(lanes * NV));
                out[i][j] = v + s.load_at(at.add(2 * lanes * NV));
            }
        }
        write(s, &t.of, out);
    }
}

/// The body of every [`super::tile::PackFn`].
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn pack<W: ByteDot>(w: W, from: &Piece, panel: usize, to: *mut u32) {
    let to = to.cast();
    // SAFETY: the preconditions are the same.
    unsafe {
        if from.transposed {
            pack_transposed(w, from, panel, to);
        } else {
            interleave(w, from, panel, to);
        }
    }
}

/// Where vectors of a packed block lie: the first word of column `group` (whole vectors) of the
/// panels, and the width of its panel.
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
unsafe fn pack_transposed<W: ByteDot>(w: W, from: &Piece, panel: usize, to: *mut f32) {
    let Piece { at, stride, depth, cols, .. } = *from;
    let lanes = lanes::<W>();
    for group in (0..cols).step_by(lanes) {
        let live = lanes.min(cols - group);
        let (first, width) = place(from, panel, lanes, group);
        // SAFETY: line group + i < cols and its bytes p .. p + n <= depth are in the piece; the
        // place of the group has rows of `width` words, TOP + words of them.
        unsafe {
            let (from, to) = (at.add(group * stride), to.add(first));
            let mut sum = w.zero();
            let offset = w.left((&raw const OFFSET).cast());
            for p in (0..depth).step_by(4 * lanes) {
                let n = (4 * lanes).min(depth - p);
                let mut square = [w.simd().splat(0.0); MOST_LANES];
                for (i, line) in square[..live].iter_mut().enumerate() {
                    *line = w.bits(w.load_bytes(from.add(i * stride + p), n));
                }
                w.simd().transpose_square(&mut square);
                for (k, row) in square[..n.div_ceil(4)].iter().enumerate() {
                    let row = w.of(*row);
                    w.store(row, to.add((TOP + p / 4 + k) * width));
                    if W::RAW {
                        sum = w.step(sum, offset, row);
                    }
                }
            }
            w.store(w.negated(sum), to);
        }
    }
}

/// Words that are asked for ahead of their use: their lines are far apart, and the processor does
/// not see where this leads.
const AHEAD: usize = 8;

/// Four stored lines become a row of words.
#[inline(always)]
unsafe fn interleave<W: ByteDot>(w: W, from: &Piece, panel: usize, to: *mut f32) {
    let Piece { at, stride, depth, cols, .. } = *from;
    let lanes = lanes::<W>();
    // SAFETY: line p + i < depth and its bytes g .. g + n <= cols are in the piece, and each
    // group's place has rows of `width` words, TOP + words of them.
    unsafe {
        let (zero, offset) = (w.zero(), w.left((&raw const OFFSET).cast()));
        for group in (0..cols).step_by(lanes) {
            w.store(zero, to.add(place(from, panel, lanes, group).0));
        }
        for p in (0..depth).step_by(4) {
            for g in (0..cols).step_by(4 * lanes) {
                let n = (4 * lanes).min(cols - g);
                let mut lines = [zero; 4];
                for (i, line) in lines[..4.min(depth - p)].iter_mut().enumerate() {
                    let at = at.add((p + i) * stride + g);
                    prefetch(at.wrapping_add(AHEAD * stride), PrefetchHint::Read);
                    *line = w.load_bytes(at, n);
                }
                for (k, words) in w.interleave(lines).into_iter().enumerate() {
                    let group = g + k * lanes;
                    if group < cols {
                        let (first, width) = place(from, panel, lanes, group);
                        w.store(words, to.add(first + (TOP + p / 4) * width));
                        if W::RAW {
                            let sum = to.add(first);
                            w.store(w.step(w.load(sum), offset, words), sum);
                        }
                    }
                }
            }
        }
        for group in (0..cols).step_by(lanes) {
            let sum = to.add(place(from, panel, lanes, group).0);
            w.store(w.negated(w.load(sum)), sum);
        }
    }
}
