//! Sums. Every sum is taken in an order fixed by the shape alone.
//!
//! ```text
//! column_sums  y[j] = Σ_i x[i, j]  [+ y[j]]          column_dots  y[j] = Σ_i a[i, j] b[i, j]  [+ y[j]]
//! dots         Σ_p Σ_i a[p][i] b[p][i]  as f64
//! ```
mod cases;
mod cpu;
mod cuda;
#[cfg(test)]
mod tests;

use crate::{Buffer, Cost, Device, Kernel, Result, View, ViewMut, check_buffer};
pub(crate) use cuda::{sums, total};
use num_traits::Float;

const NAME: &str = "reduce";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: cases::cases };

/// Sums over n elements of one buffer, or of the products of two.
fn cost(n: usize, products: bool) -> Cost {
    let buffers = 1 + usize::from(products);
    Cost::new(n * buffers, 4 * n * buffers)
}

/// The elements of each matrix, all of one shape, whose columns y (1, cols) has.
fn check(device: &Device, inputs: &[(&'static str, View<'_>)], y: &ViewMut<'_>) -> Result<usize> {
    let shape = inputs.first().map_or((0, 0), |(_, x)| (x.rows(), x.cols()));
    inputs.iter().try_for_each(|(name, x)| x.expect::<f32>(NAME, device, name, shape))?;
    y.view().expect::<f32>(NAME, device, "y", (1, shape.1))?;
    Ok(shape.0 * shape.1)
}

/// y (1, cols) = the sum of the rows of x, or y += it.
pub fn column_sums(device: &Device, x: View<'_>, y: ViewMut<'_>, accumulate: bool) -> Result<()> {
    let n = check(device, &[("x", x)], &y)?;
    let _span = device.span(NAME, "column_sums", || cost(n, false));
    match device {
        Device::Cpu(d) => cpu::columns(d, x, None, y, accumulate),
        Device::Cuda(d) => cuda::columns(d, x, None, y, accumulate),
        Device::Null(_) => Ok(()),
    }
}
/// y (1, cols) = the sum of the rows of a ∘ b, or y += it.
pub fn column_dots(
    device: &Device,
    a: View<'_>,
    b: View<'_>,
    y: ViewMut<'_>,
    accumulate: bool,
) -> Result<()> {
    let n = check(device, &[("a", a), ("b", b)], &y)?;
    let _span = device.span(NAME, "column_dots", || cost(n, true));
    match device {
        Device::Cpu(d) => cpu::columns(d, a, Some(b), y, accumulate),
        Device::Cuda(d) => cuda::columns(d, a, Some(b), y, accumulate),
        Device::Null(_) => Ok(()),
    }
}
/// Σ a b over all elements of all pairs, in double precision: the sum, in order, of what each pair
/// gives. Zero on the Null device.
pub fn dots(device: &Device, pairs: &[(&Buffer, &Buffer)]) -> Result<f64> {
    for (a, b) in pairs {
        check_buffer::<f32>(NAME, device, "a", a, 0)?;
        check_buffer::<f32>(NAME, device, "b", b, a.len())?;
    }
    let _span = device.span(NAME, "dots", || cost(pairs.iter().map(|(a, _)| a.len()).sum(), true));
    match device {
        Device::Cpu(d) => cpu::dots(d, pairs),
        Device::Cuda(d) => cuda::dots(device, d, pairs),
        Device::Null(d) if d.is_gpu() => cuda::workspace(device, pairs.len()).map(|_| 0.0),
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
