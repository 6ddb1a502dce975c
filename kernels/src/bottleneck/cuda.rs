//! A block for some rows; see `kernel.cu`.
use super::*;
use crate::{
    Cuda,
    cuda::Program,
    launch::{Arg, Grid},
};

const PROGRAM: Program = Program { name: NAME, ptx: include_str!("kernel.ptx") };
/// ROWS and THREADS of `kernel.cu`.
const ROWS: usize = 16;
const THREADS: usize = 256;
/// Bytes of shared memory in which a block keeps what is between its products.
const HIDDEN: usize = 32 << 10;

/// The grid for m rows of width B, and the rows of a block: as many as the shared memory has room for.
fn grid(m: usize, b: usize) -> Result<(Grid, usize)> {
    let each = 4 * b.max(1);
    let rows = (HIDDEN / each).min(ROWS);
    if rows == 0 {
        let what = format!("a width of {b} is more than the {} that run on cuda", HIDDEN / 4);
        return Err(Error::Invalid { kernel: NAME, what });
    }
    Ok((Grid { shared: rows * each, ..Grid::pieces(m.div_ceil(rows), THREADS) }, rows))
}

pub(super) fn forward(
    d: &Cuda,
    w: Bottleneck<'_>,
    x: View<'_>,
    added: Plus<'_>,
    a: ViewMut<'_>,
    y: ViewMut<'_>,
) -> Result<()> {
    let [m, c, b] = [x.rows(), w.channels(), w.width()];
    let (grid, rows) = grid(m, b)?;
    let args = [
        activation::argument(w.f),
        Arg::read(x)?,
        Arg::read(w.down)?,
        Arg::all_if(w.down_bias)?,
        Arg::read(w.up)?,
        added.on_gpu(&y)?,
        Arg::write(a)?,
        Arg::write(y)?,
        m.into(),
        c.into(),
        b.into(),
        rows.into(),
    ];
    // SAFETY: the parameters of `bottleneck_forward`. `super::forward` has checked that all matrices
    // have the shapes that m, C and B give them; a block has the size the kernel expects, and room
    // for B values of each of its rows.
    unsafe { d.launch(&PROGRAM, "bottleneck_forward", grid, &args) }
}

pub(super) fn backward(
    d: &Cuda,
    w: Bottleneck<'_>,
    a: View<'_>,
    dy: View<'_>,
    da: ViewMut<'_>,
    dx: Option<(Plus<'_>, ViewMut<'_>)>,
) -> Result<()> {
    let [m, c, b] = [dy.rows(), w.channels(), w.width()];
    let (grid, rows) = grid(m, b)?;
    let (added, dx) = match dx {
        Some((added, dx)) => (added.on_gpu(&dx)?, Some(dx)),
        None => (Arg::structure(vec![0; 3]), None),
    };
    let args = [
        activation::argument(w.f),
        Arg::read(dy)?,
        Arg::read(w.down)?,
        Arg::read(w.up)?,
        added,
        Arg::read(a)?,
        Arg::write(da)?,
        Arg::write_if(dx)?,
        m.into(),
        c.into(),
        b.into(),
        rows.into(),
    ];
    // SAFETY: as in `forward`: the parameters of `bottleneck_backward`.
    unsafe { d.launch(&PROGRAM, "bottleneck_backward", grid, &args) }
}
