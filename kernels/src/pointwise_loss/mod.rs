//! Losses of every value by itself, summed:
//!
//! ```text
//! squared error          loss = Σ (z - y)²                      dz = 2 (z - y) · dloss
//! binary cross-entropy   loss = Σ_i 1/C Σ_j max(z, 0) - z y + ln(1 + exp -|z|)
//!                                                               dz = (1 / (1 + exp -z) - y) · dloss / C
//! ```
//! The cross-entropy is that of several labels, each of which is there or not, with targets y from 0
//! to 1: the mean over the C labels of a row, summed over rows, which is PyTorch's
//! `BCEWithLogitsLoss` times the number of rows.
mod cases;
mod cpu;
mod cuda;
#[cfg(test)]
mod tests;

use crate::{Buffer, Cost, Device, Kernel, Result, View, ViewMut, check_buffer};
use num_traits::Float;

const NAME: &str = "pointwise_loss";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: cases::cases };

/// What is computed of a value and its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The square of their difference.
    SquaredError,
    /// The cross-entropy of the probability 1 / (1 + exp -z) with the target.
    BinaryCrossEntropy,
}
impl Loss {
    /// As operations and errors name it.
    pub fn name(self) -> &'static str {
        match self {
            Loss::SquaredError => "squared_error",
            Loss::BinaryCrossEntropy => "binary_cross_entropy",
        }
    }
    fn backward_name(self) -> &'static str {
        match self {
            Loss::SquaredError => "squared_error_backward",
            Loss::BinaryCrossEntropy => "binary_cross_entropy_backward",
        }
    }
    /// Of n values.
    fn cost(self, n: usize, back: bool) -> Cost {
        let flops = match (self, back) {
            (Loss::SquaredError, _) => 3,
            (Loss::BinaryCrossEntropy, false) => 7,
            (Loss::BinaryCrossEntropy, true) => 5,
        };
        Cost::new(flops * n, if back { 12 } else { 8 } * n)
    }
    /// What a value counts in a row of so many.
    fn share<T: Float>(self, cols: usize) -> T {
        match self {
            Loss::SquaredError => T::one(),
            Loss::BinaryCrossEntropy => T::from(cols.max(1)).unwrap_or_else(T::one).recip(),
        }
    }
    /// Of one value, before its share.
    pub fn of<T: Float>(self, z: T, y: T) -> T {
        match self {
            Loss::SquaredError => (z - y) * (z - y),
            Loss::BinaryCrossEntropy => z.max(T::zero()) - z * y + (-z.abs()).exp().ln_1p(),
        }
    }
    /// The slope of [`Loss::of`] in z.
    pub fn slope<T: Float>(self, z: T, y: T) -> T {
        match self {
            Loss::SquaredError => (z - y) + (z - y),
            Loss::BinaryCrossEntropy => sigmoid(z) - y,
        }
    }
}

/// How probable a logit says that a label is there: 1 / (1 + exp -z).
pub fn sigmoid<T: Float>(z: T) -> T {
    (T::one() + (-z).exp()).recip()
}

/// sum (1) of the losses of z (rows, C) and its targets, of one shape.
pub fn forward(device: &Device, loss: Loss, z: View<'_>, targets: View<'_>, sum: &mut Buffer) -> Result<()> {
    let shape = (z.rows(), z.cols());
    z.expect::<f32>(NAME, device, "z", shape)?;
    targets.expect::<f32>(NAME, device, "targets", shape)?;
    check_buffer::<f32>(NAME, device, "loss", sum, 1)?;
    let _span = device.span(NAME, loss.name(), || loss.cost(shape.0 * shape.1, false));
    match device {
        Device::Cpu(d) => cpu::forward(d, loss, z, targets, sum),
        Device::Cuda(d) => cuda::forward(d, loss, z, targets, sum),
        Device::Null(_) => Ok(()),
    }
}
/// dz, of the same shape, from dloss (1).
pub fn backward(
    device: &Device,
    loss: Loss,
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
    let _span = device.span(NAME, loss.backward_name(), || loss.cost(shape.0 * shape.1, true));
    match device {
        Device::Cpu(d) => cpu::backward(d, loss, dloss, z, targets, dz),
        Device::Cuda(d) => cuda::backward(d, loss, dloss, z, targets, dz),
        Device::Null(_) => Ok(()),
    }
}

/// Number by number: the sum over rows of so many columns.
pub fn reference<T: Float>(loss: Loss, z: &[T], targets: &[T], cols: usize) -> T {
    z.iter().zip(targets).fold(T::zero(), |sum, (z, y)| sum + loss.of(*z, *y) * loss.share(cols))
}
/// Number by number: dz.
pub fn reference_backward<T: Float>(loss: Loss, dloss: T, z: &[T], targets: &[T], cols: usize) -> Vec<T> {
    z.iter().zip(targets).map(|(z, y)| loss.slope(*z, *y) * dloss * loss.share(cols)).collect()
}
