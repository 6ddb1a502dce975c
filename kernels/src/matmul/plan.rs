//! How a product is cut into tasks and blocks. It depends on the shapes and the instruction set, never on the number of
//! threads: then neither does any result.
use crate::Isa;

/// C (m x cols) = A (m x depth) B (depth x cols), and its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub isa: Isa,
    pub m: usize,
    pub depth: usize,
    pub cols: usize,
    /// Vectors side by side in a tile, and rows of a tile at most.
    pub vectors: usize,
    pub tile_rows: usize,
    /// Rows of C in a task.
    pub mc: usize,
    /// Columns of C in a task: whole panels.
    pub nc: usize,
    /// Depth of a block: what is packed at a time is `kc` x `nc`.
    pub kc: usize,
    /// B is read where it lies.
    pub in_place: bool,
}

/// Up to so many rows of C, B is not worth packing if it can be read in place.
const IN_PLACE_ROWS: usize = 160;
/// Tasks are cut smaller until there are so many ...
const TASKS: usize = 16;
/// ... or they have so few rows. Below, packing would take too large a share.
const TASK_ROWS: usize = 128;
const TASK_ROWS_REPACKED: usize = 512;
/// Floats in front of a thread's panels: what they hold. A cache line, so that panels stay aligned.
pub(super) const HEADER: usize = 16;

impl Plan {
    /// `rows_stored`: B is f32 and stored row by row.
    pub(super) fn new(isa: Isa, m: usize, depth: usize, cols: usize, rows_stored: bool) -> Plan {
        let vectors = match (isa, cols.div_ceil(lanes(isa))) {
            (Isa::Avx512, n @ 1..=4) => n,
            (Isa::Avx512, _) => 3,
            (_, n) => n.clamp(1, 2),
        };
        let tile_rows = if isa == Isa::Avx512 && vectors < 4 { 9 } else { 6 };
        let panel = vectors * lanes(isa);
        let in_place =
            isa != Isa::Portable && rows_stored && m <= IN_PLACE_ROWS && cols.is_multiple_of(lanes(isa));
        // columns: a block is up to 192 wide, narrower if there were few of them
        let panels = cols.div_ceil(panel);
        let widest = 192 / panel;
        let blocks = panels.div_ceil((panels / 8).clamp(1, widest.max(1))).max(1);
        let nc = panels.div_ceil(blocks) * panel;
        let blocks = cols.div_ceil(nc.max(1)).max(1);
        // depth: a block is packed into half of a second-level cache of 1 MiB (AVX-512) or 512 KiB
        let deepest = match isa {
            _ if in_place => 192,
            Isa::Avx512 => 768.max(98304 / nc.max(1)),
            _ => 384,
        };
        let parts = depth.div_ceil(deepest).max(1);
        let kc = depth.div_ceil(parts).next_multiple_of(16);
        // rows: what the columns did not give
        let least = if parts > 1 { TASK_ROWS_REPACKED } else { TASK_ROWS };
        let rows = if in_place { 1 } else { (TASKS / blocks).clamp(1, (m / least).max(1)) };
        let mc = m.div_ceil(rows);
        Plan { isa, m, depth, cols, vectors, tile_rows, mc, nc, kc, in_place }
    }
    /// Columns of a tile.
    pub(super) fn panel(&self) -> usize {
        self.vectors * lanes(self.isa)
    }
    pub(super) fn row_blocks(&self) -> usize {
        self.m.div_ceil(self.mc.max(1))
    }
    pub(super) fn tasks(&self) -> usize {
        if self.m == 0 || self.cols == 0 { 0 } else { self.row_blocks() * self.cols.div_ceil(self.nc) }
    }
    /// Task `t`: its first row and column, rows and columns. Tasks that share columns follow one another.
    pub(super) fn task(&self, t: usize) -> (usize, usize, usize, usize) {
        let (i, j) = (t % self.row_blocks() * self.mc, t / self.row_blocks() * self.nc);
        (i, j, self.mc.min(self.m - i), self.nc.min(self.cols - j))
    }
    /// f32 values that each thread needs as its own.
    pub(super) fn floats(&self, decoded: bool) -> usize {
        let packs = if self.isa == Isa::Portable { decoded } else { !self.in_place };
        if packs && self.tasks() > 0 { HEADER + self.kc * self.nc } else { 0 }
    }
}

/// f32 values in one vector.
pub(super) fn lanes(isa: Isa) -> usize {
    match isa {
        Isa::Avx512 => 16,
        Isa::Avx2 | Isa::Portable => 8,
    }
}

/// Tile `i` of `m` rows cut into tiles of at most `most`, as even as possible (64 rows by 9: eight times 8): its first
/// row and its rows.
pub(super) fn tile(m: usize, most: usize, i: usize) -> (usize, usize) {
    let tiles = m.div_ceil(most);
    let (each, larger) = (m / tiles, m % tiles);
    (i * each + i.min(larger), each + usize::from(i < larger))
}
