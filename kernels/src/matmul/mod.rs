//! Matrix products with a weight that is stored once.
//!
//! ```text
//! times_transposed   y (m, N) = x (m, K) Wᵀ + b     forward of a linear layer stored (out, in)
//! times              y (m, K) = x (m, N) W  + b     its dX, and the forward of one stored (in, out)
//! transposed_times   G (N, K) = dyᵀ x  [+ G]        the gradient of a trained weight
//! ```
//! W is (N, K), row-major, in f32, bf16 or f16; no second copy of it is made.
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod cases;
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
mod cpu;
mod cuda;
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
mod pack;
mod plan;
mod portable;
#[cfg(test)]
mod tests;
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
mod tile;
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
mod vector;

use crate::{Buffer, Cost, DType, Device, Error, Kernel, Result, isa, need};
use cpu::{Start, Strided};
use half::{bf16, f16};
use num_traits::Float;
use plan::Plan;

const NAME: &str = "matmul";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: cases::cases };

/// Elements of a matrix.
fn area(argument: &'static str, rows: usize, cols: usize) -> Result<usize> {
    let too_many = Error::Length { kernel: NAME, argument, expected: usize::MAX, got: 0 };
    rows.checked_mul(cols).ok_or(too_many)
}

/// A stored weight: `rows` x `cols`, row-major.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// The elements: f32, bf16 or f16.
    pub data: &'a Buffer,
    /// N: outputs of a linear layer stored (out, in).
    pub rows: usize,
    /// K: its inputs.
    pub cols: usize,
}

impl Matrix<'_> {
    pub(crate) fn check(&self, kernel: &'static str, argument: &'static str, device: &Device) -> Result<()> {
        let len = area(argument, self.rows, self.cols)?;
        match self.data.dtype() {
            DType::F32 => need::<f32>(kernel, device, argument, self.data, len),
            DType::Bf16 => need::<bf16>(kernel, device, argument, self.data, len),
            DType::F16 => need::<f16>(kernel, device, argument, self.data, len),
            got => Err(Error::DType { kernel, argument, expected: "f32, bf16 or f16", got }),
        }
    }
}

fn start(bias: Option<&Buffer>) -> Result<Start<'_>> {
    Ok(match bias {
        Some(b) => Start::Bias(b.host()?),
        None => Start::Zero,
    })
}

/// C (rows, cols) from (rows, depth) and (depth, cols), the latter stored as `b`.
fn cost(rows: usize, depth: usize, cols: usize, b: DType, accumulate: bool) -> Cost {
    let (rows, depth, cols) = (rows as f64, depth as f64, cols as f64);
    let passes = if accumulate { 2.0 } else { 1.0 };
    let bytes = 4.0 * rows * (depth + passes * cols) + b.size() as f64 * depth * cols;
    Cost { flops: 2.0 * rows * depth * cols, bytes }
}

/// y (m, N) = x (m, K) Wᵀ + b.
pub fn times_transposed(
    device: &Device,
    x: &Buffer,
    m: usize,
    w: Matrix<'_>,
    bias: Option<&Buffer>,
    y: &mut Buffer,
) -> Result<()> {
    w.check(NAME, "w", device)?;
    need::<f32>(NAME, device, "x", x, area("x", m, w.cols)?)?;
    need::<f32>(NAME, device, "y", y, area("y", m, w.rows)?)?;
    if let Some(b) = bias {
        need::<f32>(NAME, device, "bias", b, w.rows)?;
    }
    let plan = || Ok::<_, Error>(Plan::new(isa()?, m, w.cols, w.rows, false, false));
    let _span = device.span(NAME, "times_transposed", || cost(m, w.cols, w.rows, w.data.dtype(), false));
    match device {
        Device::Cpu(d) => {
            let a = Strided { data: x.host()?, row: w.cols, col: 1 };
            cpu::product(d, plan()?, a, (w, true), start(bias)?, y)
        }
        Device::Cuda(d) => cuda::times_transposed(d, x, m, w, bias, y),
        Device::Null(_) => cpu::workspace(device, &plan()?, w.data.dtype()).map(drop),
    }
}

/// y (m, K) = x (m, N) W + b.
pub fn times(
    device: &Device,
    x: &Buffer,
    m: usize,
    w: Matrix<'_>,
    bias: Option<&Buffer>,
    y: &mut Buffer,
) -> Result<()> {
    w.check(NAME, "w", device)?;
    need::<f32>(NAME, device, "x", x, area("x", m, w.rows)?)?;
    need::<f32>(NAME, device, "y", y, area("y", m, w.cols)?)?;
    if let Some(b) = bias {
        need::<f32>(NAME, device, "bias", b, w.cols)?;
    }
    let plan = || Ok::<_, Error>(Plan::new(isa()?, m, w.rows, w.cols, false, w.data.dtype() == DType::F32));
    let _span = device.span(NAME, "times", || cost(m, w.rows, w.cols, w.data.dtype(), false));
    match device {
        Device::Cpu(d) => {
            let a = Strided { data: x.host()?, row: w.rows, col: 1 };
            cpu::product(d, plan()?, a, (w, false), start(bias)?, y)
        }
        Device::Cuda(d) => cuda::times(d, x, m, w, bias, y),
        Device::Null(_) => cpu::workspace(device, &plan()?, w.data.dtype()).map(drop),
    }
}

/// g (n, k) = dyᵀ x, or g += dyᵀ x; dy (m, n), x (m, k).
#[allow(clippy::too_many_arguments)]
pub fn transposed_times(
    device: &Device,
    dy: &Buffer,
    n: usize,
    x: &Buffer,
    k: usize,
    m: usize,
    g: &mut Buffer,
    accumulate: bool,
) -> Result<()> {
    need::<f32>(NAME, device, "dy", dy, area("dy", m, n)?)?;
    need::<f32>(NAME, device, "x", x, area("x", m, k)?)?;
    need::<f32>(NAME, device, "g", g, area("g", n, k)?)?;
    let plan = || Ok::<_, Error>(Plan::gradient(isa()?, n, m, k));
    let _span = device.span(NAME, "transposed_times", || cost(n, m, k, DType::F32, accumulate));
    match device {
        Device::Cpu(d) => {
            let plan = plan()?;
            let start = if accumulate { Start::Output } else { Start::Zero };
            let ((a, row), (b, col)) = if plan.flipped { ((x, k), (dy, n)) } else { ((dy, n), (x, k)) };
            let a = Strided { data: a.host()?, row: 1, col: row };
            cpu::product(d, plan, a, (Matrix { data: b, rows: m, cols: col }, false), start, g)
        }
        Device::Cuda(d) => cuda::transposed_times(d, dy, n, x, k, m, g, accumulate),
        Device::Null(_) => cpu::workspace(device, &plan()?, DType::F32).map(drop),
    }
}

/// Plain loops: C (m, n) = A B + bias, each operand given with its row and column strides.
pub fn reference<T: Float>(
    m: usize,
    k: usize,
    n: usize,
    a: (&[T], usize, usize),
    b: (&[T], usize, usize),
    bias: Option<&[T]>,
) -> Vec<T> {
    let mut c = vec![T::zero(); m * n];
    for i in 0..m {
        for p in 0..k {
            let x = a.0[i * a.1 + p * a.2];
            for j in 0..n {
                c[i * n + j] = c[i * n + j] + x * b.0[p * b.1 + j * b.2];
            }
        }
        if let Some(bias) = bias {
            for j in 0..n {
                c[i * n + j] = c[i * n + j] + bias[j];
            }
        }
    }
    c
}
