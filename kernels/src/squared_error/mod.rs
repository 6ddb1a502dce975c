//! Squared errors, their sum over all values:
//!
//! ```text
//! loss = Σ (z - target)²        dz = 2 (z - target) · dloss
//! ```
mod cases;
mod cpu;
#[cfg(test)]
mod tests;

use crate::{Buffer, Cost, Device, Error, Kernel, Result, View, ViewMut, check_buffer};
use num_traits::Float;

const NAME: &str = "squared_error";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: cases::cases };
const REFUSED: Error = Error::Unsupported { kernel: NAME, device: "cuda" };

/// Of n values.
fn cost(n: usize, back: bool) -> Cost {
    Cost::new(3 * n, if back { 12 } else { 8 } * n)
}

/// loss (1) of z and its targets, of one shape.
pub fn forward(device: &Device, z: View<'_>, targets: View<'_>, loss: &mut Buffer) -> Result<()> {
    let shape = (z.rows(), z.cols());
    z.expect::<f32>(NAME, device, "z", shape)?;
    targets.expect::<f32>(NAME, device, "targets", shape)?;
    check_buffer::<f32>(NAME, device, "loss", loss, 1)?;
    let _span = device.span(NAME, "forward", || cost(shape.0 * shape.1, false));
    match device {
        Device::Cpu(d) => cpu::forward(d, z, targets, loss),
        Device::Cuda(_) => Err(REFUSED),
        Device::Null(_) => Ok(()),
    }
}
/// dz, of the same shape, from dloss (1).
pub fn backward(
    device: &Device,
    dloss: &Buffer,
    z: View<'_>,
    targets: View<'_>,
    dz: ViewMut<'_>,
) -> Result<()> {
    let shape = (z.rows(), z.cols());
    check_buffer::<f32>(NAME, device, "dloss", dloss, 1)?;
    z.expect::<f32>(NAME, device, "z", shape)?;
    targets.expect::<f32>(NAME, device, "targets", shape)?;
    dz.view().expect::<f32>(NAME, device, "dz", shape)?;
    let _span = device.span(NAME, "backward", || cost(shape.0 * shape.1, true));
    match device {
        Device::Cpu(d) => cpu::backward(d, dloss, z, targets, dz),
        Device::Cuda(_) => Err(REFUSED),
        Device::Null(_) => Ok(()),
    }
}

/// Number by number: the loss.
pub fn reference<T: Float>(z: &[T], targets: &[T]) -> T {
    z.iter().zip(targets).fold(T::zero(), |sum, (z, t)| sum + (*z - *t) * (*z - *t))
}
/// Number by number: dz.
pub fn reference_backward<T: Float>(dloss: T, z: &[T], targets: &[T]) -> Vec<T> {
    z.iter().zip(targets).map(|(z, t)| (*z - *t) * (dloss + dloss)).collect()
}
