//! Matrix products with a weight that is stored once.
//!
//! ```text
//! times_transposed   y (m, N) = x (m, K) Wᵀ [+ ..]  forward of a linear layer stored (out, in)
//! times              y (m, K) = x (m, N) W  [+ ..]  its dX, and the forward of one stored (in, out)
//! transposed_times   G (N, K) = dyᵀ x  [+ G]        the gradient of a trained weight
//! ```
//! What is added ([`Plus`]) costs no pass of its own: it is where the sums start.
//! W is (N, K), row-major, in any [`crate::Storage`] type; no second copy of it is made.
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod cases;
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
mod cpu;
mod cuda;
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
mod flip;
mod operands;
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
mod pack;
pub(crate) mod panels;
mod plan;
mod portable;
#[cfg(test)]
mod tests;
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
mod tile;
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
pub(crate) mod vector;

pub use crate::storage::Matrix;
use crate::{Buffer, Cost, DType, Device, Error, Kernel, Result, isa, need};
#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::F32x8;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::F32x16;
pub(crate) use cases::AWKWARD;
use num_traits::Float;
use operands::Strided;
pub(crate) use operands::{Base, Start};
use plan::Plan;
pub(crate) use plan::Tiles;
pub(crate) use tile::Ahead;
#[cfg(target_arch = "x86_64")]
pub(crate) use tile::{UNROLL, stretch};
#[cfg(target_arch = "x86_64")]
pub(crate) use vector::{MOST_LANES, Vector, opaque};

const NAME: &str = "matmul";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: cases::cases };

/// Elements of a matrix.
pub(crate) fn area(kernel: &'static str, argument: &'static str, rows: usize, cols: usize) -> Result<usize> {
    let too_many = Error::Length { kernel, argument, expected: usize::MAX, got: 0 };
    rows.checked_mul(cols).ok_or(too_many)
}

/// What is added to a product.
#[derive(Clone, Copy, Debug)]
pub struct Plus<'a> {
    /// A row, the same for all rows.
    pub bias: Option<&'a Buffer>,
    /// A matrix of the output's shape.
    pub onto: Onto<'a>,
}
/// A matrix that a product is added to.
#[derive(Clone, Copy, Debug)]
pub enum Onto<'a> {
    /// None.
    Nothing,
    /// This one.
    Rows(&'a Buffer),
    /// What the output holds.
    Output,
}
impl<'a> Plus<'a> {
    /// Nothing.
    pub const NOTHING: Plus<'static> = Plus { bias: None, onto: Onto::Nothing };
    /// What the output holds.
    pub const OUTPUT: Plus<'static> = Plus { bias: None, onto: Onto::Output };
    /// A row, the same for all rows.
    pub fn bias(b: &'a Buffer) -> Plus<'a> {
        Plus { bias: Some(b), onto: Onto::Nothing }
    }
    /// A matrix of the output's shape.
    pub fn rows(r: &'a Buffer) -> Plus<'a> {
        Plus { bias: None, onto: Onto::Rows(r) }
    }
    pub(crate) fn check(self, kernel: &'static str, device: &Device, rows: usize, cols: usize) -> Result<()> {
        if let Some(b) = self.bias {
            need::<f32>(kernel, device, "bias", b, cols)?;
        }
        match self.onto {
            Onto::Rows(r) => need::<f32>(kernel, device, "plus", r, area(kernel, "plus", rows, cols)?),
            Onto::Nothing | Onto::Output => Ok(()),
        }
    }
    pub(crate) fn reads(self) -> bool {
        !matches!(self.onto, Onto::Nothing)
    }
    pub(crate) fn start(self) -> Result<Start<'a>> {
        Ok(Start {
            bias: self.bias.map(Buffer::host).transpose()?,
            onto: match self.onto {
                Onto::Nothing => Base::Zero,
                Onto::Rows(r) => Base::Rows(r.host()?),
                Onto::Output => Base::Output,
            },
        })
    }
}

/// C (rows, cols) from (rows, depth) and (depth, cols), the latter of `stored` bytes, set or added to a matrix.
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
    x: &Buffer,
    m: usize,
    w: Matrix<'_>,
    plus: Plus<'_>,
    y: &mut Buffer,
) -> Result<()> {
    w.check(NAME, "w", device)?;
    need::<f32>(NAME, device, "x", x, area(NAME, "x", m, w.cols)?)?;
    need::<f32>(NAME, device, "y", y, area(NAME, "y", m, w.rows)?)?;
    plus.check(NAME, device, m, w.rows)?;
    let plan = || Ok::<_, Error>(Plan::forward(isa()?, m, w.cols, w.rows, w.data.dtype() == DType::F32));
    let _span = device.span(NAME, "times_transposed", || cost([m, w.cols, w.rows], w.bytes(), plus.reads()));
    match device {
        Device::Cpu(d) => {
            let plan = plan()?;
            let (a, b) =
                if plan.flipped { (w.host(w.cols)?, Matrix::plain(x, m, w.cols)) } else { (x.host()?, w) };
            let a = Strided { data: a, row: w.cols, col: 1 };
            cpu::product(d, plan, a, (b, true), plus.start()?, y)
        }
        Device::Cuda(d) => cuda::times_transposed(d, x, m, w, plus, y),
        Device::Null(_) => cpu::workspace(device, &plan()?, w.data.dtype()).map(drop),
    }
}

/// y (m, K) = x (m, N) W + ..
pub fn times(
    device: &Device,
    x: &Buffer,
    m: usize,
    w: Matrix<'_>,
    plus: Plus<'_>,
    y: &mut Buffer,
) -> Result<()> {
    w.check(NAME, "w", device)?;
    need::<f32>(NAME, device, "x", x, area(NAME, "x", m, w.rows)?)?;
    need::<f32>(NAME, device, "y", y, area(NAME, "y", m, w.cols)?)?;
    plus.check(NAME, device, m, w.cols)?;
    let plan = || Ok::<_, Error>(Plan::new(isa()?, m, w.rows, w.cols, false, w.data.dtype() == DType::F32));
    let _span = device.span(NAME, "times", || cost([m, w.rows, w.cols], w.bytes(), plus.reads()));
    match device {
        Device::Cpu(d) => {
            let a = Strided { data: x.host()?, row: w.rows, col: 1 };
            cpu::product(d, plan()?, a, (w, false), plus.start()?, y)
        }
        Device::Cuda(d) => cuda::times(d, x, m, w, plus, y),
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
    need::<f32>(NAME, device, "dy", dy, area(NAME, "dy", m, n)?)?;
    need::<f32>(NAME, device, "x", x, area(NAME, "x", m, k)?)?;
    need::<f32>(NAME, device, "g", g, area(NAME, "g", n, k)?)?;
    let plan = || Ok::<_, Error>(Plan::gradient(isa()?, n, m, k));
    let _span = device.span(NAME, "transposed_times", || cost([n, m, k], 4 * m * k, accumulate));
    match device {
        Device::Cpu(d) => {
            let plan = plan()?;
            let start = if accumulate { Plus::OUTPUT } else { Plus::NOTHING }.start()?;
            let ((a, row), (b, col)) = if plan.flipped { ((x, k), (dy, n)) } else { ((dy, n), (x, k)) };
            let a = Strided { data: a.host()?, row: 1, col: row };
            cpu::product(d, plan, a, (Matrix::plain(b, m, col), false), start, g)
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
