//! Softmax cross-entropy, the mean over rows:
//!
//! ```text
//! loss = mean_i (log Σ_j exp z_ij - z_i,label)        dz = (softmax z - onehot) · dloss / rows
//! ```
mod cpu;

use crate::{Buffer, Case, Device, Error, Kernel, Result, need};

const NAME: &str = "cross_entropy";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: Vec::<Case>::new };

/// loss (1) and the probabilities (rows, classes), which the backward pass keeps. Labels (u32) beyond the classes give an error.
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
    match device {
        Device::Cpu(d) => cpu::backward(d, dloss, probs, labels, classes, dz),
        Device::Cuda(_) => Err(Error::Unsupported { kernel: NAME, device: "cuda" }),
        Device::Null(_) => Ok(()),
    }
}
