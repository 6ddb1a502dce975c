//! How far the softmax of logits is from a distribution that is given, the sum over rows of the
//! Kullback-Leibler divergence (Hinton et al. 2015, §2, with s one over the temperature):
//!
//! ```text
//! loss = Σ_i Σ_j q_ij (ln q_ij - ln p_ij)      p = softmax(s z)      dz = s (p Σ_j q - q) · dloss
//! ```
//! Where q is 0 its term is 0: a row of zeros adds nothing, and its gradient is zero.
mod cases;
mod cpu;
#[cfg(test)]
mod tests;

use crate::{Buffer, Cost, Device, Error, Kernel, Result, View, ViewMut, check_buffer};
use num_traits::Float;

const NAME: &str = "divergence";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: cases::cases };
const REFUSED: Error = Error::Unsupported { kernel: NAME, device: "cuda" };

/// Of n logits.
fn cost(n: usize, back: bool) -> Cost {
    Cost::new(if back { 4 } else { 9 } * n, 12 * n)
}

/// loss (1) of z (rows, classes) and q of the same shape, whose rows are distributions or zeros; and
/// p, which the backward pass keeps: zeros where q is.
pub fn forward(
    device: &Device,
    z: View<'_>,
    q: View<'_>,
    s: f32,
    p: ViewMut<'_>,
    loss: &mut Buffer,
) -> Result<()> {
    let shape = (z.rows(), z.cols());
    z.expect::<f32>(NAME, device, "z", shape)?;
    q.expect::<f32>(NAME, device, "q", shape)?;
    p.view().expect::<f32>(NAME, device, "p", shape)?;
    check_buffer::<f32>(NAME, device, "loss", loss, 1)?;
    let _span = device.span(NAME, "forward", || cost(shape.0 * shape.1, false));
    match device {
        Device::Cpu(d) => cpu::forward(d, [z, q], s, p, loss),
        Device::Cuda(_) => Err(REFUSED),
        Device::Null(_) => Ok(()),
    }
}
/// dz (rows, classes), from dloss (1).
pub fn backward(
    device: &Device,
    dloss: &Buffer,
    p: View<'_>,
    q: View<'_>,
    s: f32,
    dz: ViewMut<'_>,
) -> Result<()> {
    let shape = (p.rows(), p.cols());
    check_buffer::<f32>(NAME, device, "dloss", dloss, 1)?;
    p.expect::<f32>(NAME, device, "p", shape)?;
    q.expect::<f32>(NAME, device, "q", shape)?;
    dz.view().expect::<f32>(NAME, device, "dz", shape)?;
    let _span = device.span(NAME, "backward", || cost(shape.0 * shape.1, true));
    match device {
        Device::Cpu(d) => cpu::backward(d, dloss, [p, q], s, dz),
        Device::Cuda(_) => Err(REFUSED),
        Device::Null(_) => Ok(()),
    }
}

/// Plain loops: the loss and p.
pub fn reference<T: Float>(z: &[T], q: &[T], s: T, classes: usize) -> (T, Vec<T>) {
    let (mut loss, mut p) = (T::zero(), vec![]);
    for (z, q) in z.chunks(classes.max(1)).zip(q.chunks(classes.max(1))) {
        if q.iter().all(|q| q.is_zero()) {
            p.extend(z.iter().map(|_| T::zero()));
            continue;
        }
        let top = z.iter().fold(T::neg_infinity(), |m, z| m.max(s * *z));
        let sum = z.iter().fold(T::zero(), |t, z| t + (s * *z - top).exp());
        for (z, q) in z.iter().zip(q) {
            let ln_p = s * *z - top - sum.ln();
            p.push(ln_p.exp());
            if *q > T::zero() {
                loss = loss + *q * (q.ln() - ln_p);
            }
        }
    }
    (loss, p)
}
/// Plain loops: dz.
pub fn reference_backward<T: Float>(dloss: T, p: &[T], q: &[T], s: T, classes: usize) -> Vec<T> {
    let rows = p.chunks(classes.max(1)).zip(q.chunks(classes.max(1)));
    let row = |(p, q): (&[T], &[T])| {
        let all = q.iter().fold(T::zero(), |sum, q| sum + *q);
        p.iter().zip(q).map(|(p, q)| s * (*p * all - *q) * dloss).collect::<Vec<T>>()
    };
    rows.flat_map(row).collect()
}
