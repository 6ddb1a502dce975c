//! A block for each column of each example; see `kernel.cu`. Lengths and targets that are wrong
//! are the error of the next call that waits for the device.
use super::*;
use crate::{
    Cuda,
    cuda::Program,
    launch::{Arg, Grid},
    reduce,
};

const PROGRAM: Program = Program { name: NAME, ptx: include_str!("kernel.ptx") };

/// What a launch allocates: what each column of each example adds to the loss.
pub(super) fn workspace(device: &Device, examples: usize, columns: usize) -> Result<Buffer> {
    reduce::sums(device, examples * columns)
}

pub(super) fn forward(
    device: &Device,
    d: &Cuda,
    z: View<'_>,
    lengths: &Buffer,
    targets: &Buffer,
    probs: ViewMut<'_>,
    loss: &mut Buffer,
) -> Result<()> {
    let (examples, columns, rows) = (lengths.len(), z.cols(), z.rows());
    let mut losses = workspace(device, examples, columns)?;
    let args = [
        Arg::read(z)?,
        Arg::all(lengths)?,
        Arg::all(targets)?,
        Arg::write(probs)?,
        Arg::all_mut(&mut losses)?,
        examples.into(),
        columns.into(),
        rows.into(),
        d.faults(NAME, "end of the examples at row", rows),
        d.faults(NAME, "row of an example", rows),
    ];
    // SAFETY: the parameters of `cross_entropy_of_rows_forward`. `super::forward` has checked that z
    // and probs have `rows` and `columns`, and that each example has a length, and a target for each
    // column; the kernel stays within the rows. There is room for two words for each column of each
    // example.
    unsafe {
        let grid = Grid::pieces(examples * columns, 256);
        d.launch(&PROGRAM, "cross_entropy_of_rows_forward", grid, &args)
    }?;
    reduce::total(d, &losses, examples * columns, 1.0 / share::<f64>(columns), loss)
}
pub(super) fn backward(
    d: &Cuda,
    dloss: &Buffer,
    probs: View<'_>,
    lengths: &Buffer,
    targets: &Buffer,
    dz: ViewMut<'_>,
) -> Result<()> {
    let (examples, columns, rows) = (lengths.len(), probs.cols(), probs.rows());
    let args = [
        Arg::all(dloss)?,
        (1.0 / share::<f32>(columns)).into(),
        Arg::read(probs)?,
        Arg::all(lengths)?,
        Arg::all(targets)?,
        Arg::write(dz)?,
        examples.into(),
        columns.into(),
        rows.into(),
        d.faults(NAME, "end of the examples at row", rows),
        d.faults(NAME, "row of an example", rows),
    ];
    // SAFETY: as in `forward`: the parameters of `cross_entropy_of_rows_backward`.
    unsafe {
        let grid = Grid::pieces(examples * columns, 256);
        d.launch(&PROGRAM, "cross_entropy_of_rows_backward", grid, &args)
    }
}
