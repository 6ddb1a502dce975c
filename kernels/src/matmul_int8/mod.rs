//! Matrix products in 8-bit integers, with a weight that is stored once.
//!
//! ```text
//! quantize_rows      x[i] ≈ sx[i] q[i],  sx[i] = max |x[i]| / 127,  q = round(x / sx)      a scale for each row (token)
//! times_transposed   y (m, N) = sx[i] sw[n] (q wᵀ) [+ ..]    forward of a linear layer stored (out, in)
//! times              y (m, K) = sx[i] (q w) [+ ..]           its dX, q from x ∘ sw; the forward of one stored (in, out)
//! ```
//! A row of W is its scale times the integers w, stored like that: [`crate::Storage::Int8`], with a
//! scale for each output channel. In `times` the channels are what is summed over, so their scales
//! go into x before that is quantised. The sums are exact; the approximation is the rounding of x
//! and W alone, about 1 % of the result for normal data. The same integers and the same order of
//! the few float operations behind them make all instruction sets agree to the bit.
//!
//! AVX-512 VNNI and AVX-VNNI multiply four pairs of bytes and add them up in one instruction; one
//! side of it has no sign, so q is kept 128 too large. AVX2 takes the sign off instead.
//! `ENGRAFT_KERNELS=avx2` means 256-bit vectors, with AVX-VNNI where the processor has it.
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod cases;
mod cpu;
mod cuda;
#[cfg(target_arch = "x86_64")]
mod dot;
mod plan;
mod portable;
mod quantize;
#[cfg(test)]
mod tests;
mod tile;

use crate::{
    Buffer, Class, Cost, Cpu, Device, Error, Isa, Kernel, Result, View, ViewMut, check_buffer, isa,
    matmul::{self, Matrix, Plus, area},
    storage::Scales,
};
use num_traits::Float;
use plan::{Path, Plan};
pub(crate) use quantize::{QuantizedRowsMut, pieces};

const NAME: &str = "matmul_int8";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: cases::cases };

/// The longest sum: beyond it, one of ±127 · ±127 might not fit in 32 bits.
pub const MAX_DEPTH: usize = (i32::MAX / (127 * 127)) as usize;

/// Rows in 8 bits, each with its scale: `x[i] ≈ scale[i] · (q[i] - 128)`.
///
/// A row with a value that is not finite has NaN as its scale, and so has whatever is
/// computed from it.
#[derive(Debug)]
pub struct QuantizedRows {
    /// Rows of `stride()` bytes.
    q: Buffer,
    scales: Buffer,
    rows: usize,
    cols: usize,
}

impl QuantizedRows {
    /// Room for `rows` x `cols` values, to be written by [`quantize_rows`].
    pub fn alloc(device: &Device, class: Class, rows: usize, cols: usize) -> Result<QuantizedRows> {
        let len = area(NAME, "rows", rows, stride(cols))?;
        Ok(QuantizedRows {
            q: device.alloc::<u8>(class, len)?,
            scales: device.alloc::<f32>(class, rows)?,
            rows,
            cols,
        })
    }
    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }
    /// Values of a row.
    pub fn cols(&self) -> usize {
        self.cols
    }
    /// The quantised values without the 128, (rows, cols), and the scales (rows).
    pub fn read(&self) -> Result<(Vec<i8>, Vec<f32>)> {
        let q = self.q.read::<u8>()?;
        let rows = q.chunks(stride(self.cols).max(1)).flat_map(|row| &row[..self.cols]);
        Ok((rows.map(|q| (q ^ 0x80) as i8).collect(), self.scales.read()?))
    }
    pub(crate) fn check(
        &self,
        kernel: &'static str,
        argument: &'static str,
        device: &Device,
        rows: usize,
        cols: usize,
    ) -> Result<()> {
        if self.rows < rows || self.cols != cols {
            let (expected, got) = ((rows, cols), (self.rows, self.cols));
            return Err(Error::Shape { kernel, argument, expected, got });
        }
        check_buffer::<u8>(kernel, device, argument, &self.q, 0)
    }
}

/// Bytes of a row: whole words; what is behind its values stands for 0.
fn stride(cols: usize) -> usize {
    cols.next_multiple_of(4)
}

/// The scales of a weight in 8-bit integers, of which `depth` are summed.
fn scales<'a>(device: &Device, w: Matrix<'a>, depth: usize) -> Result<&'a Buffer> {
    if depth > MAX_DEPTH {
        let what = format!("sums of {depth} products may not fit in 32 bits, at most {MAX_DEPTH} do");
        return Err(Error::Invalid { kernel: NAME, what });
    }
    w.check(NAME, "w", device)?;
    match w.scales {
        Some(Scales::Rows(scales)) => Ok(scales),
        _ => {
            let expected = "i8 with a scale for each row";
            Err(Error::DType { kernel: NAME, argument: "w", expected, got: w.data.dtype() })
        }
    }
}

/// What [`crate::profile::Roofline`] times: `tasks` times the largest tile of the path, again and
/// again, on data that stays in the first-level cache. It says how many operations that was.
pub(crate) fn burst(d: &Cpu, isa: Isa, tasks: usize) -> f64 {
    cpu::burst(d, Path::of(isa), tasks)
}

/// f32 values to bytes, or back.
fn quantize_cost(rows: usize, cols: usize) -> Cost {
    Cost::new(0, 5 * rows * cols)
}
/// C (m, cols) in f32 from bytes (m, depth) and (depth, cols), set or added to a matrix.
fn product_cost([m, depth, cols]: [usize; 3], added: bool) -> Cost {
    let (m, depth, cols) = (m as f64, depth as f64, cols as f64);
    let (passes, operations) = (if added { 8.0 } else { 4.0 }, 2.0 * m * depth * cols);
    Cost { flops: operations, integer: operations, bytes: m * depth + depth * cols + passes * m * cols }
}

/// Quantises each row of x (rows, cols), or of x ∘ `by` (a factor for each column).
pub fn quantize_rows(
    device: &Device,
    x: View<'_>,
    by: Option<&Buffer>,
    to: &mut QuantizedRows,
) -> Result<()> {
    x.expect::<f32>(NAME, device, "x", (to.rows, to.cols))?;
    to.check(NAME, "rows", device, to.rows, to.cols)?;
    if let Some(by) = by {
        check_buffer::<f32>(NAME, device, "by", by, to.cols)?;
    }
    let _span = device.span(NAME, "quantize_rows", || quantize_cost(to.rows, to.cols));
    match device {
        Device::Cpu(d) => quantize::rows(d, x, by, to),
        Device::Cuda(d) => cuda::quantize_rows(d, x, by, to),
        Device::Null(_) => Ok(()),
    }
}

/// y (m, N) = x (m, K) Wᵀ + .. of a W in 8-bit integers, which must be within ±127.
pub fn times_transposed(
    device: &Device,
    x: &QuantizedRows,
    w: Matrix<'_>,
    plus: Plus<'_>,
    y: ViewMut<'_>,
) -> Result<()> {
    product(device, x, w, true, plus, y)
}

/// y (m, K) = x (m, N) W + .., where W is without its scales: they are the `by` with which
/// x was quantised.
pub fn times(
    device: &Device,
    x: &QuantizedRows,
    w: Matrix<'_>,
    plus: Plus<'_>,
    y: ViewMut<'_>,
) -> Result<()> {
    product(device, x, w, false, plus, y)
}

fn product(
    device: &Device,
    x: &QuantizedRows,
    w: Matrix<'_>,
    transposed: bool,
    plus: Plus<'_>,
    y: ViewMut<'_>,
) -> Result<()> {
    let (depth, cols) = if transposed { (w.cols, w.rows) } else { (w.rows, w.cols) };
    let scales = scales(device, w, depth)?;
    x.check(NAME, "x", device, x.rows, depth)?;
    y.view().expect::<f32>(NAME, device, "y", (x.rows, cols))?;
    plus.check(NAME, device, (x.rows, cols))?;
    let operation = if transposed { "times_transposed" } else { "times" };
    let _span = device.span(NAME, operation, || product_cost([x.rows, depth, cols], plus.has_base()));
    let plan = || Ok::<_, Error>(Plan::new(Path::of(isa()?), x.rows, depth, cols));
    match device {
        Device::Cpu(d) => cpu::product(device, d, plan()?, x, (w, transposed.then_some(scales)), plus, y),
        Device::Cuda(d) => cuda::product(d, x, (w, transposed.then_some(scales)), plus, y),
        Device::Null(d) if d.is_gpu() => Ok(()),
        Device::Null(_) => cpu::workspace(device, &plan()?).map(drop),
    }
}

/// Plain code: a row's integers and its scale. In f32, because where a value lies between two
/// integers is decided there.
pub fn reference_row(x: &[f32]) -> (Vec<i8>, f32) {
    if x.iter().any(|x| !x.is_finite()) {
        return (vec![0; x.len()], f32::NAN);
    }
    let top = x.iter().fold(quantize::TINY, |top, x| top.max(x.abs()));
    let factor = 127.0 / top;
    (x.iter().map(|x| (x * factor).round_ties_even() as i8).collect(), top / 127.0)
}

/// Plain loops: C (m, n) = A B, both of integers, times the scales of rows and of columns (if there
/// are any), + bias. Each operand is given with its row and column strides.
pub fn reference<T: Float>(
    (m, k, n): (usize, usize, usize),
    a: (&[i8], usize, usize),
    b: (&[i8], usize, usize),
    rows: &[T],
    cols: Option<&[T]>,
    bias: Option<&[T]>,
) -> Vec<T> {
    let number = |v: &[i8]| -> Vec<T> { v.iter().map(|x| T::from(*x).unwrap_or_else(T::nan)).collect() };
    let mut c = matmul::reference(m, k, n, (&number(a.0), a.1, a.2), (&number(b.0), b.1, b.2), None);
    for (i, row) in c.chunks_mut(n.max(1)).enumerate() {
        for (j, c) in row.iter_mut().enumerate() {
            *c = *c * rows[i] * cols.map_or(T::one(), |s| s[j]) + bias.map_or(T::zero(), |b| b[j]);
        }
    }
    c
}
