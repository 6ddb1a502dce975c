//! Packing: a piece of B, decoded to f32 and laid out as the micro-kernel reads it.
//!
//! The columns of the piece are cut in panels of one tile's width. A panel is stored row by row, without gaps, the
//! panels one after the other; the last one is only as wide as it must be, rounded up to whole vectors, and the columns
//! that do not exist are zero.
//!
//! A is packed only where its rows are neighbours in memory (a weight's gradient): there a tile would touch another line,
//! far away, for every step of depth. Its transpose is packed like a piece of B, in panels of one vector.
use super::vector::{MOST_LANES, Vector};
use crate::storage::view::Stored;

/// A piece of B (`depth` x `cols`) where it is stored.
pub(super) struct Piece<S> {
    /// The matrix that it is a piece of.
    pub from: S,
    /// The line of its first element, and the element's place in it.
    pub line: usize,
    pub at: usize,
    /// If true, neighbours in memory are neighbours in depth and the next line is the next column: B = Wᵀ. If false,
    /// neighbours are columns and the next line is the next row: B = W.
    pub transposed: bool,
    /// Rows.
    pub depth: usize,
    /// Columns.
    pub cols: usize,
}
impl<S: Stored> Piece<S> {
    /// If it is f32 as it lies: the address of its first element, and the distance between its lines.
    pub(super) fn in_place(&self) -> Option<(*const f32, usize)> {
        self.from.in_place(self.line, self.at)
    }
}

/// Packs `from` into panels of `panel` columns (whole vectors).
///
/// # Safety
/// The processor has `V`'s instructions; every element of the piece may be read; from `to`, depth x (cols rounded up to
/// whole vectors) values may be written.
#[inline(always)]
pub(super) unsafe fn pack<V: Vector, S: Stored>(from: &Piece<S>, panel: usize, to: *mut f32) {
    // SAFETY: the preconditions are the same.
    unsafe {
        if from.transposed {
            turn::<V, S>(from, panel, to);
        } else {
            copy::<V, S>(from, panel, to);
        }
    }
}

/// A stored line becomes a column: squares of the piece are transposed in registers.
#[inline(always)]
unsafe fn turn<V: Vector, S: Stored>(from: &Piece<S>, panel: usize, to: *mut f32) {
    let Piece { from, line, at, depth, cols, .. } = *from;
    for group in (0..cols).step_by(V::LANES) {
        let first = group / panel * panel;
        let width = panel.min((cols - first).next_multiple_of(V::LANES));
        let live = V::LANES.min(cols - group);
        let whole = if live == V::LANES { depth / V::LANES * V::LANES } else { 0 };
        // SAFETY: line group + i < cols and its element p + k < depth are in the piece. The panels before this one
        // take first x depth values, and row p + k < depth of this one has `width`, the group's place among them.
        unsafe {
            let to = to.add(first * depth + group - first);
            for p in (0..whole).step_by(V::LANES) {
                let mut square = [V::zero(); MOST_LANES];
                for (i, v) in square[..V::LANES].iter_mut().enumerate() {
                    *v = from.load(line + group + i, at + p);
                }
                V::transpose(&mut square);
                for (k, row) in square[..V::LANES].iter().enumerate() {
                    row.store(to.add((p + k) * width));
                }
            }
            for p in (whole..depth).step_by(V::LANES) {
                let n = V::LANES.min(depth - p);
                let mut square = [V::zero(); MOST_LANES];
                for (i, v) in square[..live].iter_mut().enumerate() {
                    *v = from.load_first(line + group + i, at + p, n);
                }
                V::transpose(&mut square);
                for (k, row) in square[..n].iter().enumerate() {
                    row.store(to.add((p + k) * width));
                }
            }
        }
    }
}

/// Lines that are asked for ahead of their use: they are far apart, and the processor does not see where this leads.
const AHEAD: usize = 8;

/// A stored line stays a row.
#[inline(always)]
unsafe fn copy<V: Vector, S: Stored>(from: &Piece<S>, panel: usize, to: *mut f32) {
    let Piece { from, line, at, depth, cols, .. } = *from;
    for p in 0..depth {
        for first in (0..cols).step_by(panel) {
            let width = panel.min((cols - first).next_multiple_of(V::LANES));
            // SAFETY: line p < depth and its elements below `cols` are in the piece. The panels before this one take
            // first x depth values, and row p of this one has `width`.
            unsafe {
                let to = to.add(first * depth + p * width);
                for g in (0..width).step_by(V::LANES) {
                    let live = cols - first - g;
                    let (line, at) = (line + p, at + first + g);
                    V::prefetch(from.address(line + AHEAD, at));
                    let v: V =
                        if live >= V::LANES { from.load(line, at) } else { from.load_first(line, at, live) };
                    v.store(to.add(g));
                }
            }
        }
    }
}
