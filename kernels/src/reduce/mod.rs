//! Sums. Every sum is taken in an order fixed by the shape alone.
//!
//! ```text
//! column_sums  y[j] = Σ_i x[i, j]  [+ y[j]]          column_dots  y[j] = Σ_i a[i, j] b[i, j]  [+ y[j]]
//! dots         Σ_p Σ_i a[p][i] b[p][i]  as f64
//! ```
mod cases;
mod cpu;
#[cfg(test)]
mod tests;

use crate::{Buffer, Cost, Device, Error, Kernel, Result, need};
use num_traits::Float;

const NAME: &str = "reduce";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: cases::cases };
const REFUSED: Error = Error::Unsupported { kernel: NAME, device: "cuda" };

/// Sums over n elements of one buffer, or of the products of two.
fn cost(n: usize, products: bool) -> Cost {
    let buffers = 1 + usize::from(products);
    Cost::new(n * buffers, 4 * n * buffers)
}

/// y (cols) = the sum of the rows of x, or y += it.
pub fn column_sums(
    device: &Device,
    x: &Buffer,
    rows: usize,
    cols: usize,
    y: &mut Buffer,
    accumulate: bool,
) -> Result<()> {
    need::<f32>(NAME, device, "x", x, rows * cols)?;
    need::<f32>(NAME, device, "y", y, cols)?;
    let _span = device.span(NAME, "column_sums", || cost(rows * cols, false));
    match device {
        Device::Cpu(d) => cpu::column_sums(d, x, rows, cols, y, accumulate),
        Device::Cuda(_) => Err(REFUSED),
        Device::Null(_) => Ok(()),
    }
}
/// y (cols) = the sum of the rows of a ∘ b, or y += it.
pub fn column_dots(
    device: &Device,
    a: &Buffer,
    b: &Buffer,
    rows: usize,
    cols: usize,
    y: &mut Buffer,
    accumulate: bool,
) -> Result<()> {
    need::<f32>(NAME, device, "a", a, rows * cols)?;
    need::<f32>(NAME, device, "b", b, rows * cols)?;
    need::<f32>(NAME, device, "y", y, cols)?;
    let _span = device.span(NAME, "column_dots", || cost(rows * cols, true));
    match device {
        Device::Cpu(d) => cpu::column_dots(d, a, b, rows, cols, y, accumulate),
        Device::Cuda(_) => Err(REFUSED),
        Device::Null(_) => Ok(()),
    }
}
/// Σ a b over all elements of all pairs, in double precision: the sum, in order, of what each pair gives. Zero on the Null
/// device.
pub fn dots(device: &Device, pairs: &[(&Buffer, &Buffer)]) -> Result<f64> {
    for (a, b) in pairs {
        need::<f32>(NAME, device, "a", a, 0)?;
        need::<f32>(NAME, device, "b", b, a.len())?;
    }
    let _span = device.span(NAME, "dots", || cost(pairs.iter().map(|(a, _)| a.len()).sum(), true));
    match device {
        Device::Cpu(d) => cpu::dots(d, pairs),
        Device::Cuda(_) => Err(REFUSED),
        Device::Null(_) => Ok(0.0),
    }
}

/// Plain loops: the column sums of a ∘ b.
pub fn reference<T: Float>(a: &[T], b: &[T], cols: usize) -> Vec<T> {
    let mut y = vec![T::zero(); cols];
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        y[i % cols] = y[i % cols] + *a * *b;
    }
    y
}
