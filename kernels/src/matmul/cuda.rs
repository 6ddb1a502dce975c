//! A block for each tile of results; see `kernel.cu`.
use super::*;
use crate::{
    Cuda, Products, Storage,
    cuda::Program,
    launch::{Arg, Grid},
};

const PROGRAM: Program = Program { name: NAME, ptx: include_str!("kernel.ptx") };
/// TILE of `kernel.cu`, and the threads of its blocks: of the kernels for f32, and on tensor cores.
const TILE: usize = 64;
const THREADS: [usize; 2] = [256, 128];

/// A kernel's name by how products are computed.
struct Kernels<T> {
    f32: T,
    /// On tensor cores.
    bf16: T,
}
/// Names by storage type, in the order of [`Storage::ALL`].
macro_rules! by_storage {
    ($($name:literal)*) => {
        [
            concat!($($name,)* "_f32"),
            concat!($($name,)* "_bf16"),
            concat!($($name,)* "_f16"),
            concat!($($name,)* "_int8"),
            concat!($($name,)* "_nf4"),
        ]
    };
}
const TIMES_TRANSPOSED: Kernels<[&str; 5]> =
    Kernels { f32: by_storage!("matmul_times_transposed"), bf16: by_storage!("matmul_mma_times_transposed") };
const TIMES: Kernels<[&str; 5]> =
    Kernels { f32: by_storage!("matmul_times"), bf16: by_storage!("matmul_mma_times") };
const TRANSPOSED_TIMES: Kernels<&str> =
    Kernels { f32: "matmul_transposed_times", bf16: "matmul_mma_transposed_times" };
impl Kernels<[&'static str; 5]> {
    fn of(&self, storage: Storage) -> Kernels<&'static str> {
        let at = storage as usize;
        Kernels { f32: self.f32[at], bf16: self.bf16[at] }
    }
}

/// C (m, n) = A B + ..
///
/// # Safety
/// The kernels read A and B, with the depth k, and write C (m, n). What is added has the shape of C;
/// all are on `d`.
unsafe fn product(
    d: &Cuda,
    kernels: Kernels<&'static str>,
    a: View<'_>,
    b: Arg<'_>,
    plus: Plus<'_>,
    c: ViewMut<'_>,
    k: usize,
) -> Result<()> {
    let (m, n) = (c.view().rows(), c.view().cols());
    let tiles = m.div_ceil(TILE).saturating_mul(n.div_ceil(TILE));
    let (name, threads) = match d.products() {
        Products::F32 => (kernels.f32, THREADS[0]),
        Products::Bf16 => (kernels.bf16, THREADS[1]),
    };
    let added = plus.on_gpu(&c)?;
    let args = [Arg::read(a)?, b, added, Arg::write(c)?, m.into(), n.into(), k.into()];
    // SAFETY: these are the parameters of every kernel of `kernel.cu`; the rest is this function's
    // contract. The block has the size they expect.
    unsafe { d.launch(&PROGRAM, name, Grid::pieces(tiles, threads), &args) }
}

pub(super) fn times_transposed(
    d: &Cuda,
    x: View<'_>,
    w: Matrix<'_>,
    plus: Plus<'_>,
    y: ViewMut<'_>,
) -> Result<()> {
    let (b, storage) = w.on_gpu()?;
    // SAFETY: `super::times_transposed` has checked the device, the types and the shapes; the
    // kernels are those of the weight's type.
    unsafe { product(d, TIMES_TRANSPOSED.of(storage), x, b, plus, y, w.cols) }
}

pub(super) fn times(d: &Cuda, x: View<'_>, w: Matrix<'_>, plus: Plus<'_>, y: ViewMut<'_>) -> Result<()> {
    let (b, storage) = w.on_gpu()?;
    // SAFETY: `super::times` has checked the device, the types and the shapes.
    unsafe { product(d, TIMES.of(storage), x, b, plus, y, w.rows) }
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
    unsafe { product(d, TRANSPOSED_TIMES, dy, b, plus, g, dy.rows()) }
}
