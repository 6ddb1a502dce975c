//! Element by element; see `kernel.cu`.
use super::*;
use crate::{
    Cuda,
    cuda::Program,
    launch::{Arg, Grid, flat},
};

const PROGRAM: Program = Program { name: NAME, ptx: include_str!("kernel.ptx") };

pub(super) fn forward(d: &Cuda, f: Activation, a: View<'_>, b: View<'_>, y: ViewMut<'_>) -> Result<()> {
    let (rows, cols) = flat(&[a, b, y.view()]);
    let f = activation::argument(f);
    let args = [f, Arg::read(a)?, Arg::read(b)?, Arg::write(y)?, rows.into(), cols.into()];
    // SAFETY: the parameters of `gated_forward`; the matrices have `rows` and `cols`, or as many
    // elements without gaps, as `super::forward` has checked.
    unsafe { d.launch(&PROGRAM, "gated_forward", Grid::elements(rows, cols), &args) }
}
pub(super) fn backward(
    d: &Cuda,
    f: Activation,
    dy: View<'_>,
    [a, b]: [View<'_>; 2],
    da: ViewMut<'_>,
    db: ViewMut<'_>,
) -> Result<()> {
    let (rows, cols) = flat(&[dy, a, b, da.view(), db.view()]);
    let args = [
        activation::argument(f),
        Arg::read(dy)?,
        Arg::read(a)?,
        Arg::read(b)?,
        Arg::write(da)?,
        Arg::write(db)?,
        rows.into(),
        cols.into(),
    ];
    // SAFETY: as in `forward`: the parameters of `gated_backward`.
    unsafe { d.launch(&PROGRAM, "gated_backward", Grid::elements(rows, cols), &args) }
}
