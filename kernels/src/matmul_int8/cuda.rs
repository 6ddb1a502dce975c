//! A block for each row that is rounded, and for each tile of 64 x 64 results; see `kernel.cu`.
use super::*;
use crate::{
    Cuda,
    cuda::Program,
    launch::{Arg, Grid},
};

const PROGRAM: Program = Program { name: NAME, ptx: include_str!("kernel.ptx") };
/// TILE and THREADS of `kernel.cu`.
const TILE: usize = 64;
const THREADS: usize = 256;

pub(super) fn quantize_rows(
    d: &Cuda,
    x: View<'_>,
    by: Option<&Buffer>,
    to: &mut QuantizedRows,
) -> Result<()> {
    let (rows, cols) = (to.rows, to.cols);
    let args = [
        Arg::read(x)?,
        Arg::all_if(by)?,
        Arg::all_mut(&mut to.q)?,
        Arg::all_mut(&mut to.scales)?,
        rows.into(),
        cols.into(),
        stride(cols).into(),
    ];
    // SAFETY: the parameters of `matmul_int8_quantize_rows`. `super::quantize_rows` has checked the
    // shape of x and the length of `by`; `QuantizedRows::alloc` has made room for rows of `stride`
    // bytes and their scales.
    unsafe { d.launch(&PROGRAM, "matmul_int8_quantize_rows", Grid::rows(rows, cols, 256), &args) }
}

/// C (m, n) from x and W, whose scales are of columns, or none if they are in x.
pub(super) fn product(
    d: &Cuda,
    x: &QuantizedRows,
    (w, scales): (Matrix<'_>, Option<&Buffer>),
    plus: Plus<'_>,
    y: ViewMut<'_>,
) -> Result<()> {
    let (m, n) = (y.view().rows(), y.view().cols());
    let (name, k) = match scales {
        Some(_) => ("matmul_int8_times_transposed", w.cols),
        None => ("matmul_int8_times", w.rows),
    };
    let from = |b: &Buffer, first: usize| -> Result<Arg<'static>> {
        Ok((Arg::address(b)? as usize + first * b.dtype().size()).into())
    };
    let added = plus.on_gpu(&y)?;
    let args = [
        Arg::all(&x.q)?,
        (stride(k) / 4).into(),
        Arg::all(&x.scales)?,
        from(w.data, w.first.0 * w.stride + w.first.1)?,
        w.stride.into(),
        scales.map_or(Ok(0usize.into()), |s| from(s, w.first.0))?,
        added,
        Arg::write(y)?,
        m.into(),
        n.into(),
        k.into(),
    ];
    let tiles = m.div_ceil(TILE).saturating_mul(n.div_ceil(TILE));
    // SAFETY: the parameters of both kernels. `super::product` has checked the shapes and types of
    // all of them, and that sums of k products fit; a row of x is whole words.
    unsafe { d.launch(&PROGRAM, name, Grid::pieces(tiles, THREADS), &args) }
}
