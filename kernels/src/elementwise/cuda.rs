//! Element by element; see `kernel.cu`.
use super::*;
use crate::{
    Cuda,
    cuda::Program,
    launch::{Arg, Grid, flat},
};

const PROGRAM: Program = Program { name: NAME, ptx: include_str!("kernel.ptx") };

pub(super) fn copy(d: &Cuda, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
    let (rows, cols) = flat(&[x, y.view()]);
    let args = [Arg::read(x)?, Arg::write(y)?, rows.into(), cols.into()];
    // SAFETY: the parameters of `elementwise_copy`; the matrices have `rows` and `cols`, or as many
    // elements without gaps, as `super::copy` has checked.
    unsafe { d.launch(&PROGRAM, "elementwise_copy", Grid::elements(rows, cols), &args) }
}
pub(super) fn add(d: &Cuda, a: View<'_>, b: View<'_>, y: ViewMut<'_>) -> Result<()> {
    let (rows, cols) = flat(&[a, b, y.view()]);
    let args = [Arg::read(a)?, Arg::read(b)?, Arg::write(y)?, rows.into(), cols.into()];
    // SAFETY: as in `copy`: the parameters of `elementwise_add`.
    unsafe { d.launch(&PROGRAM, "elementwise_add", Grid::elements(rows, cols), &args) }
}
pub(super) fn axpy(d: &Cuda, s: f32, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
    let (rows, cols) = flat(&[x, y.view()]);
    let args = [s.into(), Arg::read(x)?, Arg::write(y)?, rows.into(), cols.into()];
    // SAFETY: as in `copy`: the parameters of `elementwise_axpy`.
    unsafe { d.launch(&PROGRAM, "elementwise_axpy", Grid::elements(rows, cols), &args) }
}
pub(super) fn scale(d: &Cuda, s: f32, y: ViewMut<'_>) -> Result<()> {
    let (rows, cols) = flat(&[y.view()]);
    let args = [s.into(), Arg::write(y)?, rows.into(), cols.into()];
    // SAFETY: as in `copy`: the parameters of `elementwise_scale`.
    unsafe { d.launch(&PROGRAM, "elementwise_scale", Grid::elements(rows, cols), &args) }
}
pub(super) fn mul_row(d: &Cuda, x: View<'_>, v: &Buffer, y: ViewMut<'_>) -> Result<()> {
    let (rows, cols) = (x.rows(), x.cols());
    let one = v.len() == 1;
    let args = [Arg::read(x)?, Arg::all(v)?, one.into(), Arg::write(y)?, rows.into(), cols.into()];
    // SAFETY: as in `copy`: the parameters of `elementwise_mul_row`; v holds one value, or one for
    // each column.
    unsafe { d.launch(&PROGRAM, "elementwise_mul_row", Grid::elements(rows, cols), &args) }
}
