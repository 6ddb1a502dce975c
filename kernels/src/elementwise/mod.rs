//! Sums and products of buffers of one shape.
//!
//! ```text
//! add   y = a + b          axpy      y += s x           scale     y *= s
//! mul_row  y[i, j] = x[i, j] v[j]  (v of one value: of every column)
//! ```
mod cases;
mod cpu;
#[cfg(test)]
mod tests;

use crate::{Buffer, Cost, Device, Error, Kernel, Result, need};

const NAME: &str = "elementwise";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: cases::cases };

const REFUSED: Error = Error::Unsupported { kernel: NAME, device: "cuda" };

/// Of n elements of each of so many buffers.
fn cost(n: usize, buffers: usize) -> Cost {
    Cost::new(n, 4 * buffers * n)
}

/// y = a + b.
pub fn add(device: &Device, a: &Buffer, b: &Buffer, y: &mut Buffer) -> Result<()> {
    need::<f32>(NAME, device, "a", a, y.len())?;
    need::<f32>(NAME, device, "b", b, y.len())?;
    need::<f32>(NAME, device, "y", y, 0)?;
    let _span = device.span(NAME, "add", || cost(y.len(), 3));
    match device {
        Device::Cpu(d) => cpu::add(d, a, b, y),
        Device::Cuda(_) => Err(REFUSED),
        Device::Null(_) => Ok(()),
    }
}
/// y += s x.
pub fn axpy(device: &Device, s: f32, x: &Buffer, y: &mut Buffer) -> Result<()> {
    need::<f32>(NAME, device, "x", x, y.len())?;
    need::<f32>(NAME, device, "y", y, 0)?;
    let _span = device.span(NAME, "axpy", || cost(y.len(), 3));
    match device {
        Device::Cpu(d) => cpu::axpy(d, s, x, y),
        Device::Cuda(_) => Err(REFUSED),
        Device::Null(_) => Ok(()),
    }
}
/// y *= s.
pub fn scale(device: &Device, s: f32, y: &mut Buffer) -> Result<()> {
    need::<f32>(NAME, device, "y", y, 0)?;
    let _span = device.span(NAME, "scale", || cost(y.len(), 2));
    match device {
        Device::Cpu(d) => cpu::scale(d, s, y),
        Device::Cuda(_) => Err(REFUSED),
        Device::Null(_) => Ok(()),
    }
}
/// y (rows, cols) = x · v, v holding a value for each column, or one for all.
pub fn mul_row(device: &Device, x: &Buffer, v: &Buffer, cols: usize, y: &mut Buffer) -> Result<()> {
    need::<f32>(NAME, device, "x", x, y.len())?;
    need::<f32>(NAME, device, "v", v, if v.len() == 1 { 1 } else { cols })?;
    need::<f32>(NAME, device, "y", y, 0)?;
    if !y.is_empty() && (cols == 0 || !y.len().is_multiple_of(cols)) {
        return Err(Error::Length { kernel: NAME, argument: "y (whole rows)", expected: cols, got: y.len() });
    }
    let _span = device.span(NAME, "mul_row", || cost(y.len(), 2));
    match device {
        Device::Cpu(d) => cpu::mul_row(d, x, v, cols, y),
        Device::Cuda(_) => Err(REFUSED),
        Device::Null(_) => Ok(()),
    }
}
