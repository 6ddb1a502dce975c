//! A block for each tile of 64 x 64 results; see `kernel.cu`.
use super::*;
use crate::{
    Cuda, DType,
    cuda::{NULL, Program},
};
use cudarc::driver::{LaunchConfig, PushKernelArg};

const PROGRAM: Program = Program { name: NAME, ptx: include_str!("kernel.ptx") };
/// TILE and THREADS of `kernel.cu`.
const TILE: usize = 64;
const THREADS: u32 = 256;
/// Blocks of one launch: more than any GPU runs at a time. They share the tiles.
const MOST_BLOCKS: usize = 1 << 16;

/// C (m, n) = A B + ..
///
/// # Safety
/// A holds m k values of f32, B k n of the type that the kernel `name` takes, a bias n and C m n of f32, all on `d`.
#[allow(clippy::too_many_arguments)]
unsafe fn product(
    d: &Cuda,
    name: &'static str,
    a: &Buffer,
    b: &Buffer,
    plus: Plus<'_>,
    c: &mut Buffer,
    [m, n, k]: [usize; 3],
) -> Result<()> {
    if m == 0 || n == 0 {
        return Ok(());
    }
    let f = d.function(&PROGRAM, name)?;
    let tiles = m.div_ceil(TILE).saturating_mul(n.div_ceil(TILE));
    let config = LaunchConfig {
        grid_dim: (tiles.min(MOST_BLOCKS) as u32, 1, 1),
        block_dim: (THREADS, 1, 1),
        shared_mem_bytes: 0,
    };
    let (m, n, k) = (m as u64, n as u64, k as u64);
    if let Onto::Rows(rows) = plus.onto {
        c.cuda_mut()?.copy(rows.cuda()?)?;
    }
    let accumulate = i32::from(!matches!(plus.onto, Onto::Nothing));
    let bias = plus.bias.map(Buffer::cuda).transpose()?;
    let mut launch = d.stream.launch_builder(&f);
    launch.arg(&a.cuda()?.0).arg(&b.cuda()?.0);
    match bias {
        Some(bias) => launch.arg(&bias.0),
        None => launch.arg(&NULL),
    };
    launch.arg(&accumulate).arg(&mut c.cuda_mut()?.0).arg(&m).arg(&n).arg(&k);
    // SAFETY: these are the arguments that every kernel of `kernel.cu` takes, in order and type. By this function's
    // contract the buffers hold what it reads and writes, and it writes C alone. The block has the size it expects.
    unsafe { launch.launch(config) }?;
    Ok(())
}

fn unsupported(weight: DType) -> Error {
    let kernel = match weight {
        DType::I8 => "matmul with an int8 weight",
        DType::Nf4 => "matmul with an nf4 weight",
        _ => "matmul with such a weight",
    };
    Error::Unsupported { kernel, device: "cuda" }
}

/// Refuses some of a weight's rows.
fn whole(w: Matrix<'_>) -> Result<()> {
    match w.first {
        0 => Ok(()),
        _ => Err(Error::Unsupported { kernel: "matmul with some rows of a weight", device: "cuda" }),
    }
}

pub(super) fn times_transposed(
    d: &Cuda,
    x: &Buffer,
    m: usize,
    w: Matrix<'_>,
    plus: Plus<'_>,
    y: &mut Buffer,
) -> Result<()> {
    whole(w)?;
    let name = match w.data.dtype() {
        DType::Bf16 => "matmul_times_transposed_bf16",
        DType::F16 => "matmul_times_transposed_f16",
        DType::F32 => "matmul_times_transposed_f32",
        other => return Err(unsupported(other)),
    };
    // SAFETY: `super::times_transposed` has checked the device, the types and the lengths; the kernel is that of the
    // weight's type.
    unsafe { product(d, name, x, w.data, plus, y, [m, w.rows, w.cols]) }
}

pub(super) fn times(
    d: &Cuda,
    x: &Buffer,
    m: usize,
    w: Matrix<'_>,
    plus: Plus<'_>,
    y: &mut Buffer,
) -> Result<()> {
    whole(w)?;
    let name = match w.data.dtype() {
        DType::Bf16 => "matmul_times_bf16",
        DType::F16 => "matmul_times_f16",
        DType::F32 => "matmul_times_f32",
        other => return Err(unsupported(other)),
    };
    // SAFETY: `super::times` has checked the device, the types and the lengths.
    unsafe { product(d, name, x, w.data, plus, y, [m, w.cols, w.rows]) }
}

#[allow(clippy::too_many_arguments)]
pub(super) fn transposed_times(
    d: &Cuda,
    dy: &Buffer,
    n: usize,
    x: &Buffer,
    k: usize,
    m: usize,
    g: &mut Buffer,
    accumulate: bool,
) -> Result<()> {
    let plus = if accumulate { Plus::OUTPUT } else { Plus::NOTHING };
    // SAFETY: `super::transposed_times` has checked the device, the types and the lengths.
    unsafe { product(d, "matmul_transposed_times", dy, x, plus, g, [n, k, m]) }
}
