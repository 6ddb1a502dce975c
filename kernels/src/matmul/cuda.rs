//! A block for each tile of 64 x 64 results; see `kernel.cu`.
use super::*;
use crate::{
    Cuda, Storage,
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
/// The kernel `name` reads A and B, with the depth k, and writes C (m, n). What is added has the
/// shape of C; all are on `d`.
unsafe fn product(
    d: &Cuda,
    name: &'static str,
    a: View<'_>,
    b: Arg<'_>,
    plus: Plus<'_>,
    c: ViewMut<'_>,
    k: usize,
) -> Result<()> {
    let (m, n) = (c.view().rows(), c.view().cols());
    let tiles = m.div_ceil(TILE).saturating_mul(n.div_ceil(TILE));
    let added = plus.on_gpu(&c)?;
    let args = [Arg::read(a)?, b, added, Arg::write(c)?, m.into(), n.into(), k.into()];
    // SAFETY: these are the parameters of every kernel of `kernel.cu`; the rest is this function's
    // contract. The block has the size they expect.
    unsafe { d.launch(&PROGRAM, name, Grid::pieces(tiles, THREADS), &args) }
}

pub(super) fn times_transposed(
    d: &Cuda,
    x: View<'_>,
    w: Matrix<'_>,
    plus: Plus<'_>,
    y: ViewMut<'_>,
) -> Result<()> {
    let (b, storage) = w.on_gpu()?;
    let name = match storage {
        Storage::F32 => "matmul_times_transposed_f32",
        Storage::Bf16 => "matmul_times_transposed_bf16",
        Storage::F16 => "matmul_times_transposed_f16",
        Storage::Int8 => "matmul_times_transposed_int8",
        Storage::Nf4 => "matmul_times_transposed_nf4",
    };
    // SAFETY: `super::times_transposed` has checked the device, the types and the shapes; the
    // kernel is that of the weight's type.
    unsafe { product(d, name, x, b, plus, y, w.cols) }
}

pub(super) fn times(d: &Cuda, x: View<'_>, w: Matrix<'_>, plus: Plus<'_>, y: ViewMut<'_>) -> Result<()> {
    let (b, storage) = w.on_gpu()?;
    let name = match storage {
        Storage::F32 => "matmul_times_f32",
        Storage::Bf16 => "matmul_times_bf16",
        Storage::F16 => "matmul_times_f16",
        Storage::Int8 => "matmul_times_int8",
        Storage::Nf4 => "matmul_times_nf4",
    };
    // SAFETY: `super::times` has checked the device, the types and the shapes.
    unsafe { product(d, name, x, b, plus, y, w.rows) }
}

pub(super) fn transposed_times(
    d: &Cuda,
    dy: View<'_>,
    x: View<'_>,
    plus: Plus<'_>,
    g: ViewMut<'_>,
) -> Result<()> {
    let (b, _) = Matrix::from(x).on_gpu()?;
    // SAFETY: `super::transposed_times` has checked the device, the types and the shapes.
    unsafe { product(d, "matmul_transposed_times", dy, b, plus, g, dy.rows()) }
}
