//! A block for the sum, and element by element; see `kernel.cu`, whose `Loss` has this order.
use super::*;
use crate::{
    Cuda,
    cuda::Program,
    launch::{Arg, Grid, flat},
};

const PROGRAM: Program = Program { name: NAME, ptx: include_str!("kernel.ptx") };
/// Threads of the block that sums.
const THREADS: usize = 1024;

pub(super) fn forward(d: &Cuda, loss: Loss, z: View<'_>, targets: View<'_>, sum: &mut Buffer) -> Result<()> {
    let (rows, cols) = flat(&[z, targets]);
    let args = [
        (loss as u32).into(),
        Arg::read(z)?,
        Arg::read(targets)?,
        loss.share::<f64>(z.cols()).into(),
        Arg::all_mut(sum)?,
        rows.into(),
        cols.into(),
    ];
    // SAFETY: the parameters of `pointwise_loss_forward`; `super::forward` has checked that both
    // matrices have `rows` and `cols`, or as many elements without gaps, and that `sum` has room.
    unsafe { d.launch(&PROGRAM, "pointwise_loss_forward", Grid::pieces(1, THREADS), &args) }
}
pub(super) fn backward(
    d: &Cuda,
    loss: Loss,
    dloss: &Buffer,
    z: View<'_>,
    targets: View<'_>,
    dz: ViewMut<'_>,
) -> Result<()> {
    let (rows, cols) = flat(&[z, targets, dz.view()]);
    let args = [
        (loss as u32).into(),
        Arg::all(dloss)?,
        loss.share::<f64>(z.cols()).into(),
        Arg::read(z)?,
        Arg::read(targets)?,
        Arg::write(dz)?,
        rows.into(),
        cols.into(),
    ];
    // SAFETY: as in `forward`: the parameters of `pointwise_loss_backward`.
    unsafe { d.launch(&PROGRAM, "pointwise_loss_backward", Grid::elements(rows, cols), &args) }
}
