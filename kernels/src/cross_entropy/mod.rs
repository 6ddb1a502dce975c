//! Softmax cross-entropy, the sum over the rows that have a label:
//!
//! ```text
//! loss = Σ_i (log Σ_j exp z_ij - z_i,label)        dz = (softmax z - onehot) · dloss
//! ```
//! A row whose label is [`IGNORED`] adds nothing, and its gradient is zero.
mod cases;
mod cpu;
mod cuda;
#[cfg(test)]
mod tests;

use crate::{Buffer, Cost, Device, Kernel, Result, View, ViewMut, check_buffer};
use num_traits::Float;

const NAME: &str = "cross_entropy";
/// The label of rows that have none.
pub const IGNORED: u32 = u32::MAX;
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: cases::cases };

/// Of n logits.
fn cost(n: usize, back: bool) -> Cost {
    Cost::new(if back { 2 } else { 4 } * n, 8 * n)
}

/// loss (1) of z (rows, classes) and a label (u32) for each row; and the probabilities (rows,
/// classes), which the backward pass keeps: those of rows without a label are 0. Labels beyond the
/// classes give an error.
pub fn forward(
    device: &Device,
    z: View<'_>,
    labels: &Buffer,
    probs: ViewMut<'_>,
    loss: &mut Buffer,
) -> Result<()> {
    let shape = (labels.len(), z.cols());
    check_buffer::<u32>(NAME, device, "labels", labels, 0)?;
    z.expect::<f32>(NAME, device, "z", shape)?;
    probs.view().expect::<f32>(NAME, device, "probs", shape)?;
    check_buffer::<f32>(NAME, device, "loss", loss, 1)?;
    let _span = device.span(NAME, "forward", || cost(shape.0 * shape.1, false));
    match device {
        Device::Cpu(d) => cpu::forward(d, z, labels, probs, loss),
        Device::Cuda(d) => cuda::forward(device, d, z, labels, probs, loss),
        Device::Null(d) if d.is_gpu() => cuda::workspace(device, shape.0).map(drop),
        Device::Null(_) => Ok(()),
    }
}
/// dz (rows, classes), from dloss (1).
pub fn backward(
    device: &Device,
    dloss: &Buffer,
    probs: View<'_>,
    labels: &Buffer,
    dz: ViewMut<'_>,
) -> Result<()> {
    let shape = (labels.len(), probs.cols());
    check_buffer::<f32>(NAME, device, "dloss", dloss, 1)?;
    check_buffer::<u32>(NAME, device, "labels", labels, 0)?;
    probs.expect::<f32>(NAME, device, "probs", shape)?;
    dz.view().expect::<f32>(NAME, device, "dz", shape)?;
    let _span = device.span(NAME, "backward", || cost(shape.0 * shape.1, true));
    match device {
        Device::Cpu(d) => cpu::backward(d, dloss, probs, labels, dz),
        Device::Cuda(d) => cuda::backward(d, dloss, probs, labels, dz),
        Device::Null(_) => Ok(()),
    }
}

/// Plain loops: the loss and the probabilities.
pub fn reference<T: Float>(z: &[T], labels: &[u32], classes: usize) -> (T, Vec<T>) {
    let (mut loss, mut probs) = (T::zero(), vec![]);
    for (z, label) in z.chunks(classes).zip(labels) {
        if *label == IGNORED {
            probs.extend(z.iter().map(|_| T::zero()));
            continue;
        }
        let top = z.iter().fold(T::neg_infinity(), |m, x| m.max(*x));
        let sum = z.iter().fold(T::zero(), |t, x| t + (*x - top).exp());
        loss = loss + sum.ln() + top - z[*label as usize];
        probs.extend(z.iter().map(|x| (*x - top).exp() / sum));
    }
    (loss, probs)
}
/// Plain loops: dz.
pub fn reference_backward<T: Float>(dloss: T, probs: &[T], labels: &[u32], classes: usize) -> Vec<T> {
    let hit = |i: usize| labels[i / classes] as usize == i % classes;
    let one = |i: usize| if hit(i) { T::one() } else { T::zero() };
    probs.iter().enumerate().map(|(i, p)| (*p - one(i)) * dloss).collect()
}
