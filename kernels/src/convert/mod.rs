//! Between f32, which is computed with, and bf16, which takes half the space.
//!
//! ```text
//! narrow   y = x rounded to the nearest bf16; of two that are equally near, the even one; NaN stays NaN
//! widen    y = x, exactly
//! ```
mod cases;
mod cpu;
mod cuda;
#[cfg(test)]
mod tests;

use crate::{Cost, Device, Kernel, Result, View, ViewMut};
use half::bf16;

const NAME: &str = "convert";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: cases::cases };

/// n values, of four bytes and of two.
fn cost(n: usize) -> Cost {
    Cost::new(0, 6 * n)
}

/// y (bf16) = x (f32), rounded. A value whose size is beyond bf16's becomes infinite; the
/// largest f32 are.
pub fn narrow(device: &Device, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
    let shape = (x.rows(), x.cols());
    x.expect::<f32>(NAME, device, "x", shape)?;
    y.view().expect::<bf16>(NAME, device, "y", shape)?;
    let _span = device.span(NAME, "narrow", || cost(shape.0 * shape.1));
    match device {
        Device::Cpu(d) => cpu::narrow(d, x, y),
        Device::Cuda(d) => cuda::narrow(d, x, y),
        Device::Null(_) => Ok(()),
    }
}
/// y (f32) = x (bf16).
pub fn widen(device: &Device, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
    let shape = (x.rows(), x.cols());
    x.expect::<bf16>(NAME, device, "x", shape)?;
    y.view().expect::<f32>(NAME, device, "y", shape)?;
    let _span = device.span(NAME, "widen", || cost(shape.0 * shape.1));
    match device {
        Device::Cpu(d) => cpu::widen(d, x, y),
        Device::Cuda(d) => cuda::widen(d, x, y),
        Device::Null(_) => Ok(()),
    }
}

/// The nearest bf16 by its definition: of the two neighbours in bf16 the nearer one,
/// or the even one.
pub fn reference(x: f32) -> bf16 {
    if x.is_nan() {
        return bf16::NAN;
    }
    // cutting the lower half off goes towards zero; the neighbour is one step away from it
    let low = bf16::from_bits((x.to_bits() >> 16) as u16);
    let high = bf16::from_bits(low.to_bits() + 1);
    if !low.is_finite() {
        return low;
    }
    // beyond the largest one the next step would be 2¹²⁸
    let value = |b: bf16| if b.is_finite() { b.to_f64() } else { 2f64.powi(128).copysign(f64::from(x)) };
    let (below, above) = ((f64::from(x) - value(low)).abs(), (value(high) - f64::from(x)).abs());
    let even = low.to_bits().is_multiple_of(2);
    if below < above || (below == above && even) { low } else { high }
}
