//! Packing: a piece of B, decoded to f32 and laid out as the micro-kernel reads it.
//!
//! The columns of the piece are cut in panels of one tile's width. A panel is stored row by row,
//! without gaps, the panels one after the other; the last one is only as wide as it must be,
//! rounded up to whole vectors, and the columns that do not exist are zero.
//!
//! A is packed only where its rows are neighbours in memory (a weight's gradient): there a tile
//! would touch another line, far away, for every step of depth. Its transpose is packed like a
//! piece of B, in panels of one vector.
use crate::{
    simd::{F32s, MOST_LANES, PrefetchHint, Simd, prefetch},
    storage::view::Stored,
};

/// A piece of B (`depth` x `cols`) where it is stored.
pub(super) struct Piece<W> {
    /// The matrix that it is a piece of.
    pub from: W,
    /// The line of its first element, and the element's place in it.
    pub line: usize,
    pub at: usize,
    /// If true, neighbours in memory are neighbours in depth and the next line is the next column:
    /// B = Wᵀ. If false, neighbours are columns and the next line is the next row: B = W.
    pub transposed: bool,
    /// Rows.
    pub depth: usize,
    /// Columns.
    pub cols: usize,
}
impl<W: Stored> Piece<W> {
    /// If it is f32 as it lies: the address of its first element, and the distance
    /// between its lines.
    pub(super) fn in_place(&self) -> Option<(*const f32, usize)> {
        self.from.in_place(self.line, self.at)
    }
}

/// Packs `from` into panels of `panel` columns (whole vectors).
///
/// # Safety
/// Every element of the piece may be read; from `to`, depth x (cols rounded up to
/// whole vectors) values may be written.
#[inline(always)]
pub(super) unsafe fn pack<S: Simd, W: Stored>(s: S, from: &Piece<W>, panel: usize, to: *mut f32) {
    // SAFETY: the preconditions are the same.
    unsafe {
        if from.transposed {
            pack_transposed(s, from, panel, to);
        } else {
            copy(s, from, panel, to);
        }
    }
}

/// A stored line becomes a column: squares of the piece are transposed in registers.
#[inline(always)]
unsafe fn pack_transposed<S: Simd, W: Stored>(s: S, from: &Piece<W>, panel: usize, to: *mut f32) {
    let Piece { from, line, at, depth, cols, .. } = *from;
    for group in (0..cols).step_by(S::V::LANES) {
        let first = group / panel * panel;
        let width = panel.min((cols - first).next_multiple_of(S::V::LANES));
        let live = S::V::LANES.min(cols - group);
        let whole = if live == S::V::LANES { depth / S::V::LANES * S::V::LANES } else { 0 };
        // SAFETY: line group + i < cols and its element p + k < depth are in the piece. The panels
        // before this one take first x depth values, and row p + k < depth of this one has `width`,
        // the group's place among them.
        unsafe {
            let to = to.add(first * depth + group - first);
            for p in (0..whole).step_by(S::V::LANES) {
                let mut square = [s.splat(0.0); MOST_LANES];
                for (i, v) in square[..S::V::LANES].iter_mut().enumerate() {
                    *v = from.load(s, line + group + i, at + p);
                }
                s.transpose_square(&mut square);
                for (k, row) in square[..S::V::LANES].iter().enumerate() {
                    row.store_at(to.add((p + k) * width), S::V::LANES);
                }
            }
            for p in (whole..depth).step_by(S::V::LANES) {
                let n = S::V::LANES.min(depth - p);
                let mut square = [s.splat(0.0); MOST_LANES];
                for (i, v) in square[..live].iter_mut().enumerate() {
                    *v = from.load_first(s, line + group + i, at + p, n);
                }
                s.transpose_square(&mut square);
                for (k, row) in square[..n].iter().enumerate() {
                    row.store_at(to.add((p + k) * width), S::V::LANES);
                }
            }
        }
    }
}

/// Lines that are asked for ahead of their use: they are far apart, and the processor does not see
/// where this leads.
const AHEAD: usize = 8;

/// A stored line stays a row.
#[inline(always)]
unsafe fn copy<S: Simd, W: Stored>(s: S, from: &Piece<W>, panel: usize, to: *mut f32) {
    let Piece { from, line, at, depth, cols, .. } = *from;
    for p in 0..depth {
        for first in (0..cols).step_by(panel) {
            let width = panel.min((cols - first).next_multiple_of(S::V::LANES));
            // SAFETY: line p < depth and its elements below `cols` are in the piece. The panels
            // before this one take first x depth values, and row p of this one has `width`.
            unsafe {
                let to = to.add(first * depth + p * width);
                for g in (0..width).step_by(S::V::LANES) {
                    let live = cols - first - g;
                    let (line, at) = (line + p, at + first + g);
                    prefetch(from.address(line + AHEAD, at), PrefetchHint::Read);
                    let v = if live >= S::V::LANES {
                        from.load(s, line, at)
                    } else {
                        from.load_first(s, line, at, live)
                    };
                    v.store_at(to.add(g), S::V::LANES);
                }
            }
        }
    }
}
