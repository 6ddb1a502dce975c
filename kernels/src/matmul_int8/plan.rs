//! How a product is cut into tasks and blocks: by the shapes and the instructions, never by the
//! number of threads.
use crate::Isa;

/// The code that runs: [`Isa`] and what else the processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path {
    /// AVX-512 VNNI.
    Vnni512,
    /// AVX-VNNI, 256 bits.
    Vnni256,
    /// AVX2.
    Avx2,
    /// Plain Rust.
    Portable,
}

impl Path {
    #[cfg(test)]
    pub(super) const ALL: [Path; 4] = [Path::Vnni512, Path::Vnni256, Path::Avx2, Path::Portable];

    /// True if this processor has the instructions.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn available(self) -> bool {
        match self {
            Path::Vnni512 => Isa::Avx512.available() && is_x86_feature_detected!("avx512vnni"),
            Path::Vnni256 => Isa::Avx2.available() && is_x86_feature_detected!("avxvnni"),
            Path::Avx2 => Isa::Avx2.available(),
            Path::Portable => true,
        }
    }
    /// True if this processor has the instructions.
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn available(self) -> bool {
        self == Path::Portable
    }
    /// The fastest that `isa` allows and the processor has.
    pub(super) fn of(isa: Isa) -> Path {
        let allowed: &[Path] = match isa {
            Isa::Avx512 => &[Path::Vnni512, Path::Vnni256, Path::Avx2],
            Isa::Avx2 => &[Path::Vnni256, Path::Avx2],
            Isa::Portable => &[],
        };
        allowed.iter().copied().find(|p| p.available()).unwrap_or(Path::Portable)
    }
    /// 32-bit words in a vector.
    pub(super) fn lanes(self) -> usize {
        if self == Path::Vnni512 { 16 } else { 8 }
    }
}

/// C (m x cols) = A (m x depth) B (depth x cols), and its blocks. A block of B has the whole depth:
/// sums stay in registers from beginning to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub path: Path,
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
}

/// Columns are cut into blocks of at most so many, ...
const BLOCK: usize = 192;
/// ... of at most so many bytes of B, which should stay in a second-level cache, ...
const BYTES: usize = 640 << 10;
const BYTES_NARROW: usize = 192 << 10;
/// ... and into so many blocks at least, if there are as many panels.
const BLOCKS: usize = 8;
/// Tasks are cut smaller until there are so many ...
const TASKS: usize = 16;
/// ... or they have so few rows: each packs for itself.
const TASK_ROWS: usize = 256;
/// Words in front of a thread's panels: which columns they are. A cache line, so that
/// panels stay aligned.
pub(super) const HEADER: usize = 16;
/// Rows of a packed panel in front of its words.
pub(super) const TOP: usize = 3;

impl Plan {
    pub(super) fn new(path: Path, m: usize, depth: usize, cols: usize) -> Plan {
        let (vectors, tile_rows) = match (path, cols.div_ceil(path.lanes())) {
            (Path::Vnni512, 4) => (4, 6),
            (Path::Vnni512, n) => (n.clamp(1, 3), 9),
            (Path::Vnni256, n) => (n.clamp(1, 2), 6),
            // its other registers hold A's signs and magnitudes
            (Path::Avx2, n) => (n.clamp(1, 2), 4),
            (Path::Portable, _) => (1, 4),
        };
        let panel = vectors * path.lanes();
        let bytes = if path == Path::Vnni512 { BYTES } else { BYTES_NARROW };
        let most = (BLOCK / panel).min(bytes / (depth * panel).max(1)).max(1);
        let panels = cols.div_ceil(panel).max(1);
        let blocks = panels.div_ceil((panels / BLOCKS).clamp(1, most));
        let nc = panels.div_ceil(blocks) * panel;
        let blocks = cols.div_ceil(nc);
        let rows = (TASKS / blocks.max(1)).clamp(1, (m / TASK_ROWS).max(1));
        Plan { path, m, depth, cols, vectors, tile_rows, mc: m.div_ceil(rows), nc }
    }
    /// Columns of a tile.
    pub(super) fn panel(&self) -> usize {
        self.vectors * self.path.lanes()
    }
    fn row_blocks(&self) -> usize {
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
    /// Words of four numbers, one below the other.
    pub(super) fn words(&self) -> usize {
        self.depth.div_ceil(4)
    }
    /// Words that each thread needs as its own: the header and a packed block of B.
    pub(super) fn workspace(&self) -> usize {
        if self.tasks() > 0 { HEADER + self.nc * (TOP + self.words()) } else { 0 }
    }
}
