//! A block for each tile of 64 x 64 results; see `kernel.cu`.
use super::*;
use crate::{
    Cuda, DType,
    cuda::Program,
    launch::{Arg, Grid},
};

const PROGRAM: Program = Program { name: NAME, ptx: include_str!("kernel.ptx") };
/// TILE and THREADS of `kernel.cu`.
const TILE: usize = 64;
const THREADS: usize = 256;

/// C (m, n) = A B + ..
///
/// # Safety
/// A holds m k values of f32, B k n of the type that the kernel `name` takes, both from the start
/// of their buffers and without gaps; a bias holds n values of f32; C and what is added to it are
/// (m, n), f32. All are on `d`.
unsafe fn product(
    d: &Cuda,
    name: &'static str,
    a: &Buffer,
    b: &Buffer,
    plus: Plus<'_>,
    c: ViewMut<'_>,
    k: usize,
) -> Result<()> {
    let (m, n) = (c.view().rows(), c.view().cols());
    whole(c.view())?;
    let rows = match plus.base {
        Base::Rows(rows) => Some(whole(rows)?),
        Base::Nothing | Base::Output => None,
    };
    if m == 0 || n == 0 {
        return Ok(());
    }
    let c = c.buffer();
    if let Some(rows) = rows {
        c.cuda_mut()?.copy(rows.cuda()?)?;
    }
    let tiles = m.div_ceil(TILE).saturating_mul(n.div_ceil(TILE));
    let accumulate = plus.has_base();
    let args = [
        Arg::all(a)?,
        Arg::all(b)?,
        Arg::all_if(plus.bias)?,
        accumulate.into(),
        Arg::all_mut(c)?,
        m.into(),
        n.into(),
        k.into(),
    ];
    // SAFETY: these are the parameters of every kernel of `kernel.cu`. By this function's contract
    // the buffers hold what it reads and writes, and it writes C alone. The block has the size it
    // expects.
    unsafe { d.launch(&PROGRAM, name, Grid::pieces(tiles, THREADS), &args) }
}

const PARTS: Error = Error::Unsupported { kernel: "matmul with a part of a matrix", device: "cuda" };

/// The buffer of a matrix that lies at its start, without gaps.
fn whole(v: View<'_>) -> Result<&Buffer> {
    if v.start() == 0 && v.is_dense() { Ok(v.buffer()) } else { Err(PARTS) }
}
/// The same of a weight, and which of the kernels for f32, bf16 and f16 reads it.
fn stored<'a>(w: Matrix<'a>, kernels: [&'static str; 3]) -> Result<(&'a Buffer, &'static str)> {
    let kernel = match w.data.dtype() {
        _ if w.first != (0, 0) || (w.stride != w.cols && w.rows > 1) => return Err(PARTS),
        DType::F32 => return Ok((w.data, kernels[0])),
        DType::Bf16 => return Ok((w.data, kernels[1])),
        DType::F16 => return Ok((w.data, kernels[2])),
        DType::I8 => "matmul with an int8 weight",
        DType::Nf4 => "matmul with an nf4 weight",
        _ => "matmul with such a weight",
    };
    Err(Error::Unsupported { kernel, device: "cuda" })
}

pub(super) fn times_transposed(
    d: &Cuda,
    x: View<'_>,
    w: Matrix<'_>,
    plus: Plus<'_>,
    y: ViewMut<'_>,
) -> Result<()> {
    let kernels =
        ["matmul_times_transposed_f32", "matmul_times_transposed_bf16", "matmul_times_transposed_f16"];
    let (data, name) = stored(w, kernels)?;
    // SAFETY: `super::times_transposed` has checked the device, the types and the shapes; the
    // kernel is that of the weight's type.
    unsafe { product(d, name, whole(x)?, data, plus, y, w.cols) }
}

pub(super) fn times(d: &Cuda, x: View<'_>, w: Matrix<'_>, plus: Plus<'_>, y: ViewMut<'_>) -> Result<()> {
    let (data, name) = stored(w, ["matmul_times_f32", "matmul_times_bf16", "matmul_times_f16"])?;
    // SAFETY: `super::times` has checked the device, the types and the shapes.
    unsafe { product(d, name, whole(x)?, data, plus, y, w.rows) }
}

pub(super) fn transposed_times(
    d: &Cuda,
    dy: View<'_>,
    x: View<'_>,
    plus: Plus<'_>,
    g: ViewMut<'_>,
) -> Result<()> {
    // SAFETY: `super::transposed_times` has checked the device, the types and the shapes.
    unsafe { product(d, "matmul_transposed_times", whole(dy)?, whole(x)?, plus, g, dy.rows()) }
}
