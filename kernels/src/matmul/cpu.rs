//! The products on the processor: one driver for all three.
//!
//! ```text
//! C (m x cols) = A (m x depth) B (depth x cols)  [+ bias | + C]
//! ```
//! A, the activations, is f32 and read where it lies. B is a weight (or, for a weight's gradient, activations). C is cut
//! into blocks of columns, and of rows where that gives too few ([`Plan`]): those are the tasks. **The thread that takes
//! a task packs its piece of B into its own slice of the workspace**, which its second-level cache holds, and runs all
//! rows of the task over it; if the piece is the one it packed last, packing is skipped. So there is no shared buffer
//! and no barrier, and an element of C is computed by one task, in an order that only the shapes determine.
//!
//! Per block of depth, tiles of rows are the outer loop (a tile's rows of A stay in the first-level cache) and panels
//! the inner one. Where there are few rows and B is f32 in rows, packing is not worth it: B is read in place, panels are
//! the outer loop and row tiles the inner one, so that a panel is fetched once.
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
use super::{
    pack::Piece,
    plan::{HEADER, Plan, lanes, tile},
    portable,
    tile::{Kernel, Tile},
    vector::Stored,
    *,
};
use crate::{Class, Cpu, DType, Isa};
use std::ptr::null;

/// f32 values of a matrix: element (i, j) is `data[i * row + j * col]`.
#[derive(Clone, Copy)]
pub(super) struct Strided<'a> {
    pub data: &'a [f32],
    pub row: usize,
    pub col: usize,
}
/// A matrix in storage, in lines: element (p, j) is `data[p * stride + j]` or, if `transposed`, `data[j * stride + p]`.
#[derive(Clone, Copy)]
pub(super) struct Lines<'a, E> {
    pub data: &'a [E],
    pub transposed: bool,
    pub stride: usize,
}
/// What the products are added to.
#[derive(Clone, Copy)]
pub(super) enum Start<'a> {
    Zero,
    /// A row, the same for all rows.
    Bias(&'a [f32]),
    /// C as it is.
    Output,
}

/// A pointer that threads may share: each writes places of its own.
#[derive(Clone, Copy)]
pub(super) struct Shared(pub *mut f32);
// SAFETY: it is only a number; whoever dereferences it says why that is sound.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}
impl Shared {
    /// Through a method, so that a closure captures the whole (shareable) struct.
    pub(super) fn get(self) -> *mut f32 {
        self.0
    }
}

/// A launch whose arguments have been checked.
pub(super) struct Job<'a, E> {
    pub plan: Plan,
    pub a: Strided<'a>,
    pub b: Lines<'a, E>,
    pub start: Start<'a>,
    pub c: Shared,
    /// Distance between C's rows.
    pub c_row: usize,
}

/// The code for one instruction set.
struct Code<E> {
    kernel: fn(usize, usize) -> Kernel,
    pack: unsafe fn(&Piece<E>, usize, *mut f32),
}
#[cfg(target_arch = "x86_64")]
fn code<E: Stored>(isa: Isa) -> Option<Code<E>> {
    match isa {
        Isa::Avx512 => Some(Code { kernel: avx512::kernel, pack: avx512::pack::<E> }),
        Isa::Avx2 => Some(Code { kernel: avx2::kernel, pack: avx2::pack::<E> }),
        Isa::Portable => None,
    }
}
#[cfg(not(target_arch = "x86_64"))]
fn code<E: Stored>(_isa: Isa) -> Option<Code<E>> {
    None
}

/// C (m x cols, rows `c_row` apart) = start + A B, with `workspace` for what `plan` says the threads need.
pub(super) fn multiply<E: Stored>(
    d: &Cpu,
    plan: Plan,
    a: Strided<'_>,
    b: Lines<'_, E>,
    start: Start<'_>,
    (c, c_row): (&mut [f32], usize),
    workspace: &mut [f32],
) {
    let (m, depth, cols) = (plan.m, plan.depth, plan.cols);
    if plan.tasks() == 0 {
        return;
    }
    // These are what the unsafe code below relies on.
    let holds = |len: usize, rows: usize, row: usize, cols: usize, col: usize| {
        rows == 0 || cols == 0 || (rows - 1) * row + (cols - 1) * col < len
    };
    assert!(plan.isa.available() && (!plan.in_place || (E::DTYPE == DType::F32 && !b.transposed)));
    assert!(holds(a.data.len(), m, a.row, depth, a.col), "A is too short");
    let (row, col) = if b.transposed { (1, b.stride) } else { (b.stride, 1) };
    assert!(holds(b.data.len(), depth, row, cols, col), "B is too short");
    assert!(c_row >= cols && holds(c.len(), m, c_row, cols, 1), "C is too short");
    assert!(!matches!(start, Start::Bias(bias) if bias.len() < cols), "the bias is too short");
    let each = plan.floats(E::DTYPE != DType::F32);
    assert!(workspace.len() >= d.threads() * each, "the workspace is too small");

    for slot in workspace.chunks_exact_mut(each.max(HEADER)) {
        slot[..2].fill(f32::from_bits(u32::MAX)); // holds nothing yet
    }
    let job = Job { plan, a, b, start, c: Shared(c.as_mut_ptr()), c_row };
    let workspace = Shared(workspace.as_mut_ptr());
    let code = code::<E>(plan.isa);
    d.each(plan.tasks(), |task, thread| {
        // SAFETY: `thread` is below `threads()` and no two threads that run at once share it, so that the slice
        // belongs to this call; it has `each` values (asserted). Tasks write disjoint blocks of C, and the extents of
        // all operands were asserted.
        unsafe {
            let slot = workspace.get().add(thread * each);
            match &code {
                Some(code) => job.run(code, task, slot),
                None => portable::run(&job, task, slot),
            }
        }
    });
}

impl<E: Stored> Job<'_, E> {
    /// What the block of C at (i, j) is added to when depth `p` is next: address (null: nothing) and row distance.
    pub(super) unsafe fn start(&self, p: usize, i: usize, j: usize) -> (*const f32, usize) {
        match self.start {
            Start::Zero if p == 0 => (null(), 0),
            // SAFETY: the bias has `cols` elements (asserted), and j < cols.
            Start::Bias(bias) if p == 0 => (unsafe { bias.as_ptr().add(j) }, 0),
            // SAFETY: (i, j) is in C.
            _ => (unsafe { self.c.get().add(i * self.c_row + j).cast_const() }, self.c_row),
        }
    }
    /// The piece of B from row `p` and column `j`.
    pub(super) fn piece(&self, p: usize, j: usize, depth: usize, cols: usize) -> Piece<E> {
        let Lines { data, transposed, stride } = self.b;
        let at = if transposed { j * stride + p } else { p * stride + j };
        // of depth 0 there may be no element; nothing will be read then
        let at = data.as_ptr().wrapping_add(at);
        Piece { at, transposed, stride, depth, cols }
    }

    /// Computes one task.
    ///
    /// # Safety
    /// What `multiply` asserts holds, nobody else writes the task's block of C, and `slot` is this call's own and as
    /// long as the plan says.
    unsafe fn run(&self, code: &Code<E>, task: usize, slot: *mut f32) {
        let plan = &self.plan;
        let (i0, j0, rows, cols) = plan.task(task);
        let panel = plan.panel();
        let (tiles, panels) = (rows.div_ceil(plan.tile_rows), cols.div_ceil(panel));
        let mut p = 0;
        loop {
            let depth = plan.kc.min(plan.depth - p);
            let piece = self.piece(p, j0, depth, cols);
            let packed = if plan.in_place {
                null()
            } else {
                // SAFETY: the piece is in B, and the slot is ours and holds kc x nc values behind the header.
                unsafe { fill(code, &piece, panel, j0, depth == plan.depth, slot) }
            };
            for x in 0..tiles * panels {
                let (t, s) = if plan.in_place { (x % tiles, x / tiles) } else { (x / panels, x % panels) };
                let (i, high) = tile(rows, plan.tile_rows, t);
                let (i, j) = (i0 + i, s * panel);
                let wide = panel.min(cols - j);
                let vectors = wide.div_ceil(lanes(plan.isa));
                // SAFETY: the tile lies in the task's block of C and its operands in A, in B or in the packed panels,
                // the extents of which were asserted. B in place has whole vectors, because `cols` is a multiple then.
                unsafe {
                    let b = if plan.in_place {
                        (piece.at.cast::<f32>().add(j), piece.stride)
                    } else {
                        (packed.add(j * depth), vectors * lanes(plan.isa))
                    };
                    (code.kernel)(high, vectors)(&Tile {
                        depth,
                        a: (
                            self.a.data.as_ptr().wrapping_add(i * self.a.row + p * self.a.col),
                            self.a.row,
                            self.a.col,
                        ),
                        b,
                        start: self.start(p, i, j0 + j),
                        c: (self.c.get().add(i * self.c_row + j0 + j), self.c_row),
                        last: wide - (vectors - 1) * lanes(plan.isa),
                    });
                }
            }
            p += depth;
            if p >= plan.depth {
                return;
            }
        }
    }
}

/// Packs `piece`, columns from `j0`, into `slot` behind the header, and gives its address. If `whole` (the piece has all
/// rows of B) and the header says that the slot holds these columns already, nothing is done.
///
/// # Safety
/// The processor has the code's instructions, the piece may be read, and `slot` is as long as header and piece.
unsafe fn fill<E>(
    code: &Code<E>,
    piece: &Piece<E>,
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

/// C = start + A B, where B is `w` or, if `transposed`, its transpose.
pub(super) fn product(
    d: &Cpu,
    plan: Plan,
    a: Strided<'_>,
    (w, transposed): (Matrix<'_>, bool),
    start: Start<'_>,
    c: &mut Buffer,
) -> Result<()> {
    let mut workspace = workspace(w.data.device(), &plan, w.data.dtype())?;
    let (c, workspace) = ((c.host_mut()?, plan.cols), workspace.host_mut()?);
    let stride = w.cols;
    match w.data.dtype() {
        DType::F32 => multiply(
            d,
            plan,
            a,
            Lines { data: w.data.host::<f32>()?, transposed, stride },
            start,
            c,
            workspace,
        ),
        DType::Bf16 => multiply(
            d,
            plan,
            a,
            Lines { data: w.data.host::<bf16>()?, transposed, stride },
            start,
            c,
            workspace,
        ),
        _ => multiply(
            d,
            plan,
            a,
            Lines { data: w.data.host::<f16>()?, transposed, stride },
            start,
            c,
            workspace,
        ),
    }
    Ok(())
}
