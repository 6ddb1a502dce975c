//! The driver, and what all instruction sets share.
//!
//! As in [`crate::matmul`], a task packs its columns of B into its own slice of the workspace and
//! runs its rows over them; a slice that holds these columns already is used as it is.
//!
//! A packed panel has words of four numbers of a column, one below the other, as the
//! instructions multiply them:
//!
//! ```text
//! row 0           what the sums of the panel's columns begin with: -128 Σ B where A is 128 too large, else 0
//! rows 1 and 2    the columns' scales (or ones) and the bias (or zeros), in f32
//! row 3 + p       B[4p .. 4p + 4] of each column
//! ```
//! Numbers and columns that do not exist are zero.
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
use super::{
    plan::{HEADER, Path, Plan, TOP},
    portable,
    tile::{PackFn, Piece, Tile, TileFn},
    *,
};
use crate::{
    Cpu,
    epilogue::{Epilogue, OnHost},
    matmul::{TilePrefetch, Tiles},
    storage::view::fits,
    team::Shared,
};

/// The code of one path.
struct Code {
    /// The kernel for so many rows and vectors.
    tile: fn(usize, usize) -> TileFn,
    pack: PackFn,
}
fn code(path: Path) -> Code {
    match path {
        #[cfg(target_arch = "x86_64")]
        Path::Vnni512 => Code { tile: avx512::tile, pack: avx512::pack },
        #[cfg(target_arch = "x86_64")]
        Path::Vnni256 => Code { tile: avx2::tile_vnni, pack: avx2::pack_vnni },
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => Code { tile: avx2::tile, pack: avx2::pack },
        _ => Code { tile: portable::tile, pack: portable::pack },
    }
}

/// A in host memory: rows `stride` bytes apart, and their scales.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    pub q: &'a [u8],
    pub stride: usize,
    pub scales: &'a [f32],
}
/// B in host memory: element (p, j) is `data[p * stride + j]` or, if `transposed`,
/// `data[j * stride + p]`.
#[derive(Clone, Copy)]
pub(super) struct Right<'a> {
    pub data: &'a [i8],
    pub transposed: bool,
    pub stride: usize,
    /// A scale for each column.
    pub scales: Option<&'a [f32]>,
}

/// C (m x cols, rows `c_row` apart) = A B + .., with `workspace` for what `plan` says
/// the threads need.
pub(super) fn multiply(
    d: &Cpu,
    plan: Plan,
    a: Left<'_>,
    b: Right<'_>,
    plus: OnHost<'_>,
    (c, c_row): (&mut [f32], usize),
    workspace: &mut [u32],
) {
    let Plan { path, m, depth, cols, .. } = plan;
    if plan.tasks() == 0 {
        return;
    }
    // These are what the unsafe code below relies on.
    assert!(path.available());
    assert!(
        a.stride.is_multiple_of(4) && a.stride >= depth && a.q.len() >= m * a.stride && a.scales.len() >= m
    );
    assert!(a.q.as_ptr().addr().is_multiple_of(4), "A's rows are words");
    let (lines, line) = if b.transposed { (cols, depth) } else { (depth, cols) };
    assert!(
        b.stride >= line && (lines == 0 || b.data.len() >= (lines - 1) * b.stride + line),
        "B is too short"
    );
    assert!(b.scales.is_none_or(|s| s.len() >= cols), "B's scales are too few");
    assert!(c_row >= cols && fits(c.len(), m, c_row, cols), "C is too short");
    assert!(plus.covers(m, cols), "what is added is too short");
    let each = plan.workspace();
    assert!(workspace.len() >= d.threads() * each, "the workspace is too small");

    for slot in workspace.chunks_exact_mut(each) {
        slot[..2].fill(u32::MAX); // holds nothing yet
    }
    let job = Job { plan, a, b, plus, c: Shared(c.as_mut_ptr()), c_row };
    let workspace = Shared(workspace.as_mut_ptr());
    let code = code(path);
    d.each(plan.tasks(), |task, thread| {
        // SAFETY: `thread` is below `threads()` and no two threads that run at once share it, so
        // that the slice belongs to this call; it has `each` words (asserted). Tasks write disjoint
        // blocks of C, and the extents of all operands were asserted.
        unsafe { job.run(&code, task, workspace.get().add(thread * each).cast()) };
    });
}

/// Tiles of a burst, and words of depth of each.
const BURST: (usize, usize) = (2000, 64);

/// See [`super::burst`].
pub(super) fn burst(d: &Cpu, path: Path, tasks: usize) -> f64 {
    let (tiles, words) = BURST;
    let Plan { vectors, tile_rows, .. } = Plan::new(path, 1 << 10, 4 * words, 1 << 10);
    let cols = vectors * path.lanes();
    let tile = (code(path).tile)(tile_rows, vectors);
    assert!(path.available());
    d.each(tasks, |_, _| {
        let (a, scales) = (vec![0_u32; tile_rows * words], vec![1.0_f32; tile_rows]);
        let (b, mut c) = (vec![0_u32; (TOP + words) * cols], vec![0.0_f32; tile_rows * cols]);
        for _ in 0..tiles {
            // SAFETY: the processor has the path's instructions (asserted); A has `tile_rows`
            // rows of `words` words, B is a panel of TOP + words rows, C and the scales are as
            // large as the tile.
            unsafe {
                let mut t = Tile::new(words, (a.as_ptr().cast(), words), b.as_ptr(), cols);
                (t.of.c, t.of.last, t.scales) = ((c.as_mut_ptr(), cols), path.lanes(), scales.as_ptr());
                tile(&t);
            }
        }
        std::hint::black_box(c);
    });
    (2 * 4 * words * tile_rows * cols * tiles * tasks) as f64
}

struct Job<'a> {
    plan: Plan,
    a: Left<'a>,
    b: Right<'a>,
    plus: OnHost<'a>,
    c: Shared<f32>,
    c_row: usize,
}

impl Job<'_> {
    /// Computes one task.
    ///
    /// # Safety
    /// What `multiply` asserts holds, nobody else writes the task's block of C, and `slot` is this
    /// call's own and as long as the plan says.
    unsafe fn run(&self, code: &Code, task: usize, slot: *mut u32) {
        let Job { plan, a, .. } = self;
        let (i0, j0, rows, cols) = plan.task(task);
        let (lanes, panel, words) = (plan.path.lanes(), plan.panel(), plan.words());
        // SAFETY: the slot is ours and holds header and block.
        let packed = unsafe { self.fill(code, j0, cols, slot) };
        let tiles = Tiles::even(rows, plan.tile_rows);
        for t in 0..tiles.count {
            let (i, high) = tiles.at(t);
            for j in (0..cols).step_by(panel) {
                let wide = panel.min(cols - j);
                let vectors = wide.div_ceil(lanes);
                let left = (a.q.as_ptr().wrapping_add((i0 + i) * a.stride).cast(), a.stride / 4);
                let part = (j / panel, cols.div_ceil(panel));
                // SAFETY: the tile lies in the task's block of C and its operands in A and in
                // what was packed, the extents of which were asserted; panels in front of
                // this one are whole.
                unsafe {
                    let b = packed.add(j * (TOP + words));
                    let mut t = Tile::new(words, left, b, vectors * lanes);
                    t.of.ahead = TilePrefetch::next(left.0, left.1, high, words, part);
                    t.of.plus = Epilogue { bias: None, ..self.plus.at(i0 + i, j0 + j) };
                    t.of.c = (self.c.get().add((i0 + i) * self.c_row + j0 + j), self.c_row);
                    t.of.last = wide - (vectors - 1) * lanes;
                    t.scales = a.scales.as_ptr().add(i0 + i);
                    (code.tile)(high, vectors)(&t);
                }
            }
        }
    }
    /// Packs the columns from `j0` into `slot` behind the header, unless the header says that they
    /// are there, and gives their address.
    ///
    /// # Safety
    /// As of `run`.
    unsafe fn fill(&self, code: &Code, j0: usize, cols: usize, slot: *mut u32) -> *const u32 {
        let Right { data, transposed, stride, .. } = self.b;
        let (header, packed) = (slot.cast::<u64>(), slot.wrapping_add(HEADER));
        // of depth 0 there is no element, and nothing will be read
        let at = data.as_ptr().wrapping_add(if transposed { j0 * stride } else { j0 });
        let piece = Piece { at, transposed, stride, depth: self.plan.depth, cols };
        // SAFETY: the precondition; the header is longer than a u64.
        unsafe {
            if header.read_unaligned() != j0 as u64 {
                (code.pack)(&piece, self.plan.panel(), packed);
                self.fill_scales(j0, cols, packed);
                header.write_unaligned(j0 as u64);
            }
        }
        packed
    }
}

impl Job<'_> {
    /// Writes rows 1 and 2 of the panels of the columns from `j0`.
    ///
    /// # Safety
    /// As of `run`; `packed` holds the panels.
    unsafe fn fill_scales(&self, j0: usize, cols: usize, packed: *mut u32) {
        let (panel, lanes) = (self.plan.panel(), self.plan.path.lanes());
        for first in (0..cols).step_by(panel) {
            let width = panel.min((cols - first).next_multiple_of(lanes));
            let at = j0 + first..j0 + cols.min(first + panel);
            for (row, values, none) in [(1, self.b.scales, 1.0), (2, self.plus.bias, 0.0)] {
                // SAFETY: the panels in front of this one are whole, and row 2 of it is in
                // front of its words.
                let row = unsafe {
                    let row = packed.add(first * (TOP + self.plan.words()) + row * width);
                    std::slice::from_raw_parts_mut(row.cast::<f32>(), width)
                };
                row.fill(none);
                if let Some(values) = values {
                    row[..at.len()].copy_from_slice(&values[at.clone()]);
                }
            }
        }
    }
}

/// What a launch allocates for its threads: the same on the device that only counts.
pub(super) fn workspace(device: &Device, plan: &Plan) -> Result<Buffer> {
    device.alloc::<u32>(Class::Scratch, device.threads() * plan.workspace())
}

/// y = x W + .. or, with the scales of W's rows, x Wᵀ + ..
pub(super) fn product(
    device: &Device,
    d: &Cpu,
    plan: Plan,
    x: &QuantizedRows,
    (w, scales): (Matrix<'_>, Option<&Buffer>),
    plus: Plus<'_>,
    y: ViewMut<'_>,
) -> Result<()> {
    let mut workspace = workspace(device, &plan)?;
    let a = Left { q: x.q.host()?, stride: stride(x.cols), scales: x.scales.host()? };
    let (transposed, given) = (scales.is_some(), scales.map_or(Ok(&[][..]), Buffer::host)?);
    let w = w.int8(w.data.host()?, given);
    let b = Right { data: w.data, transposed, stride: w.stride, scales: transposed.then_some(w.scales) };
    let y_row = y.view().stride();
    multiply(d, plan, a, b, plus.host()?, (y.host()?, y_row), workspace.host_mut()?);
    Ok(())
}
