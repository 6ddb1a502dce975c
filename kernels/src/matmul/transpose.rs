//! A block of C that was computed transposed, and is now written to its place.
use crate::{
    epilogue::AtTile,
    simd::{F32s, MOST_LANES, Simd},
};

/// A block of Cᵀ, `rows` x `cols`, and where its transpose goes.
pub(super) struct Block {
    /// Its first element and the distance between its rows: whole vectors of columns.
    pub from: (*const f32, usize),
    pub rows: usize,
    pub cols: usize,
    /// What is added, as C lies.
    pub plus: AtTile,
    /// C's first element, and the distance between its rows.
    pub c: (*mut f32, usize),
}

/// C = blockᵀ + base + bias, in this order, as the tiles do it. Squares are
/// transposed in registers.
///
/// # Safety
/// Of the block, all rows and whole vectors of columns may be read; of C's cols x rows elements and
/// of its columns, what is added may be read; C may be written, and nobody else touches it.
#[inline(always)]
pub(super) unsafe fn write_transposed<S: Simd>(s: S, b: &Block) {
    let ((base, base_row), bias) = b.plus.addresses(b.c);
    for x in (0..b.rows).step_by(S::V::LANES) {
        let high = S::V::LANES.min(b.rows - x);
        for y in (0..b.cols).step_by(S::V::LANES) {
            let wide = S::V::LANES.min(b.cols - y);
            // SAFETY: row x + i < rows of the block has a whole vector at `y`; row y + i < cols of
            // C has `high` elements at `x`, and so has what is added.
            unsafe {
                let mut square = [s.splat(0.0); MOST_LANES];
                for (i, v) in square[..high].iter_mut().enumerate() {
                    *v = s.load_at(b.from.0.add((x + i) * b.from.1 + y));
                }
                s.transpose_square(&mut square);
                for (i, v) in square[..wide].iter().enumerate() {
                    let mut v = *v;
                    if !base.is_null() {
                        v = v + s.load_first(base.add((y + i) * base_row + x), high);
                    }
                    if !bias.is_null() {
                        v = v + s.load_first(bias.add(x), high);
                    }
                    let to = b.c.0.add((y + i) * b.c.1 + x);
                    v.store_at(to, high);
                }
            }
        }
    }
}
