//! Packing: a piece of B, decoded to f32 and laid out as the micro-kernel reads it.
//!
//! The columns of the piece are cut in panels of one tile's width. A panel is stored row by row, without gaps, the
//! panels one after the other; the last one is only as wide as it must be, rounded up to whole vectors, and the columns
//! that do not exist are zero.
use super::vector::{MOST_LANES, Stored, Vector};

/// A piece of B (`depth` x `cols`) where it is stored.
pub(super) struct Piece<E> {
    /// Its first element.
    pub at: *const E,
    /// If true, neighbours in memory are neighbours in depth and `stride` leads to the next column: B = Wᵀ. If false,
    /// neighbours are columns and `stride` leads to the next row: B = W.
    pub transposed: bool,
    /// Distance between the lines that are stored together.
    pub stride: usize,
    /// Rows.
    pub depth: usize,
    /// Columns.
    pub cols: usize,
}

/// Packs `from` into panels of `panel` columns (whole vectors).
///
/// # Safety
/// The processor has `V`'s instructions; every element of the piece may be read; from `to`, depth x (cols rounded up to
/// whole vectors) values may be written.
#[inline(always)]
pub(super) unsafe fn pack<V: Vector, E: Stored>(from: &Piece<E>, panel: usize, to: *mut f32) {
    // SAFETY: the preconditions are the same.
    unsafe {
        if from.transposed {
            turn::<V, E>(from, panel, to);
        } else {
            copy::<V, E>(from, panel, to);
        }
    }
}

/// A stored line becomes a column: squares of the piece are transposed in registers.
#[inline(always)]
unsafe fn turn<V: Vector, E: Stored>(from: &Piece<E>, panel: usize, to: *mut f32) {
    let Piece { at, stride, depth, cols, .. } = *from;
    for group in (0..cols).step_by(V::LANES) {
        let first = group / panel * panel;
        let width = panel.min((cols - first).next_multiple_of(V::LANES));
        let live = V::LANES.min(cols - group);
        let whole = if live == V::LANES { depth / V::LANES * V::LANES } else { 0 };
        // SAFETY: line group + i < cols and its element p + k < depth are in the piece. The panels before this one
        // take first x depth values, and row p + k < depth of this one has `width`, the group's place among them.
        unsafe {
            let from = at.add(group * stride);
            let to = to.add(first * depth + group - first);
            for p in (0..whole).step_by(V::LANES) {
                let mut square = [V::zero(); MOST_LANES];
                for (i, line) in square[..V::LANES].iter_mut().enumerate() {
                    *line = E::load(from.add(i * stride + p));
                }
                V::transpose(&mut square);
                for (k, row) in square[..V::LANES].iter().enumerate() {
                    row.store(to.add((p + k) * width));
                }
            }
            for p in (whole..depth).step_by(V::LANES) {
                let n = V::LANES.min(depth - p);
                let mut square = [V::zero(); MOST_LANES];
                for (i, line) in square[..live].iter_mut().enumerate() {
                    *line = E::load_first(from.add(i * stride + p), n);
                }
                V::transpose(&mut square);
                for (k, row) in square[..n].iter().enumerate() {
                    row.store(to.add((p + k) * width));
                }
            }
        }
    }
}

/// A stored line stays a row.
#[inline(always)]
unsafe fn copy<V: Vector, E: Stored>(from: &Piece<E>, panel: usize, to: *mut f32) {
    let Piece { at, stride, depth, cols, .. } = *from;
    for p in 0..depth {
        for first in (0..cols).step_by(panel) {
            let width = panel.min((cols - first).next_multiple_of(V::LANES));
            // SAFETY: line p < depth and its elements below `cols` are in the piece. The panels before this one take
            // first x depth values, and row p of this one has `width`.
            unsafe {
                let line = at.add(p * stride + first);
                let to = to.add(first * depth + p * width);
                for g in (0..width).step_by(V::LANES) {
                    let live = cols - first - g;
                    let v: V = if live >= V::LANES {
                        E::load(line.add(g))
                    } else {
                        E::load_first(line.add(g), live)
                    };
                    v.store(to.add(g));
                }
            }
        }
    }
}
