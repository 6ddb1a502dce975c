//! Element by element; see `kernel.cu`.
use super::*;
use crate::{
    Cuda,
    cuda::Program,
    launch::{Arg, Grid, flat},
};

const PROGRAM: Program = Program { name: NAME, ptx: include_str!("kernel.ptx") };

/// Both directions.
///
/// # Safety
/// x and y have one shape and the types that the kernel `name` takes, and are on `d`.
unsafe fn go(d: &Cuda, name: &'static str, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
    let (rows, cols) = flat(&[x, y.view()]);
    let args = [Arg::read(x)?, Arg::write(y)?, rows.into(), cols.into()];
    // SAFETY: the parameters of either kernel; this function's contract is the rest.
    unsafe { d.launch(&PROGRAM, name, Grid::elements(rows, cols), &args) }
}
pub(super) fn narrow(d: &Cuda, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
    // SAFETY: `super::narrow` has checked them.
    unsafe { go(d, "convert_narrow", x, y) }
}
pub(super) fn widen(d: &Cuda, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
    // SAFETY: `super::widen` has checked them.
    unsafe { go(d, "convert_widen", x, y) }
}
