//! Any processor: the multiply of the `matrixmultiply` crate, once per task, on the calling thread.
//! It takes any strides and packs for itself, so f32 goes in as it is; other storage is decoded
//! block by block into the workspace.
use super::{operands::Job, plan::HEADER};
use crate::{epilogue::Base, storage::view::Stored};

/// Computes one task.
///
/// # Safety
/// As for the other instruction sets: the extents of the job's operands have been checked, nobody
/// else writes the task's block of C, and `slot` is this call's own and as long as the plan says.
pub(super) unsafe fn run<S: Stored>(job: &Job<'_, S>, task: usize, slot: *mut f32) {
    let plan = &job.plan;
    let (i, j, rows, cols) = plan.task(task);
    let deepest = if S::IS_F32 { plan.depth } else { plan.kc };
    // SAFETY: the task's block of C and, unless it is empty, of the bias lie in
    // bounds (precondition).
    let c = unsafe { job.c.get().add(i * job.c_row + j) };
    for r in 0..rows {
        // SAFETY: row r < rows of the block, `cols` values, which only this call touches.
        let row = unsafe { std::slice::from_raw_parts_mut(c.add(r * job.c_row), cols) };
        match job.plus.base {
            Base::Nothing => row.fill(0.0),
            Base::Rows((rows, stride)) => row.copy_from_slice(&rows[(i + r) * stride + j..][..cols]),
            Base::Output => {}
        }
        if let Some(bias) = job.plus.bias {
            row.iter_mut().zip(&bias[j..]).for_each(|(c, b)| *c += b);
        }
    }
    let mut p = 0;
    while p < plan.depth {
        let depth = deepest.min(plan.depth - p);
        let (b, line) = match job.piece(p, j, depth, cols).in_place() {
            Some(b) => b,
            None => {
                // SAFETY: the slot is ours, and holds kc x nc values behind the header.
                let to = unsafe { std::slice::from_raw_parts_mut(slot.add(HEADER), depth * cols) };
                let (lines, each) = if job.b.transposed { (cols, depth) } else { (depth, cols) };
                for (l, to) in (0..lines).zip(to.chunks_exact_mut(each)) {
                    let (line, at) = if job.b.transposed { (j + l, p) } else { (p + l, j) };
                    job.b.from.decode(line, at, to);
                }
                (slot.wrapping_add(HEADER).cast_const(), each)
            }
        };
        let (b_row, b_col) = if job.b.transposed { (1, line) } else { (line, 1) };
        // SAFETY: A from (i, p), rows x depth; B, depth x cols, in storage or decoded; C's
        // block: all in bounds (precondition), and C's is this call's own. Strides fit isize
        // because the matrices exist.
        unsafe {
            matrixmultiply::sgemm(
                rows,
                depth,
                cols,
                1.0,
                job.a.data.as_ptr().add(i * job.a.row + p * job.a.col),
                job.a.row as isize,
                job.a.col as isize,
                b,
                b_row as isize,
                b_col as isize,
                1.0,
                c,
                job.c_row as isize,
                1,
            );
        }
        p += depth;
    }
}
