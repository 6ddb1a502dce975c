//! The products on the processor: one driver for all three.
//!
//! ```text
//! C (m x cols) = A (m x depth) B (depth x cols) + ..
//! ```
//! A, the activations, is f32 and read where it lies. B is a weight (or, for a weight's gradient,
//! activations). C is cut into blocks of columns, and of rows where that gives too few
//! ([`Plan`]): those are the tasks. **The thread that takes a task packs its piece of B into its
//! own slice of the workspace**, which its second-level cache holds, and runs all rows of the
//! task over it; if the piece is the one it packed last, packing is skipped. So there is no
//! shared buffer and no barrier, and an element of C is computed by one task, in an order that
//! only the shapes determine.
//!
//! Per block of depth, tiles of rows are the outer loop (a tile's rows of A stay in the first-level
//! cache) and panels the inner one. Where there are few rows and B is f32 in rows, packing is not
//! worth it: B is read in place, panels are the outer loop and row tiles the inner one, so that a
//! panel is fetched once; the first tile leaves a copy without gaps to the others.
//!
//! Where there are few rows and B is a transposed weight, it is the rows that are packed, and Cᵀ =
//! Bᵀ Aᵀ is computed in blocks that are written down transposed.
//!
//! Of very few rows nothing is packed: `few.rs`.
//!
//! A weight's gradient is dyᵀ x, where A's rows are neighbours in memory. If the gradient is low, x
//! is read in place; if it is narrow, its transpose is computed that way; else some tiles of A at a
//! time are packed.
#[cfg(target_arch = "x86_64")]
use super::x86::{avx2, avx512};
use super::{
    operands::{Job, Lines, Strided},
    pack::Piece,
    plan::{HEADER, Plan, Tiles, lanes},
    portable,
    tile::{Kernel, Tile, TilePrefetch},
    transpose::Block,
    *,
};
use crate::{
    Class, Cpu, DType, Isa,
    epilogue::{AtTile, OnHost},
    storage::view::{Floats, Stored, stored},
    team::Shared,
};
use std::{
    ops::Range,
    ptr::{null, null_mut},
};

/// Where a task's block of C lies (address, distance between rows), and what is added to it next.
#[derive(Clone, Copy)]
struct Target {
    c: (*mut f32, usize),
    plus: AtTile,
}

/// Where the panels of a block of B lie.
struct PanelsAt {
    /// The first one's first row.
    at: *const f32,
    /// The distance between panels, and that between rows; 0: packed, without gaps.
    panel: usize,
    row: usize,
    /// Rows in front of the block, if it is part of what is packed.
    skip: usize,
    /// Where the first tile puts a panel for the others; null: nowhere.
    keep: *mut f32,
    /// Where the sums of a panel wait between the parts of its depth.
    unfinished: *mut f32,
}

/// The code for one instruction set.
struct Code<'a, S> {
    kernel: fn(usize, usize, bool, bool) -> Kernel,
    pack: unsafe fn(&Piece<S>, usize, *mut f32),
    /// For A.
    pack_f32: unsafe fn(&Piece<Floats<'a, f32>>, usize, *mut f32),
    write_transposed: unsafe fn(&Block),
    few: unsafe fn(&Job<'_, S>, usize, *mut f32),
}
#[cfg(target_arch = "x86_64")]
fn code<'a, S: Stored>(isa: Isa) -> Option<Code<'a, S>> {
    match isa {
        Isa::Avx512 => Some(Code {
            kernel: avx512::kernel,
            pack: avx512::pack,
            pack_f32: avx512::pack,
            write_transposed: avx512::write_transposed,
            few: avx512::few,
        }),
        Isa::Avx2 => Some(Code {
            kernel: avx2::kernel,
            pack: avx2::pack,
            pack_f32: avx2::pack,
            write_transposed: avx2::write_transposed,
            few: avx2::few,
        }),
        Isa::Portable => None,
    }
}
#[cfg(not(target_arch = "x86_64"))]
fn code<'a, S: Stored>(_isa: Isa) -> Option<Code<'a, S>> {
    None
}

/// C (m x cols, rows `c_row` apart; if the plan says `c_transposed`, Cᵀ) = A B + .., with
/// `workspace` for what `plan` says the threads need.
pub(super) fn multiply<S: Stored>(
    d: &Cpu,
    plan: Plan,
    a: Strided<'_>,
    b: Lines<S>,
    plus: OnHost<'_>,
    (c, c_row): (&mut [f32], usize),
    workspace: &mut [f32],
) {
    let (m, depth, cols) = (plan.m, plan.depth, plan.cols);
    if plan.tasks() == 0 {
        return;
    }
    // These are what the unsafe code below relies on.
    let holds = |len: usize, rows: usize, row: usize, cols: usize, col: usize| {
        let last = |n: usize, stride: usize| n.checked_sub(1).map(|n| n.checked_mul(stride));
        match (last(rows, row), last(cols, col)) {
            (None, _) | (_, None) => true, // no element
            (Some(r), Some(c)) => r.zip(c).and_then(|(r, c)| r.checked_add(c)).is_some_and(|l| l < len),
        }
    };
    assert!(a.row == 1 || (a.col == 1 && plan.group == 0));
    assert!(!plan.in_place || cols.is_multiple_of(lanes(plan.isa)));
    assert!(plan.isa.available() && (!plan.in_place || (S::IS_F32 && !b.transposed)));
    assert!(holds(a.data.len(), m, a.row, depth, a.col), "A is too short");
    let (lines, each) = if b.transposed { (cols, depth) } else { (depth, cols) };
    assert!(b.from.holds(lines, each), "B is too short");
    let (high, wide) = if plan.c_transposed { (cols, m) } else { (m, cols) };
    assert!(c_row >= wide && holds(c.len(), high, c_row, wide, 1), "C is too short");
    assert!(!plan.c_transposed || (plan.isa != Isa::Portable && plan.group == 0 && plan.step == plan.kc));
    assert!(!plan.few || (plan.isa != Isa::Portable && a.col == 1 && !plan.c_transposed));
    assert!(plus.covers(high, wide), "what is added is too short");
    let each = plan.floats(!S::IS_F32);
    assert!(workspace.len() >= d.threads() * each, "the workspace is too small");

    for slot in workspace.chunks_exact_mut(each.max(HEADER)) {
        slot[..2].fill(f32::from_bits(u32::MAX)); // holds nothing yet
    }
    let job = Job { plan, a, b, plus, c: Shared(c.as_mut_ptr()), c_row };
    let workspace = Shared(workspace.as_mut_ptr());
    let code = code::<S>(plan.isa);
    d.each(plan.tasks(), |task, thread| {
        // SAFETY: `thread` is below `threads()` and no two threads that run at once share it, so
        // that the slice belongs to this call; it has `each` values (asserted). Tasks write
        // disjoint blocks of C, and the extents of all operands were asserted.
        unsafe {
            let slot = workspace.get().add(thread * each);
            match &code {
                Some(code) if plan.few => (code.few)(&job, task, slot),
                Some(code) => job.run(code, task, slot),
                None => portable::run(&job, task, slot),
            }
        }
    });
}

impl<'a, S: Stored> Job<'a, S> {
    /// Where the block of C lies that begins at (i, j), and what is added to it.
    ///
    /// # Safety
    /// As of `run`.
    unsafe fn target(&self, i: usize, j: usize) -> Target {
        // SAFETY: (i, j) is in C (asserted).
        let c = unsafe { self.c.get().add(i * self.c_row + j) };
        Target { c: (c, self.c_row), plus: self.plus.at(i, j) }
    }
    /// Computes one task.
    ///
    /// # Safety
    /// What `multiply` asserts holds, nobody else writes the task's block of C, and `slot` is this
    /// call's own and as long as the plan says.
    unsafe fn run(&self, code: &Code<'a, S>, task: usize, slot: *mut f32) {
        let plan = &self.plan;
        let (i0, j0, rows, cols) = plan.task(task);
        let tiles = plan.tiles(rows);
        let group = if plan.group == 0 { tiles.count } else { plan.group };
        let (i, j) = if plan.c_transposed { (j0, i0) } else { (i0, j0) };
        // SAFETY: the precondition.
        let mut target = unsafe { self.target(i, j) };
        let block = slot.wrapping_add(plan.block());
        let mut p = 0;
        loop {
            let depth = plan.kc.min(plan.depth - p);
            let piece = self.piece(p, j0, depth, cols);
            let b = match piece.in_place() {
                Some((at, row)) if plan.in_place => {
                    let keep = if tiles.count > 2 { slot.wrapping_add(HEADER) } else { null_mut() };
                    PanelsAt { at, panel: plan.panel(), row, skip: 0, keep, unfinished: block }
                }
                _ => {
                    let (first, depth) = if plan.whole { (0, plan.depth) } else { (p, depth) };
                    let piece = self.piece(first, j0, depth, cols);
                    // SAFETY: the piece is in B, and the slot is ours and holds `piece` values
                    // behind the header.
                    let packed = unsafe { fill(code, &piece, plan.panel(), j0, depth == plan.depth, slot) };
                    PanelsAt {
                        at: packed,
                        panel: depth * plan.panel(),
                        row: 0,
                        skip: p - first,
                        keep: null_mut(),
                        unfinished: null_mut(),
                    }
                }
            };
            for t in (0..tiles.count).step_by(group) {
                let these = t..tiles.count.min(t + group);
                let first = i0 + tiles.at(t).0;
                let a = if plan.group == 0 {
                    self.a.data.as_ptr().wrapping_add(first * self.a.row + p * self.a.col)
                } else {
                    let packed = slot.wrapping_add(HEADER + plan.piece());
                    let high = rows.min(these.end * plan.tile_rows) - these.start * plan.tile_rows;
                    let from = Floats { data: self.a.data, stride: self.a.col };
                    let lines = Piece { from, line: p, at: first, transposed: false, depth, cols: high };
                    // SAFETY: the tiles are in A, whose rows are neighbours (asserted), and the
                    // slot is ours and holds `group` tiles of depth kc behind the piece.
                    unsafe { (code.pack_f32)(&lines, lanes(plan.isa), packed) };
                    packed.cast_const()
                };
                let to = match plan.c_transposed {
                    true => Target { c: (block, plan.nc), plus: AtTile::NOTHING },
                    false => target,
                };
                // SAFETY: as of this function; A and B have just been put there. A task of Cᵀ
                // has room for `mc` x `nc` values from `block` on, and one with parts of depth
                // for `mc` x a panel.
                unsafe { self.block(code, &to, &piece, (tiles, these), a, &b) };
            }
            if plan.c_transposed {
                let Target { c, plus } = target;
                let block = Block { from: (block, plan.nc), rows, cols, plus, c };
                // SAFETY: the block has just been computed, and its place in C is this task's.
                unsafe { (code.write_transposed)(&block) };
            }
            target.plus = AtTile::OUTPUT;
            p += depth;
            if p >= plan.depth {
                return;
            }
        }
    }

    /// Tiles `these` of a task's rows times all panels of `piece`, with what is added. A's tiles
    /// begin at `a` and B's panels at `b`. Read in place, a panel passes by in parts of its depth.
    ///
    /// # Safety
    /// As of `run`, and `a` and `b` may be read that far.
    unsafe fn block(
        &self,
        code: &Code<'a, S>,
        to: &Target,
        piece: &Piece<S>,
        (tiles, these): (Tiles, Range<usize>),
        a: *const f32,
        b: &PanelsAt,
    ) {
        let (plan, lanes) = (&self.plan, lanes(self.plan.isa));
        let panel = plan.panel();
        let (panels, first) = (piece.cols.div_ceil(panel), tiles.at(these.start).0);
        let parts = if plan.in_place { piece.depth.div_ceil(plan.step.max(1)).max(1) } else { 1 };
        for x in 0..these.len() * panels * parts {
            let (t, part, s) = match plan.in_place {
                true => (x % these.len(), x / these.len() % parts, x / these.len() / parts),
                false => (x / panels, 0, x % panels),
            };
            let p = part * plan.step;
            let depth = if parts > 1 { plan.step.min(piece.depth - p) } else { piece.depth };
            let (i, high) = tiles.at(these.start + t);
            let j = s * panel;
            let wide = panel.min(piece.cols - j);
            let vectors = wide.div_ceil(lanes);
            let a = if plan.group == 0 {
                (a.wrapping_add((i - first) * self.a.row + p * self.a.col), self.a.row, self.a.col)
            } else {
                // panels of one vector; a tile is half of one
                let (panel, half) = ((i - first) / lanes, (i - first) % lanes);
                (a.wrapping_add(panel * lanes * depth + half), 1, lanes)
            };
            let ahead = if plan.in_place && t % 2 == 0 && t / 2 < plan.vectors {
                // what comes next, a line of each row: a part of this panel, the next one, or the
                // first of the next block
                let next = match (part + 1 < parts, s + 1 < panels) {
                    (true, _) => (p + depth) * b.row + j,
                    (false, true) => j + panel,
                    (false, false) => piece.depth * b.row,
                };
                TilePrefetch::line(b.at.wrapping_add(next + t / 2 * lanes), b.row, depth, high)
            } else if !plan.in_place && plan.group == 0 && self.a.col == 1 {
                TilePrefetch::next(a.0, self.a.row, high, depth, (s, panels))
            } else {
                TilePrefetch::nothing(a.0)
            };
            // unfinished sums are put aside
            let aside = b.unfinished.wrapping_add(i * panel);
            let begin = if part > 0 { aside.cast_const() } else { null() };
            let (c, plus) = match part + 1 < parts {
                true => ((aside, panel), AtTile::NOTHING),
                false => ((to.c.0.wrapping_add(i * to.c.1 + j), to.c.1), to.plus.moved(i, j)),
            };
            let dense = vectors * lanes;
            let row = if b.row > 0 { b.row } else { dense };
            let (from, keep) = match (b.keep.is_null(), t) {
                (false, 1..) => ((b.keep.cast_const(), dense), null_mut()),
                _ => ((b.at.wrapping_add(s * b.panel + (b.skip + p) * row), row), b.keep),
            };
            // SAFETY: the tile lies in the task's block of C and its operands in A, in B or in what
            // was packed, the extents of which were asserted. B in place has whole vectors, because
            // `cols` is a multiple then.
            unsafe {
                (code.kernel)(high, vectors, a.2 == 1, !plan.in_place)(&Tile {
                    depth,
                    a,
                    ahead,
                    b: from,
                    keep,
                    begin: (begin, panel),
                    plus,
                    c,
                    last: wide - (vectors - 1) * lanes,
                });
            }
        }
    }
}

/// Packs `piece`, columns from `j0`, into `slot` behind the header, and gives its address. If
/// `whole` (the piece has all rows of B) and the header says that the slot holds these columns
/// already, nothing is done.
///
/// # Safety
/// The processor has the code's instructions, the piece may be read, and `slot` is as long as
/// header and piece.
unsafe fn fill<S>(
    code: &Code<'_, S>,
    piece: &Piece<S>,
    panel: usize,
    j0: usize,
    whole: bool,
    slot: *mut f32,
) -> *const f32 {
    let (header, packed) = (slot.cast::<u64>(), slot.wrapping_add(HEADER));
    // SAFETY: the precondition; the header is longer than a u64.
    unsafe {
        if !whole || header.read_unaligned() != j0 as u64 {
            (code.pack)(piece, panel, packed);
            header.write_unaligned(j0 as u64);
        }
    }
    packed
}

/// What a launch allocates for its threads: the same on the device that only counts.
pub(super) fn workspace(device: &Device, plan: &Plan, b: DType) -> Result<Buffer> {
    device.alloc::<f32>(Class::Scratch, device.threads() * plan.floats(b != DType::F32))
}

/// C = A B + .., where B is `w` or, if `transposed`, its transpose.
pub(super) fn product(
    device: &Device,
    d: &Cpu,
    plan: Plan,
    a: Strided<'_>,
    (w, transposed): (Matrix<'_>, bool),
    plus: Plus<'_>,
    c: ViewMut<'_>,
) -> Result<()> {
    let mut workspace = workspace(device, &plan, w.data.dtype())?;
    let c_row = c.view().stride();
    let (c, workspace) = ((c.host()?, c_row), workspace.host_mut()?);
    let plus = plus.host()?;
    stored!(w, from => multiply(d, plan, a, Lines { from, transposed }, plus, c, workspace));
    Ok(())
}
