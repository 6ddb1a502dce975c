//! How a product is cut into tasks and blocks. It depends on the shapes and the instruction set,
//! never on the number of threads: then neither does any result.
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
    /// Depth of a block: what is summed before it is added to C. What is packed at a
    /// time is `kc` x `nc`.
    pub kc: usize,
    /// Depth of what passes by at a time: a block, or a part of one if B is read in place.
    pub step: usize,
    /// B is read where it lies.
    pub in_place: bool,
    /// A's rows are packed too, so many tiles at a time; 0: A is read where it lies.
    pub group: usize,
    /// C is computed transposed: a task's block of Cᵀ apart, which is then written down.
    pub c_transposed: bool,
    /// B's columns are packed for all depths at once.
    pub whole: bool,
    /// So few rows of A that B is read where it lies and decoded on the way.
    pub few: bool,
}

/// Up to so many rows of C, B is not worth packing if it can be read in place
const IN_PLACE_ROWS: usize = 96;
/// (more, if A would be packed too).
const IN_PLACE_A_TRANSPOSED: usize = 160;
/// Depth that passes by at a time if B is read in place: its rows are far apart, and a panel should
/// stay in the first-level cache or near it.
const IN_PLACE_DEPTH: usize = 192;
/// Up to so many rows of activations, of so many values at most, those are packed and the weight is
/// read where it lies ...
const C_TRANSPOSED_ROWS: usize = 128;
const C_TRANSPOSED_VALUES: usize = 320 << 10;
/// ... by so many tasks, of at least so many of its lines.
const C_TRANSPOSED_TASKS: usize = 16;
const C_TRANSPOSED_LINES: usize = 48;
/// Up to so many rows of A, B is not packed at all: then tasks are so many, of columns within ...
const FEW: usize = 8;
const FEW_TASKS: usize = 4;
/// ... these bounds.
const FEW_COLS: (usize, usize) = (64, 768);
/// Columns are cut into blocks of at most so many ...
const BLOCK: usize = 192;
/// ... and into so many blocks at least, if there are as many panels; fewer, if each
/// block packs A again.
const BLOCKS: usize = 8;
const BLOCKS_PACKING_A: usize = 4;
/// Tasks are cut smaller until there are so many ...
const TASKS: usize = 64;
/// ... or they have so few rows: below, packing would take too large a share (more so if each task
/// packs for itself).
const TASK_ROWS: usize = 128;
const TASK_ROWS_REPACKED: usize = 512;
/// Values of a piece of B that is packed once: deeper than others if there is one block of columns
/// only, or narrower.
const ONCE: usize = 192 << 10;
/// Values of a group of packed tiles of A.
const GROUP: usize = 64 << 10;
/// Floats in front of a thread's panels: what they hold. A cache line, so that panels stay aligned.
pub(super) const HEADER: usize = 16;

impl Plan {
    /// `a_transposed`: neighbours in A's memory are rows. `by_rows`: B is f32 and
    /// stored row by row.
    ///
    /// How deep a block is depends, unless `a_transposed`, on depth and columns alone: then a row
    /// of C is the same whatever rows stand beside it.
    pub(super) fn new(
        isa: Isa,
        m: usize,
        depth: usize,
        cols: usize,
        a_transposed: bool,
        by_rows: bool,
    ) -> Plan {
        let vectorised = isa != Isa::Portable;
        let few = if a_transposed { IN_PLACE_A_TRANSPOSED } else { IN_PLACE_ROWS };
        let in_place = vectorised && by_rows && m <= few && cols.is_multiple_of(lanes(isa));
        let pack_a = vectorised && a_transposed && !in_place;
        let (vectors, tile_rows) = match tile(isa, cols.div_ceil(lanes(isa))) {
            // packed in panels of one vector, of which a tile is half; it is then no wider than
            // the registers allow
            (vectors, _) if pack_a => (if vectors > 3 { 2 } else { vectors }, lanes(isa) / 2),
            size => size,
        };
        let panel = vectors * lanes(isa);
        // columns: narrower blocks where that gives few
        let panels = cols.div_ceil(panel).max(1);
        let few = if pack_a { BLOCKS_PACKING_A } else { BLOCKS };
        let blocks = panels.div_ceil((panels / few).clamp(1, (BLOCK / panel).max(1)));
        let nc = panels.div_ceil(blocks) * panel;
        let blocks = cols.div_ceil(nc);
        // depth: what is packed at a time must leave room in a second-level cache
        let deepest = match isa {
            _ if in_place && a_transposed => IN_PLACE_DEPTH,
            Isa::Avx512 if blocks == 1 => (ONCE / nc).max(768),
            Isa::Avx512 if pack_a => 512,
            Isa::Avx512 => 768,
            _ => 384,
        };
        let parts = depth.div_ceil(deepest).max(1);
        let kc = depth.div_ceil(parts).next_multiple_of(16);
        let steps = if in_place { kc.div_ceil(IN_PLACE_DEPTH).max(1) } else { 1 };
        let step = kc.div_ceil(steps).next_multiple_of(16);
        let narrow = ONCE / depth.max(1) / panel * panel;
        let whole = vectorised && !in_place && !pack_a && parts > 1 && narrow > 0;
        let nc = if whole { nc.min(narrow) } else { nc };
        let blocks = cols.div_ceil(nc);
        // rows: blocks where there are few blocks of columns
        let least = if parts > 1 && !whole { TASK_ROWS_REPACKED } else { TASK_ROWS };
        let rows = if in_place { 1 } else { (TASKS / blocks.max(1)).clamp(1, (m / least).max(1)) };
        let mc = m.div_ceil(rows);
        let group = if pack_a {
            (GROUP / (2 * tile_rows * kc).max(1)).clamp(1, mc.div_ceil(2 * tile_rows).max(1)) * 2
        } else {
            0
        };
        let plan = Plan {
            isa,
            m,
            depth,
            cols,
            vectors,
            tile_rows,
            mc,
            nc,
            kc,
            step,
            in_place,
            group,
            c_transposed: false,
            whole,
            few: false,
        };
        let few = vectorised && !a_transposed && (1..=FEW).contains(&m);
        if few { plan.of_few() } else { plan }
    }
    /// The same sums of few rows.
    fn of_few(self) -> Plan {
        let (least, most) = FEW_COLS;
        let nc = self.cols.div_ceil(FEW_TASKS).clamp(least, most).next_multiple_of(lanes(self.isa));
        Plan { few: true, mc: self.m, nc, step: self.kc, in_place: false, group: 0, whole: false, ..self }
    }
    /// y (m x n) = x Wᵀ, W (n x depth), which is plain f32 or not. With few rows, its transpose W
    /// xᵀ is computed: then what must be turned for the tiles is x and not the weight. How sums are
    /// grouped does not depend on that, so a row of y is the same whatever rows stand beside it.
    pub(super) fn forward(isa: Isa, m: usize, depth: usize, n: usize, plain: bool) -> Plan {
        let plan = Plan::new(isa, m, depth, n, false, false);
        if isa == Isa::Portable
            || !plain
            || !(1..=C_TRANSPOSED_ROWS).contains(&m)
            || n < m
            || m * depth > C_TRANSPOSED_VALUES
        {
            return plan;
        }
        let (vectors, tile_rows) = tile(isa, m.div_ceil(lanes(isa)));
        let nc = m.next_multiple_of(vectors * lanes(isa));
        let mc = n.div_ceil(C_TRANSPOSED_TASKS).max(C_TRANSPOSED_LINES).next_multiple_of(lanes(isa));
        let (m, cols) = (n, m);
        Plan { m, cols, vectors, tile_rows, mc, nc, c_transposed: true, whole: true, few: false, ..plan }
    }
    /// G (n x k) = dyᵀ x with m terms. With few columns its transpose xᵀ dy is computed: then there
    /// are few rows instead, and dy is read in place.
    pub(super) fn gradient(isa: Isa, n: usize, m: usize, k: usize) -> Plan {
        let transposed = Plan { c_transposed: true, ..Plan::new(isa, k, m, n, true, true) };
        if k < n && transposed.in_place { transposed } else { Plan::new(isa, n, m, k, true, true) }
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
    /// Task `t`: its first row and column, rows and columns. Tasks that share columns
    /// follow one another.
    pub(super) fn task(&self, t: usize) -> (usize, usize, usize, usize) {
        let (i, j) = (t % self.row_blocks() * self.mc, t / self.row_blocks() * self.nc);
        (i, j, self.mc.min(self.m - i), self.nc.min(self.cols - j))
    }
    /// Values of what is packed of B at a time.
    pub(super) fn piece(&self) -> usize {
        match (self.in_place, self.whole) {
            (true, _) => self.step * self.panel(),
            (_, true) => self.depth * self.nc,
            _ => self.kc * self.nc,
        }
    }
    /// f32 values of what a task computes apart: Cᵀ, or a panel's sums while they are not finished.
    fn apart(&self) -> usize {
        match self.step < self.kc.min(self.depth) {
            _ if self.c_transposed => self.mc * self.nc,
            true => self.mc * self.panel(),
            false => 0,
        }
    }
    /// Where they lie in what its thread has as its own: behind what is packed.
    pub(super) fn block(&self) -> usize {
        HEADER + self.piece()
    }
    /// A task's rows (at least one) in tiles: as even as possible (64 by 9 are eight times 8), or
    /// half vectors if A is packed.
    pub(super) fn tiles(&self, rows: usize) -> Tiles {
        if self.group > 0 {
            Tiles { count: rows.div_ceil(self.tile_rows), rows, each: self.tile_rows, larger: 0 }
        } else {
            Tiles::even(rows, self.tile_rows)
        }
    }
    /// f32 values that each thread needs as its own: the header, a piece of B, a group of A's tiles
    /// or a block apart. `decoded`: B is not f32.
    pub(super) fn floats(&self, decoded: bool) -> usize {
        if self.tasks() == 0 {
            return 0;
        }
        if self.few {
            return HEADER + self.m.next_power_of_two() * self.nc;
        }
        if self.apart() > 0 {
            return self.block() + self.apart().next_multiple_of(HEADER);
        }
        let packs = self.isa != Isa::Portable || decoded;
        let group = (self.group * self.tile_rows * self.kc).next_multiple_of(HEADER);
        if packs { HEADER + self.piece() + group } else { 0 }
    }
}

/// The tile for a matrix so many vectors wide: vectors side by side, and rows at most.
fn tile(isa: Isa, wide: usize) -> (usize, usize) {
    let vectors = match (isa, wide) {
        (Isa::Avx512, 4) => 4,
        (Isa::Avx512, _) => wide.clamp(1, 3),
        _ => wide.clamp(1, 2),
    };
    (vectors, tile_rows(isa, vectors))
}
/// Rows at most of a tile so many vectors wide: as many as the registers hold beside a row of B.
pub(super) fn tile_rows(isa: Isa, vectors: usize) -> usize {
    match (isa, vectors) {
        (Isa::Avx512, 2) => 14,
        (Isa::Avx512, 4) => 6,
        (Isa::Avx512, _) => 9,
        _ => 6,
    }
}

/// f32 values in one vector.
pub(super) fn lanes(isa: Isa) -> usize {
    match isa {
        Isa::Avx512 => 16,
        Isa::Avx2 | Isa::Portable => 8,
    }
}

/// Rows, cut in tiles.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tiles {
    pub count: usize,
    rows: usize,
    /// Rows of a tile; the first `larger` have one more, and the last may have fewer.
    each: usize,
    larger: usize,
}
impl Tiles {
    /// `rows` (at least one) in tiles of at most `most`, as even as possible.
    pub(crate) fn even(rows: usize, most: usize) -> Tiles {
        let count = rows.div_ceil(most);
        Tiles { count, rows, each: rows / count, larger: rows % count }
    }
    /// The first row of tile `t` and its rows.
    #[inline(always)]
    pub(crate) fn at(&self, t: usize) -> (usize, usize) {
        let first = t * self.each + t.min(self.larger);
        (first, (self.each + usize::from(t < self.larger)).min(self.rows - first))
    }
}
