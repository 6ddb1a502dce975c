//! A block for each row; see `kernel.cu`.
use super::*;
use crate::{
    Cuda,
    cuda::Program,
    dropout::argument,
    launch::{Arg, Grid},
};

const PROGRAM: Program = Program { name: NAME, ptx: include_str!("kernel.ptx") };
/// THREADS of `kernel.cu`.
const THREADS: usize = 256;

pub(super) fn forward(
    d: &Cuda,
    x: View<'_>,
    r: Option<View<'_>>,
    n: Norm<'_>,
    y: ViewMut<'_>,
    keep: Option<SavedNorm<'_>>,
) -> Result<()> {
    let (rows, cols) = (x.rows(), x.cols());
    if cols == 0 {
        return Ok(());
    }
    let (normed, rstd) = match keep {
        Some(k) => (Some(k.normed), Some(k.rstd)),
        None => (None, None),
    };
    let args = [
        Arg::read(x)?,
        Arg::read_if(r)?,
        Arg::all(n.gamma)?,
        Arg::all_if(n.beta)?,
        n.eps.into(),
        n.centred.into(),
        n.dropout.is_some().into(),
        argument(n.dropout),
        rows.into(),
        cols.into(),
        Arg::write(y)?,
        Arg::write_if(normed)?,
        Arg::all_mut_if(rstd)?,
    ];
    // SAFETY: the parameters of `layernorm_forward`. `super::forward` has checked that all are on
    // this device, hold f32 and have `rows` and `cols`, beyond which the kernel touches nothing; a
    // block is made of whole warps.
    unsafe { d.launch(&PROGRAM, "layernorm_forward", Grid::rows(rows, cols, THREADS), &args) }
}

pub(super) fn backward(
    d: &Cuda,
    dy: View<'_>,
    normed: View<'_>,
    rstd: &Buffer,
    n: Norm<'_>,
    ds: ViewMut<'_>,
    dx: Option<ViewMut<'_>>,
) -> Result<()> {
    let (rows, cols) = (dy.rows(), dy.cols());
    if cols == 0 {
        return Ok(());
    }
    let args = [
        Arg::read(dy)?,
        Arg::read(normed)?,
        Arg::all(rstd)?,
        Arg::all(n.gamma)?,
        n.centred.into(),
        argument(n.dropout),
        rows.into(),
        cols.into(),
        Arg::write(ds)?,
        Arg::write_if(dx)?,
    ];
    // SAFETY: as in `forward`: the parameters of `layernorm_backward`, which `super::backward` has
    // checked.
    unsafe { d.launch(&PROGRAM, "layernorm_backward", Grid::rows(rows, cols, THREADS), &args) }
}
