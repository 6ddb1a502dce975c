//! Softmax cross-entropy, the mean over rows:
//!
//! ```text
//! loss = mean_i (log Σ_j exp z_ij - z_i,label)        dz = (softmax z - onehot) · dloss / rows
//! ```
mod cases;
mod cpu;
#[cfg(test)]
mod tests;

use crate::{Buffer, Cost, Device, Error, Kernel, Result, need};
use num_traits::Float;

const NAME: &str = "cross_entropy";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: cases::cases };

/// Of n logits.
fn cost(n: usize, back: bool) -> Cost {
    Cost::new(if back { 2 } else { 4 } * n, 8 * n)
}

/// loss (1) and the probabilities (rows, classes), which the backward pass keeps. Labels (u32) beyond the classes give an
/// error. The mean over no rows is NaN.
pub fn forward(
    device: &Device,
    z: &Buffer,
    labels: &Buffer,
    classes: usize,
    probs: &mut Buffer,
    loss: &mut Buffer,
) -> Result<()> {
    let len = labels.len() * classes;
    need::<u32>(NAME, device, "labels", labels, 0)?;
    need::<f32>(NAME, device, "z", z, len)?;
    need::<f32>(NAME, device, "probs", probs, len)?;
    need::<f32>(NAME, device, "loss", loss, 1)?;
    let _span = device.span(NAME, "forward", || cost(len, false));
    match device {
        Device::Cpu(d) => cpu::forward(d, z, labels, classes, probs, loss),
        Device::Cuda(_) => Err(Error::Unsupported { kernel: NAME, device: "cuda" }),
        Device::Null(_) => Ok(()),
    }
}
/// dz (rows, classes), from dloss (1).
pub fn backward(
    device: &Device,
    dloss: &Buffer,
    probs: &Buffer,
    labels: &Buffer,
    classes: usize,
    dz: &mut Buffer,
) -> Result<()> {
    let len = labels.len() * classes;
    need::<f32>(NAME, device, "dloss", dloss, 1)?;
    need::<u32>(NAME, device, "labels", labels, 0)?;
    need::<f32>(NAME, device, "probs", probs, len)?;
    need::<f32>(NAME, device, "dz", dz, len)?;
    let _span = device.span(NAME, "backward", || cost(len, true));
    match device {
        Device::Cpu(d) => cpu::backward(d, dloss, probs, labels, classes, dz),
        Device::Cuda(_) => Err(Error::Unsupported { kernel: NAME, device: "cuda" }),
        Device::Null(_) => Ok(()),
    }
}

/// Plain loops: the loss and the probabilities.
pub fn reference<T: Float>(z: &[T], labels: &[u32], classes: usize) -> (T, Vec<T>) {
    let (mut loss, mut probs) = (T::zero(), vec![]);
    for (z, label) in z.chunks(classes).zip(labels) {
        let top = z.iter().fold(T::neg_infinity(), |m, x| m.max(*x));
        let sum = z.iter().fold(T::zero(), |t, x| t + (*x - top).exp());
        loss = loss + sum.ln() + top - z[*label as usize];
        probs.extend(z.iter().map(|x| (*x - top).exp() / sum));
    }
    (loss / T::from(labels.len()).unwrap_or_else(T::nan), probs)
}
/// Plain loops: dz.
pub fn reference_backward<T: Float>(dloss: T, probs: &[T], labels: &[u32], classes: usize) -> Vec<T> {
    let n = T::from(labels.len()).unwrap_or_else(T::nan);
    let hit = |i: usize| labels[i / classes] as usize == i % classes;
    let one = |i: usize| if hit(i) { T::one() } else { T::zero() };
    probs.iter().enumerate().map(|(i, p)| (*p - one(i)) * dloss / n).collect()
}
