//! Softmax cross-entropy over the rows of an example in the place of classes: of each of K columns
//! one row of the example is the right one.
//!
//! ```text
//! loss = 1/K Σ_e Σ_k (log Σ_i exp z_ik - z_target,k)        dz = (softmax z - onehot) / K · dloss
//! ```
//! with i over the rows of example e, which follow those of the one before. A target counts from the
//! first of these rows; a column whose target is [`IGNORED`] adds nothing, and its gradient is zero.
//! With two columns, start and end, it is the loss of transformers' models for question answering;
//! with one that of several choices, each of which is a row.
mod cases;
mod cpu;
mod cuda;
#[cfg(test)]
mod tests;

use crate::{
    Buffer, Cost, Device, Error, Kernel, Result, View, ViewMut, check_buffer, cross_entropy::IGNORED,
};
use num_traits::Float;

const NAME: &str = "cross_entropy_of_rows";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: cases::cases };

/// Of n logits.
fn cost(n: usize, back: bool) -> Cost {
    Cost::new(if back { 2 } else { 4 } * n, 8 * n)
}
fn check(device: &Device, lengths: &Buffer, targets: &Buffer, columns: usize) -> Result<()> {
    check_buffer::<u32>(NAME, device, "lengths", lengths, 0)?;
    let expected = lengths.len().checked_mul(columns);
    let expected = expected.ok_or_else(|| Error::uncountable(NAME, "targets", (lengths.len(), columns)))?;
    check_buffer::<u32>(NAME, device, "targets", targets, expected)
}

/// loss (1) of z (rows, K), of which every example has so many rows (u32, (examples)), and of a
/// target (u32) for each column of each example, (examples, K); and the probabilities (rows, K),
/// which the backward pass keeps: those of columns without a target are 0. An error if the lengths
/// are not those of all rows, or if a target is beyond its example.
pub fn forward(
    device: &Device,
    z: View<'_>,
    lengths: &Buffer,
    targets: &Buffer,
    probs: ViewMut<'_>,
    loss: &mut Buffer,
) -> Result<()> {
    let shape = (z.rows(), z.cols());
    z.expect::<f32>(NAME, device, "z", shape)?;
    check(device, lengths, targets, shape.1)?;
    probs.view().expect::<f32>(NAME, device, "probs", shape)?;
    check_buffer::<f32>(NAME, device, "loss", loss, 1)?;
    let _span = device.span(NAME, "forward", || cost(shape.0 * shape.1, false));
    match device {
        Device::Cpu(d) => cpu::forward(d, z, lengths, targets, probs, loss),
        Device::Cuda(d) => cuda::forward(device, d, z, lengths, targets, probs, loss),
        Device::Null(d) if d.is_gpu() => cuda::workspace(device, lengths.len(), shape.1).map(drop),
        Device::Null(_) => Ok(()),
    }
}
/// dz (rows, K), from dloss (1).
pub fn backward(
    device: &Device,
    dloss: &Buffer,
    probs: View<'_>,
    lengths: &Buffer,
    targets: &Buffer,
    dz: ViewMut<'_>,
) -> Result<()> {
    let shape = (probs.rows(), probs.cols());
    check_buffer::<f32>(NAME, device, "dloss", dloss, 1)?;
    probs.expect::<f32>(NAME, device, "probs", shape)?;
    check(device, lengths, targets, shape.1)?;
    dz.view().expect::<f32>(NAME, device, "dz", shape)?;
    let _span = device.span(NAME, "backward", || cost(shape.0 * shape.1, true));
    match device {
        Device::Cpu(d) => cpu::backward(d, dloss, probs, lengths, targets, dz),
        Device::Cuda(d) => cuda::backward(d, dloss, probs, lengths, targets, dz),
        Device::Null(_) => Ok(()),
    }
}

/// Column by column: the loss and the probabilities.
pub fn reference<T: Float>(z: &[T], lengths: &[u32], targets: &[u32], columns: usize) -> (T, Vec<T>) {
    let (mut loss, mut probs, mut first) = (T::zero(), vec![T::zero(); z.len()], 0);
    for (e, rows) in lengths.iter().enumerate() {
        for k in 0..columns {
            let target = targets[e * columns + k];
            if target == IGNORED {
                continue;
            }
            let at = |i: u32| (first + i as usize) * columns + k;
            let top = (0..*rows).fold(T::neg_infinity(), |top, i| top.max(z[at(i)]));
            let sum = (0..*rows).fold(T::zero(), |sum, i| sum + (z[at(i)] - top).exp());
            loss = loss + sum.ln() + top - z[at(target)];
            (0..*rows).for_each(|i| probs[at(i)] = (z[at(i)] - top).exp() / sum);
        }
        first += *rows as usize;
    }
    (loss / share(columns), probs)
}
/// Column by column: dz.
pub fn reference_backward<T: Float>(
    dloss: T,
    probs: &[T],
    lengths: &[u32],
    targets: &[u32],
    columns: usize,
) -> Vec<T> {
    let by = dloss / share(columns);
    let (mut dz, mut first): (Vec<T>, _) = (probs.iter().map(|p| *p * by).collect(), 0);
    for (e, rows) in lengths.iter().enumerate() {
        for k in (0..columns).filter(|k| targets[e * columns + k] != IGNORED) {
            let at = (first + targets[e * columns + k] as usize) * columns + k;
            dz[at] = (probs[at] - T::one()) * by;
        }
        first += *rows as usize;
    }
    dz
}
/// What a sum over columns is divided by.
fn share<T: Float>(columns: usize) -> T {
    (0..columns.max(1)).fold(T::zero(), |n, _| n + T::one())
}
