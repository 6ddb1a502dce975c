//! Cross-entropy of every logit by itself against a target from 0 to 1: the loss of several labels,
//! each of which is there or not. It is the mean over the labels of a row, summed over rows:
//!
//! ```text
//! loss = Σ_i 1/C Σ_j (max(z_ij, 0) - z_ij y_ij + ln(1 + exp -|z_ij|))
//! dz   = (1 / (1 + exp -z) - y) · dloss / C
//! ```
//! PyTorch's `BCEWithLogitsLoss`, times the number of rows.
mod cases;
mod cpu;
#[cfg(test)]
mod tests;

use crate::{Buffer, Cost, Device, Error, Kernel, Result, View, ViewMut, check_buffer};
use num_traits::Float;

const NAME: &str = "binary_cross_entropy";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: cases::cases };
const REFUSED: Error = Error::Unsupported { kernel: NAME, device: "cuda" };

/// Of n logits.
fn cost(n: usize, back: bool) -> Cost {
    Cost::new(if back { 5 } else { 7 } * n, if back { 12 } else { 8 } * n)
}

/// loss (1) of z (rows, C) and its targets, of one shape.
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

/// What one logit adds to the sum over a row.
pub fn loss<T: Float>(z: T, y: T) -> T {
    z.max(T::zero()) - z * y + (-z.abs()).exp().ln_1p()
}
/// How probable a logit says that a label is there: 1 / (1 + exp -z).
pub fn sigmoid<T: Float>(z: T) -> T {
    (T::one() + (-z).exp()).recip()
}
/// Number by number: the loss of rows of so many columns.
pub fn reference<T: Float>(z: &[T], targets: &[T], cols: usize) -> T {
    let by = share(cols);
    z.iter().zip(targets).fold(T::zero(), |sum, (z, y)| sum + loss(*z, *y) * by)
}
/// Number by number: dz.
pub fn reference_backward<T: Float>(dloss: T, z: &[T], targets: &[T], cols: usize) -> Vec<T> {
    z.iter().zip(targets).map(|(z, y)| (sigmoid(*z) - *y) * dloss * share(cols)).collect()
}
/// What a label counts of a row.
fn share<T: Float>(cols: usize) -> T {
    T::from(cols.max(1)).unwrap_or_else(T::one).recip()
}
