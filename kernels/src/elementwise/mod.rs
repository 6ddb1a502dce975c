//! Copies, sums and products of matrices of one shape.
//!
//! ```text
//! copy  y = x       add   y = a + b       axpy  y += s x       scale  y *= s
//! mul_row  y[i, j] = x[i, j] v[j]  (v of one value: of every column)
//! ```
mod cases;
mod cpu;
mod cuda;
#[cfg(test)]
mod tests;

use crate::{Buffer, Cost, Device, Kernel, Result, View, ViewMut, check_buffer};

const NAME: &str = "elementwise";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: cases::cases };

/// Of n elements of each of so many matrices, with so many operations.
fn cost(n: usize, matrices: usize, operations: usize) -> Cost {
    Cost::new(operations * n, 4 * matrices * n)
}
/// The elements of y, which has the shape of every input.
fn check(device: &Device, inputs: &[(&'static str, View<'_>)], y: &ViewMut<'_>) -> Result<usize> {
    let shape = (y.view().rows(), y.view().cols());
    y.view().expect::<f32>(NAME, device, "y", shape)?;
    inputs.iter().try_for_each(|(name, x)| x.expect::<f32>(NAME, device, name, shape))?;
    Ok(shape.0 * shape.1)
}

/// y = x.
pub fn copy(device: &Device, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
    let n = check(device, &[("x", x)], &y)?;
    let _span = device.span(NAME, "copy", || cost(n, 2, 0));
    match device {
        Device::Cpu(d) => cpu::copy(d, x, y),
        Device::Cuda(d) => cuda::copy(d, x, y),
        Device::Null(_) => Ok(()),
    }
}
/// y = a + b.
pub fn add(device: &Device, a: View<'_>, b: View<'_>, y: ViewMut<'_>) -> Result<()> {
    let n = check(device, &[("a", a), ("b", b)], &y)?;
    let _span = device.span(NAME, "add", || cost(n, 3, 1));
    match device {
        Device::Cpu(d) => cpu::add(d, a, b, y),
        Device::Cuda(d) => cuda::add(d, a, b, y),
        Device::Null(_) => Ok(()),
    }
}
/// y += s x.
pub fn axpy(device: &Device, s: f32, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
    let n = check(device, &[("x", x)], &y)?;
    let _span = device.span(NAME, "axpy", || cost(n, 3, 1));
    match device {
        Device::Cpu(d) => cpu::axpy(d, s, x, y),
        Device::Cuda(d) => cuda::axpy(d, s, x, y),
        Device::Null(_) => Ok(()),
    }
}
/// y *= s.
pub fn scale(device: &Device, s: f32, y: ViewMut<'_>) -> Result<()> {
    let n = check(device, &[], &y)?;
    let _span = device.span(NAME, "scale", || cost(n, 2, 1));
    match device {
        Device::Cpu(d) => cpu::scale(d, s, y),
        Device::Cuda(d) => cuda::scale(d, s, y),
        Device::Null(_) => Ok(()),
    }
}
/// y = x · v, v holding a value for each column, or one for all.
pub fn mul_row(device: &Device, x: View<'_>, v: &Buffer, y: ViewMut<'_>) -> Result<()> {
    let n = check(device, &[("x", x)], &y)?;
    check_buffer::<f32>(NAME, device, "v", v, if v.len() == 1 { 1 } else { x.cols() })?;
    let _span = device.span(NAME, "mul_row", || cost(n, 2, 1));
    match device {
        Device::Cpu(d) => cpu::mul_row(d, x, v, y),
        Device::Cuda(d) => cuda::mul_row(d, x, v, y),
        Device::Null(_) => Ok(()),
    }
}
