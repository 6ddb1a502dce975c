//! Matrix products with a weight that is stored once.
//!
//! ```text
//! times_transposed   y (m, N) = x (m, K) Wᵀ + b     forward of a linear layer stored (out, in)
//! times              y (m, K) = x (m, N) W  + b     its dX, and the forward of one stored (in, out)
//! transposed_times   G (N, K) = dyᵀ x  [+ G]        the gradient of a trained weight
//! ```
//! W is (N, K), row-major, in f32, bf16 or f16; no second copy of it is made.
mod cpu;
mod cuda;

use crate::{Buffer, Case, Device, Error, Kernel, Result, need};
use half::{bf16, f16};
use num_traits::Float;

const NAME: &str = "matmul";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: Vec::<Case>::new };

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
    pub(crate) fn check(&self, device: &Device) -> Result<()> {
        let len = self.rows * self.cols;
        match self.data.dtype() {
            crate::DType::F32 => need::<f32>(NAME, device, "w", self.data, len),
            crate::DType::Bf16 => need::<bf16>(NAME, device, "w", self.data, len),
            crate::DType::F16 => need::<f16>(NAME, device, "w", self.data, len),
            got => Err(Error::DType { kernel: NAME, argument: "w", expected: "f32, bf16 or f16", got }),
        }
    }
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
    w.check(device)?;
    need::<f32>(NAME, device, "x", x, m * w.cols)?;
    need::<f32>(NAME, device, "y", y, m * w.rows)?;
    if let Some(b) = bias {
        need::<f32>(NAME, device, "bias", b, w.rows)?;
    }
    match device {
        Device::Cpu(d) => cpu::times_transposed(d, device, x, m, w, bias, y),
        Device::Cuda(d) => cuda::times_transposed(d, x, m, w, bias, y),
        Device::Null(_) => cpu::workspace(device).map(drop),
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
    w.check(device)?;
    need::<f32>(NAME, device, "x", x, m * w.rows)?;
    need::<f32>(NAME, device, "y", y, m * w.cols)?;
    if let Some(b) = bias {
        need::<f32>(NAME, device, "bias", b, w.cols)?;
    }
    match device {
        Device::Cpu(d) => cpu::times(d, device, x, m, w, bias, y),
        Device::Cuda(d) => cuda::times(d, x, m, w, bias, y),
        Device::Null(_) => cpu::workspace(device).map(drop),
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
    need::<f32>(NAME, device, "dy", dy, m * n)?;
    need::<f32>(NAME, device, "x", x, m * k)?;
    need::<f32>(NAME, device, "g", g, n * k)?;
    match device {
        Device::Cpu(d) => cpu::transposed_times(d, device, dy, n, x, k, m, g, accumulate),
        Device::Cuda(d) => cuda::transposed_times(d, dy, n, x, k, m, g, accumulate),
        Device::Null(_) => cpu::workspace(device).map(drop),
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
