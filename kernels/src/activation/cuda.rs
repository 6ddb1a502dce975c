//! Element by element; see `kernel.cu`.
use super::*;
use crate::{
    Cuda,
    cuda::Program,
    launch::{Arg, Grid, flat},
};

const PROGRAM: Program = Program { name: NAME, ptx: include_str!("kernel.ptx") };

/// `Curve` of `curves.cuh`, whose order is that of [`Activation`].
pub(crate) fn argument(f: Activation) -> Arg<'static> {
    (f as u32).into()
}

pub(super) fn forward(c: &Cuda, f: Activation, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
    let (rows, cols) = flat(&[x, y.view()]);
    let args = [argument(f), Arg::read(x)?, Arg::write(y)?, rows.into(), cols.into()];
    // SAFETY: the parameters of `activation_forward`; the matrices have `rows` and `cols`, or as
    // many elements without gaps, as `super::forward` has checked.
    unsafe { c.launch(&PROGRAM, "activation_forward", Grid::elements(rows, cols), &args) }
}
pub(super) fn backward(c: &Cuda, f: Activation, x: View<'_>, d: ViewMut<'_>) -> Result<()> {
    let (rows, cols) = flat(&[x, d.view()]);
    let args = [argument(f), Arg::read(x)?, Arg::write(d)?, rows.into(), cols.into()];
    // SAFETY: as in `forward`: the parameters of `activation_backward`.
    unsafe { c.launch(&PROGRAM, "activation_backward", Grid::elements(rows, cols), &args) }
}
