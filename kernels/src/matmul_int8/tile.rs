//! What the code of an instruction set is: a tile of C, and the packing of a block of B.
use super::plan::TOP;
use crate::{
    epilogue::AtTile,
    matmul::{self, TilePrefetch},
};
use std::ptr::{null, null_mut};

/// A block of B (`depth` x `cols`) where it is stored.
pub(super) struct Piece {
    /// Its first element.
    pub at: *const i8,
    /// If true, neighbours in memory are neighbours in depth and `stride` leads to the next column:
    /// B = Wᵀ. If false, neighbours are columns and `stride` leads to the next row: B = W.
    pub transposed: bool,
    /// Distance between the lines that are stored together.
    pub stride: usize,
    /// Rows.
    pub depth: usize,
    /// Columns.
    pub cols: usize,
}

/// The operands of one tile of C, `rows` x (`vectors` * lanes); both counts are the kernel's own.
pub(super) struct Tile {
    /// A and B as words of four bytes, and C. The bias is in the panel.
    pub of: matmul::Tile,
    /// A packed panel, `vectors` * lanes wide, from its top on; `of.b` are its words.
    pub panel: *const f32,
    /// A's scales.
    pub scales: *const f32,
}
impl Tile {
    /// A tile of the matrix of words `a` (its first element, the distance between its rows), so
    /// many words deep, with a panel `wide` words wide.
    pub fn new(words: usize, a: (*const f32, usize), panel: *const u32, wide: usize) -> Tile {
        let panel = panel.cast::<f32>();
        Tile {
            of: matmul::Tile {
                depth: words,
                a: (a.0, a.1, 1),
                ahead: TilePrefetch::nothing(a.0),
                b: (panel.wrapping_add(TOP * wide), wide),
                keep: null_mut(),
                begin: (null(), 0),
                plus: AtTile::NOTHING,
                c: (null_mut(), 0),
                last: 0,
            },
            panel,
            scales: null(),
        }
    }
}

/// A tile of a certain size: C = A B · A's scale · the column's + bias + base, in this order,
/// rounded after each step.
///
/// # Safety
/// The processor has the kernel's instructions; with R rows and V vectors of L lanes: R rows of
/// `depth` words of A, R scales, a panel of (TOP + depth) V L words, and (V - 1) L + last values of
/// each of C's R rows and of what is added lie in memory that may be read (C: written, and touched
/// by nobody else), and 1 <= last <= L.
pub(super) type TileFn = unsafe fn(&Tile);

/// Packs a piece into panels of so many columns (whole vectors): all but rows 1 and 2.
///
/// # Safety
/// The processor has the function's instructions; every element of the piece may be read; (TOP +
/// words) x (cols rounded up to whole vectors) words may be written.
pub(super) type PackFn = unsafe fn(&Piece, usize, *mut u32);
