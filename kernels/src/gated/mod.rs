//! Gated products (Dauphin et al. 2017; Shazeer 2020, arXiv:2002.05202): what one projection
//! opens of another.
//!
//! ```text
//! y = f(a) ∘ b        da = dy ∘ b ∘ f'(a)        db = dy ∘ f(a)
//! ```
mod cases;
mod cpu;
mod cuda;
#[cfg(test)]
mod tests;

use crate::{
    Cost, Device, Kernel, Result, View, ViewMut,
    activation::{self, Activation},
};

const NAME: &str = "gated";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: cases::cases };

/// Of n elements.
fn cost(n: usize, back: bool) -> Cost {
    if back { Cost::new(4 * n, 20 * n) } else { Cost::new(2 * n, 12 * n) }
}
/// y = f(a) ∘ b, all of one shape.
pub fn forward(device: &Device, f: Activation, a: View<'_>, b: View<'_>, y: ViewMut<'_>) -> Result<()> {
    let shape = (a.rows(), a.cols());
    a.expect::<f32>(NAME, device, "a", shape)?;
    b.expect::<f32>(NAME, device, "b", shape)?;
    y.view().expect::<f32>(NAME, device, "y", shape)?;
    let _span = device.span(NAME, "forward", || cost(shape.0 * shape.1, false));
    match device {
        Device::Cpu(d) => cpu::forward(d, f, a, b, y),
        Device::Cuda(d) => cuda::forward(d, f, a, b, y),
        Device::Null(_) => Ok(()),
    }
}
/// da and db from dy, all of one shape.
pub fn backward(
    device: &Device,
    f: Activation,
    dy: View<'_>,
    a: View<'_>,
    b: View<'_>,
    da: ViewMut<'_>,
    db: ViewMut<'_>,
) -> Result<()> {
    let shape = (a.rows(), a.cols());
    dy.expect::<f32>(NAME, device, "dy", shape)?;
    a.expect::<f32>(NAME, device, "a", shape)?;
    b.expect::<f32>(NAME, device, "b", shape)?;
    da.view().expect::<f32>(NAME, device, "da", shape)?;
    db.view().expect::<f32>(NAME, device, "db", shape)?;
    let _span = device.span(NAME, "backward", || cost(shape.0 * shape.1, true));
    match device {
        Device::Cpu(d) => cpu::backward(d, f, dy, [a, b], da, db),
        Device::Cuda(d) => cuda::backward(d, f, dy, [a, b], da, db),
        Device::Null(_) => Ok(()),
    }
}

/// Number by number: y.
pub fn reference(f: Activation, a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| activation::value(f, *a) * b).collect()
}
/// Number by number: da and db.
pub fn reference_backward(f: Activation, dy: &[f64], a: &[f64], b: &[f64]) -> [Vec<f64>; 2] {
    let da = dy.iter().zip(a.iter().zip(b)).map(|(d, (a, b))| d * b * activation::derivative(f, *a));
    let db = dy.iter().zip(a).map(|(d, a)| d * activation::value(f, *a));
    [da.collect(), db.collect()]
}
