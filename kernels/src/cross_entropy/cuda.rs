//! A block for each row; see `kernel.cu`.
use super::*;
use crate::{
    Cuda,
    cuda::Program,
    launch::{Arg, Grid},
    reduce,
};

const PROGRAM: Program = Program { name: NAME, ptx: include_str!("kernel.ptx") };

/// What a launch allocates: what each row adds to the loss.
pub(super) fn workspace(device: &Device, rows: usize) -> Result<Buffer> {
    reduce::sums(device, rows)
}

pub(super) fn forward(
    device: &Device,
    d: &Cuda,
    z: View<'_>,
    labels: &Buffer,
    probs: ViewMut<'_>,
    loss: &mut Buffer,
) -> Result<()> {
    let (rows, classes) = (z.rows(), z.cols());
    let mut losses = workspace(device, rows)?;
    let args = [
        Arg::read(z)?,
        Arg::all(labels)?,
        Arg::write(probs)?,
        Arg::all_mut(&mut losses)?,
        rows.into(),
        classes.into(),
        d.faults(NAME, "class", classes),
    ];
    // SAFETY: the parameters of `cross_entropy_forward`. `super::forward` has checked that z and
    // probs have `rows` and `classes`, and that there is a label for each row; the kernel takes a
    // label beyond the classes for none. There is room for a number of two words for each row.
    unsafe { d.launch(&PROGRAM, "cross_entropy_forward", Grid::rows(rows, classes, 256), &args) }?;
    reduce::total(d, &losses, rows, 1.0, loss)
}
pub(super) fn backward(
    d: &Cuda,
    dloss: &Buffer,
    probs: View<'_>,
    labels: &Buffer,
    dz: ViewMut<'_>,
) -> Result<()> {
    let (rows, classes) = (probs.rows(), probs.cols());
    let args = [
        Arg::all(dloss)?,
        Arg::read(probs)?,
        Arg::all(labels)?,
        Arg::write(dz)?,
        rows.into(),
        classes.into(),
        d.faults(NAME, "class", classes),
    ];
    // SAFETY: as in `forward`: the parameters of `cross_entropy_backward`.
    unsafe { d.launch(&PROGRAM, "cross_entropy_backward", Grid::elements(rows, classes), &args) }
}
