//! AdamW with decoupled weight decay (Loshchilov & Hutter 2019), as `torch.optim.AdamW`:
//!
//! ```text
//! w ← w (1 - lr λ)      m ← β₁ m + (1 - β₁) g      v ← β₂ v + (1 - β₂) g²
//! w ← w - lr / (1 - β₁ᵗ) · m / (√v / √(1 - β₂ᵗ) + ε)
//! ```
mod cpu;

use crate::{Buffer, Case, Device, Error, Kernel, Result, need};

const NAME: &str = "adamw";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: Vec::<Case>::new };

/// The numbers of one step.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Learning rate.
    pub lr: f32,
    /// Decay of the mean.
    pub beta1: f32,
    /// Decay of the square.
    pub beta2: f32,
    /// Added to the root.
    pub eps: f32,
    /// λ.
    pub weight_decay: f32,
    /// t, from 1.
    pub t: u64,
    /// Multiplied into the gradient first: 1 / accumulated batches, and clipping.
    pub grad_scale: f32,
}

/// One step of w, with its state m and v.
pub fn step(
    device: &Device,
    s: Step,
    w: &mut Buffer,
    g: &Buffer,
    m: &mut Buffer,
    v: &mut Buffer,
) -> Result<()> {
    let n = w.len();
    need::<f32>(NAME, device, "w", w, n)?;
    need::<f32>(NAME, device, "g", g, n)?;
    need::<f32>(NAME, device, "m", m, n)?;
    need::<f32>(NAME, device, "v", v, n)?;
    match device {
        Device::Cpu(d) => cpu::step(d, s, w, g, m, v),
        Device::Cuda(_) => Err(Error::Unsupported { kernel: NAME, device: "cuda" }),
        Device::Null(_) => Ok(()),
    }
}
