//! Matrix products with a weight that is stored once.
//!
//! ```text
//! times_transposed   y (m, N) = x (m, K) Wᵀ [+ ..]  forward of a linear layer stored (out, in)
//! times              y (m, K) = x (m, N) W  [+ ..]  its dX, and the forward of one stored (in, out)
//! transposed_times   G (N, K) = dyᵀ x  [+ G]        the gradient of a trained weight
//! ```
//! What is added ([`Plus`]) costs no pass of its own. W is (N, K), row-major, in any
//! [`crate::Storage`] type, or some of the rows and columns of one; no second copy of it is made.
//! x, y, g and what is added are [`View`]s: parts of matrices.
mod cases;
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
mod cpu;
mod cuda;
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
mod few;
mod operands;
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
mod pack;
pub(crate) mod panels;
mod plan;
mod portable;
#[cfg(test)]
mod tests;
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
pub(crate) mod tile;
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
mod transpose;
#[cfg(target_arch = "x86_64")]
mod x86;

use crate::{Buffer, Cost, DType, Device, Error, Kernel, Result, View, ViewMut, isa};
pub use crate::{
    epilogue::{Base, Epilogue, Plus},
    storage::Matrix,
};
pub(crate) use cases::AWKWARD;
use num_traits::Float;
use operands::Strided;
use plan::Plan;
pub(crate) use plan::Tiles;
pub(crate) use tile::{Tile, TilePrefetch};

const NAME: &str = "matmul";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: cases::cases };

/// Elements of a matrix.
pub(crate) fn area(kernel: &'static str, argument: &'static str, rows: usize, cols: usize) -> Result<usize> {
    rows.checked_mul(cols).ok_or_else(|| Error::uncountable(kernel, argument, (rows, cols)))
}

/// C (rows, cols) from (rows, depth) and (depth, cols), the latter of `stored` bytes, set or
/// added to a matrix.
fn cost([rows, depth, cols]: [usize; 3], stored: usize, added: bool) -> Cost {
    let (rows, depth, cols) = (rows as f64, depth as f64, cols as f64);
    let passes = if added { 2.0 } else { 1.0 };
    Cost {
        flops: 2.0 * rows * depth * cols,
        bytes: 4.0 * rows * (depth + passes * cols) + stored as f64,
        ..Cost::default()
    }
}

/// y (m, N) = x (m, K) Wᵀ + ..
pub fn times_transposed(
    device: &Device,
    x: View<'_>,
    w: Matrix<'_>,
    plus: Plus<'_>,
    y: ViewMut<'_>,
) -> Result<()> {
    let m = x.rows();
    w.check(NAME, "w", device)?;
    x.expect::<f32>(NAME, device, "x", (m, w.cols))?;
    y.view().expect::<f32>(NAME, device, "y", (m, w.rows))?;
    plus.check(NAME, device, (m, w.rows))?;
    let plan = || Ok::<_, Error>(Plan::forward(isa()?, m, w.cols, w.rows, w.data.dtype() == DType::F32));
    let _span =
        device.span(NAME, "times_transposed", || cost([m, w.cols, w.rows], w.bytes(), plus.has_base()));
    match device {
        Device::Cpu(d) => {
            let plan = plan()?;
            if plan.c_transposed {
                let w = w.floats(w.data.host()?);
                let a = Strided { data: w.data, row: w.stride, col: 1 };
                return cpu::product(device, d, plan, a, (x.into(), true), plus, y);
            }
            let a = Strided { data: x.host()?, row: x.stride(), col: 1 };
            cpu::product(device, d, plan, a, (w, true), plus, y)
        }
        Device::Cuda(d) => cuda::times_transposed(d, x, w, plus, y),
        Device::Null(d) if d.is_gpu() => Ok(()),
        Device::Null(_) => cpu::workspace(device, &plan()?, w.data.dtype()).map(drop),
    }
}

/// y (m, K) = x (m, N) W + ..
pub fn times(device: &Device, x: View<'_>, w: Matrix<'_>, plus: Plus<'_>, y: ViewMut<'_>) -> Result<()> {
    let m = x.rows();
    w.check(NAME, "w", device)?;
    x.expect::<f32>(NAME, device, "x", (m, w.rows))?;
    y.view().expect::<f32>(NAME, device, "y", (m, w.cols))?;
    plus.check(NAME, device, (m, w.cols))?;
    let plan = || Ok::<_, Error>(Plan::new(isa()?, m, w.rows, w.cols, false, w.data.dtype() == DType::F32));
    let _span = device.span(NAME, "times", || cost([m, w.rows, w.cols], w.bytes(), plus.has_base()));
    match device {
        Device::Cpu(d) => {
            let a = Strided { data: x.host()?, row: x.stride(), col: 1 };
            cpu::product(device, d, plan()?, a, (w, false), plus, y)
        }
        Device::Cuda(d) => cuda::times(d, x, w, plus, y),
        Device::Null(d) if d.is_gpu() => Ok(()),
        Device::Null(_) => cpu::workspace(device, &plan()?, w.data.dtype()).map(drop),
    }
}

/// g (n, k) = dyᵀ x, or g += dyᵀ x; dy (m, n), x (m, k).
pub fn transposed_times(
    device: &Device,
    dy: View<'_>,
    x: View<'_>,
    g: ViewMut<'_>,
    accumulate: bool,
) -> Result<()> {
    let (m, n, k) = (dy.rows(), dy.cols(), x.cols());
    dy.expect::<f32>(NAME, device, "dy", (m, n))?;
    x.expect::<f32>(NAME, device, "x", (m, k))?;
    g.view().expect::<f32>(NAME, device, "g", (n, k))?;
    let plan = || Ok::<_, Error>(Plan::gradient(isa()?, n, m, k));
    let _span = device.span(NAME, "transposed_times", || cost([n, m, k], 4 * m * k, accumulate));
    let plus = if accumulate { Plus::OUTPUT } else { Plus::NOTHING };
    match device {
        Device::Cpu(d) => {
            let plan = plan()?;
            let (a, b) = if plan.c_transposed { (x, dy) } else { (dy, x) };
            let a = Strided { data: a.host()?, row: 1, col: a.stride() };
            cpu::product(device, d, plan, a, (b.into(), false), plus, g)
        }
        Device::Cuda(d) => cuda::transposed_times(d, dy, x, plus, g),
        Device::Null(d) if d.is_gpu() => Ok(()),
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
