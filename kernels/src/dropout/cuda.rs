//! Element by element; see `kernel.cu`.
use super::*;
use crate::{
    Cuda,
    cuda::Program,
    launch::{Arg, Grid},
};

const PROGRAM: Program = Program { name: NAME, ptx: include_str!("kernel.ptx") };

/// `Dropout` of `cuda.cuh`; without one it drops nothing.
pub(crate) fn argument(d: Option<Dropout>) -> Arg<'static> {
    let d = d.unwrap_or(Dropout::none());
    Arg::table(&[d.key[0], d.key[1], d.threshold(), d.scale().to_bits()])
}

pub(super) fn apply(c: &Cuda, d: Dropout, y: ViewMut<'_>) -> Result<()> {
    let (rows, cols) = (y.view().rows(), y.view().cols());
    let args = [Arg::write(y)?, argument(Some(d)), rows.into(), cols.into()];
    // SAFETY: the parameters of `dropout_apply`; y, which `super::apply` has checked, has `rows` and
    // `cols`.
    unsafe { c.launch(&PROGRAM, "dropout_apply", Grid::elements(rows, cols), &args) }
}
