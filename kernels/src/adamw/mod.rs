//! AdamW with decoupled weight decay (Loshchilov & Hutter 2019), as `torch.optim.AdamW`:
//!
//! ```text
//! w ← w (1 - lr λ)      m ← β₁ m + (1 - β₁) g      v ← β₂ v + (1 - β₂) g²
//! w ← w - lr / (1 - β₁ᵗ) · m / (√v / √(1 - β₂ᵗ) + ε)
//! ```
//! All weights take their step in one launch: most of them are too small for one of their own.
mod cases;
mod cpu;
mod cuda;
#[cfg(test)]
mod tests;

use crate::{Buffer, Cost, Device, Kernel, Result, check_buffer};
use num_traits::Float;

const NAME: &str = "adamw";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: cases::cases };

/// The numbers of one step of one weight.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the mean.
    pub beta1: f64,
    /// Decay of the square.
    pub beta2: f64,
    /// Added to the root.
    pub eps: f64,
    /// t, from 1.
    pub t: u64,
    /// λ.
    pub weight_decay: f64,
    /// Multiplied into the gradient first: 1 / accumulated batches, and clipping.
    pub grad_scale: f64,
}

/// A weight, its gradient and its state, as long as each other.
#[derive(Debug)]
pub struct Part<'a> {
    /// The weight.
    pub w: &'a mut Buffer,
    /// Its gradient.
    pub g: &'a Buffer,
    /// The mean gradient.
    pub m: &'a mut Buffer,
    /// The mean squared gradient.
    pub v: &'a mut Buffer,
    /// How it is updated.
    pub step: Step,
}

/// What a step multiplies by, in the precision in which it is taken.
#[derive(Clone, Copy, Debug)]
struct Factors<T> {
    grad: T,
    keep: T,
    lr: T,
    root: T,
    eps: T,
    /// β₂, 1 - β₁, 1 - β₂.
    beta2: T,
    new1: T,
    new2: T,
}
impl Step {
    /// As PyTorch does: in double precision, and rounded where they are used.
    fn factors<T: Float>(&self) -> Factors<T> {
        let t = |x: f64| T::from(x).unwrap_or_else(T::nan);
        let debias = |b: f64| 1.0 - b.powf(self.t as f64);
        Factors {
            grad: t(self.grad_scale),
            keep: t(1.0 - self.lr * self.weight_decay),
            lr: t(self.lr / debias(self.beta1)),
            root: t(debias(self.beta2).sqrt()),
            eps: t(self.eps),
            beta2: t(self.beta2),
            new1: t(1.0 - self.beta1),
            new2: t(1.0 - self.beta2),
        }
    }
}
impl<T: Float> Factors<T> {
    /// (w, m, v) after a step, rounded where PyTorch rounds.
    #[inline(always)]
    fn step(self, w: T, g: T, m: T, v: T) -> (T, T, T) {
        let g = g * self.grad;
        let m = m + self.new1 * (g - m);
        let v = v * self.beta2 + self.new2 * g * g;
        (w * self.keep - self.lr * m / (v.sqrt() / self.root + self.eps), m, v)
    }
}

fn cost(n: usize) -> Cost {
    Cost::new(14 * n, 28 * n)
}

/// One step of all `parts`.
pub fn step(device: &Device, parts: &mut [Part<'_>]) -> Result<()> {
    for Part { w, g, m, v, .. } in &*parts {
        let n = w.len();
        check_buffer::<f32>(NAME, device, "w", w, n)?;
        check_buffer::<f32>(NAME, device, "g", g, n)?;
        check_buffer::<f32>(NAME, device, "m", m, n)?;
        check_buffer::<f32>(NAME, device, "v", v, n)?;
    }
    let _span = device.span(NAME, "step", || cost(parts.iter().map(|p| p.w.len()).sum()));
    match device {
        Device::Cpu(d) => cpu::step(d, parts),
        Device::Cuda(d) => cuda::step(d, parts),
        Device::Null(_) => Ok(()),
    }
}

/// Plain loops: (w, m, v) after a step.
pub fn reference<T: Float>(s: Step, [w, g, m, v]: [&[T]; 4]) -> (Vec<T>, Vec<T>, Vec<T>) {
    let f = s.factors::<T>();
    let (mut a, mut b, mut c) = (vec![], vec![], vec![]);
    for i in 0..w.len() {
        let (w, m, v) = f.step(w[i], g[i], m[i], v[i]);
        a.push(w);
        b.push(m);
        c.push(v);
    }
    (a, b, c)
}
