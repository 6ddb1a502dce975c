//! A matrix that is packed once for many blocks of rows: for kernels that multiply more than once
//! while a block is in the second-level cache.
//!
//! ```text
//! C (rows x cols) = A (rows x depth) B (depth x cols) + ..
//! ```
#[cfg(target_arch = "x86_64")]
use super::x86::{avx2, avx512};
use super::{
    pack::Piece,
    plan::{Tiles, lanes, tile_rows},
    tile::{Tile, TilePrefetch},
};
use crate::{
    Isa,
    epilogue::AtTile,
    storage::view::{Floats, Stored},
};
use std::ptr::{null, null_mut};

/// Depth of a block of panels at most.
const DEEPEST: usize = 768;
const DEEPEST_AVX2: usize = 384;
/// Up to so many values of B, all panels pass by for each tile of rows: then A and C are
/// walked through once, as they lie. A larger B does not stay in the cache, and all rows pass
/// by for each panel.
const SMALL: usize = 128 << 10;
/// A depth from which on there is time to ask for the next tile of A.
const AHEAD: usize = 256;

/// B, (depth, cols) in memory or, if it is transposed, (cols, depth), its lines `stride` apart, and
/// how its panels are cut.
#[derive(Clone, Copy)]
pub(crate) struct Panels<'a> {
    isa: Isa,
    w: Floats<'a, f32>,
    transposed: bool,
    depth: usize,
    cols: usize,
    /// Vectors side by side in a tile, and rows of a tile at most.
    vectors: usize,
    tile_rows: usize,
    /// Depth of a block.
    kc: usize,
}

/// Where the operands of a product lie: the first element, and the distance between rows; and
/// what is added to it.
#[derive(Clone, Copy)]
pub(crate) struct Operands {
    pub a: (*const f32, usize),
    pub plus: AtTile,
    pub c: (*mut f32, usize),
}

impl<'a> Panels<'a> {
    /// `w` holds depth x cols values.
    pub(crate) fn new(
        isa: Isa,
        w: Floats<'a, f32>,
        transposed: bool,
        depth: usize,
        cols: usize,
    ) -> Panels<'a> {
        // these are what the unsafe code below relies on
        let (lines, each) = if transposed { (cols, depth) } else { (depth, cols) };
        assert!(isa.available() && w.holds(lines, each), "B is too short");
        // three vectors where they divide the columns or two do not
        let vectors = match (isa, cols.div_ceil(lanes(isa))) {
            (_, 0 | 1) => 1,
            (Isa::Avx512, n) if n % 2 != 0 || n % 3 == 0 => 3,
            _ => 2,
        };
        let tile_rows = tile_rows(isa, vectors);
        let deepest = if isa == Isa::Avx512 { DEEPEST } else { DEEPEST_AVX2 };
        let kc = depth.div_ceil(depth.div_ceil(deepest).max(1)).max(1);
        Panels { isa, w, transposed, depth, cols, vectors, tile_rows, kc }
    }
    /// f32 values of all panels of such a matrix.
    pub(crate) fn floats(isa: Isa, depth: usize, cols: usize) -> usize {
        match isa {
            Isa::Portable => 0,
            _ if depth == 0 || cols == 0 => 0,
            _ => depth * cols.next_multiple_of(lanes(isa)),
        }
    }
    /// Columns of a panel.
    fn panel(&self) -> usize {
        self.vectors * lanes(self.isa)
    }
    /// All panels pass by for each tile of rows; else all rows for each panel.
    fn by_tiles(&self) -> bool {
        self.depth * self.cols <= SMALL
    }
    fn panels(&self) -> usize {
        self.cols.div_ceil(self.panel())
    }
    /// Where the panel from row `p` (of a block of this depth) and column `j` begins.
    fn place(&self, p: usize, depth: usize, j: usize) -> usize {
        p * self.cols.next_multiple_of(lanes(self.isa)) + j * depth
    }
    /// Pieces to be packed, one apart from the other.
    pub(crate) fn pieces(&self) -> usize {
        if self.isa == Isa::Portable { 0 } else { self.panels() * self.depth.div_ceil(self.kc) }
    }
    /// Packs piece `i` < `pieces()`.
    ///
    /// # Safety
    /// From `to` on, `floats` values may be written, and nobody else touches those of this piece.
    pub(crate) unsafe fn pack(&self, i: usize, to: *mut f32) {
        let (p, j) = (i / self.panels() * self.kc, i % self.panels() * self.panel());
        let (depth, cols) = (self.kc.min(self.depth - p), self.panel().min(self.cols - j));
        let (line, at) = if self.transposed { (j, p) } else { (p, j) };
        let piece = Piece { from: self.w, line, at, transposed: self.transposed, depth, cols };
        let to = to.wrapping_add(self.place(p, depth, j));
        match self.isa {
            // SAFETY: the processor has the instructions and the piece is in `w`, as `new` has
            // asserted. Every piece has a place of its own (precondition): depth x whole
            // vectors of columns.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { avx512::pack(&piece, self.panel(), to) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { avx2::pack(&piece, self.panel(), to) },
            _ => {}
        }
    }
    /// The product of `rows` rows.
    ///
    /// # Safety
    /// `packed` points to what `pack` has made of all pieces. Of the operands and of what is added,
    /// as many rows and columns as the product needs may be read (of C: written, and nobody else
    /// touches them); A and what is added do not overlap C.
    pub(crate) unsafe fn multiply(&self, packed: *const f32, rows: usize, of: Operands) {
        if rows == 0 || self.cols == 0 {
            return;
        }
        if self.isa == Isa::Portable {
            // SAFETY: the precondition is the same.
            return unsafe { self.multiply_portable(rows, of) };
        }
        let (tiles, panels) = (Tiles::even(rows, self.tile_rows), self.panels());
        let by_tiles = self.by_tiles();
        let (mut p, mut plus) = (0, of.plus);
        loop {
            let depth = self.kc.min(self.depth - p);
            for x in 0..panels * tiles.count {
                let (s, t) =
                    if by_tiles { (x % panels, x / panels) } else { (x / tiles.count, x % tiles.count) };
                let b = packed.wrapping_add(self.place(p, depth, s * self.panel()));
                // SAFETY: the precondition.
                unsafe { self.tile(&Operands { plus, ..of }, b, (p, depth), tiles.at(t), s) };
            }
            plus = AtTile::OUTPUT;
            p += depth;
            if p >= self.depth {
                return;
            }
        }
    }
    /// One tile, of the rows from `i` on and of panel `s`, which is packed at `b`.
    ///
    /// # Safety
    /// As of `multiply`.
    unsafe fn tile(
        &self,
        of: &Operands,
        b: *const f32,
        (p, depth): (usize, usize),
        (i, rows): (usize, usize),
        s: usize,
    ) {
        let (j, lanes) = (s * self.panel(), lanes(self.isa));
        let cols = self.panel().min(self.cols - j);
        let vectors = cols.div_ceil(lanes);
        let a = of.a.0.wrapping_add(i * of.a.1 + p);
        let part = if self.by_tiles() { (s, self.panels()) } else { (0, 1) };
        let tile = Tile {
            depth,
            a: (a, of.a.1, 1),
            ahead: if depth >= AHEAD {
                TilePrefetch::next(a, of.a.1, rows, depth, part)
            } else {
                TilePrefetch::nothing(a)
            },
            b: (b, vectors * lanes),
            keep: null_mut(),
            begin: (null(), 0),
            plus: of.plus.moved(i, j),
            c: (of.c.0.wrapping_add(i * of.c.1 + j), of.c.1),
            last: cols - (vectors - 1) * lanes,
        };
        match self.isa {
            // SAFETY: the processor has the instructions (asserted in `new`). The tile is in C and
            // its operands in A, in the packed panel and in what is added (precondition).
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { avx512::kernel(rows, vectors, true, true)(&tile) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { avx2::kernel(rows, vectors, true, true)(&tile) },
            _ => {}
        }
    }
    /// # Safety
    /// As of `multiply`.
    unsafe fn multiply_portable(&self, rows: usize, of: Operands) {
        let (row, col) = if self.transposed { (1, self.w.stride) } else { (self.w.stride, 1) };
        let ((base, base_row), bias) = of.plus.addresses(of.c);
        for i in 0..rows {
            for j in 0..self.cols {
                // SAFETY: the precondition; (i, j) is in C.
                unsafe {
                    let base = if base.is_null() { 0.0 } else { *base.add(i * base_row + j) };
                    let bias = if bias.is_null() { 0.0 } else { *bias.add(j) };
                    *of.c.0.add(i * of.c.1 + j) = base + bias;
                }
            }
        }
        // SAFETY: the precondition, and B is in `w` (asserted in `new`). Strides fit isize because
        // the matrices exist.
        unsafe {
            matrixmultiply::sgemm(
                rows,
                self.depth,
                self.cols,
                1.0,
                of.a.0,
                of.a.1 as isize,
                1,
                self.w.data.as_ptr(),
                row as isize,
                col as isize,
                1.0,
                of.c.0,
                of.c.1 as isize,
                1,
            );
        }
    }
}
