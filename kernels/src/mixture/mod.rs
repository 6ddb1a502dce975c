//! What mixes several outputs of each token: columns stand in groups, one for each output (or for
//! each head of each output), and a token has a weight for each group. Group g has `widths[g]`
//! columns, side by side.
//!
//! ```text
//! dots      s_g = Σ a_k b_k over the columns k of group g                      (rows, groups)
//! spread    y_k = x_k p_g for the columns k of group g                         (rows, columns)
//! softmax   p_g = exp s_g / Σ exp s_g' over every `stride`-th group g' from g mod stride on
//! ```
//! `dots` and `spread` are each other's gradients: da = spread(b, ds), db = spread(a, ds), dx =
//! spread(dy, p), dp = dots(dy, x).
mod cases;
mod cpu;
mod cuda;
#[cfg(test)]
mod tests;

use crate::{Cost, Device, Error, Kernel, Result, View, ViewMut};

const NAME: &str = "mixture";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: cases::cases };

/// All columns of the groups.
fn columns(widths: &[usize]) -> usize {
    widths.iter().sum()
}
/// Reads `read` numbers and writes `written`, with so many operations on each that is read.
fn cost(read: usize, written: usize, each: usize) -> Cost {
    Cost::new(each * read, 4 * (read + written))
}

/// s: the dot products of the groups of a and b, (rows, columns) each. (rows, groups)
pub fn dots(device: &Device, a: View<'_>, b: View<'_>, widths: &[usize], s: ViewMut<'_>) -> Result<()> {
    let (rows, cols) = (a.rows(), columns(widths));
    a.expect::<f32>(NAME, device, "a", (rows, cols))?;
    b.expect::<f32>(NAME, device, "b", (rows, cols))?;
    s.view().expect::<f32>(NAME, device, "s", (rows, widths.len()))?;
    let _span = device.span(NAME, "dots", || cost(2 * rows * cols, rows * widths.len(), 1));
    match device {
        Device::Cpu(d) => cpu::dots(d, [a, b], widths, s),
        Device::Cuda(d) => cuda::dots(d, [a, b], widths, s),
        Device::Null(_) => Ok(()),
    }
}
/// y: the columns of x, (rows, columns), times the weights p of their groups, (rows,
/// groups). (rows, columns)
pub fn spread(device: &Device, x: View<'_>, p: View<'_>, widths: &[usize], y: ViewMut<'_>) -> Result<()> {
    let (rows, cols) = (x.rows(), columns(widths));
    x.expect::<f32>(NAME, device, "x", (rows, cols))?;
    p.expect::<f32>(NAME, device, "p", (rows, widths.len()))?;
    y.view().expect::<f32>(NAME, device, "y", (rows, cols))?;
    let _span = device.span(NAME, "spread", || cost(rows * cols, rows * cols, 1));
    match device {
        Device::Cpu(d) => cpu::spread(d, x, p, widths, y),
        Device::Cuda(d) => cuda::spread(d, x, p, widths, y),
        Device::Null(_) => Ok(()),
    }
}
/// p: the softmax of s over every `stride`-th column, for each of the first `stride`
/// columns. (rows, groups)
pub fn softmax(device: &Device, s: View<'_>, stride: usize, p: ViewMut<'_>) -> Result<()> {
    let shape = (s.rows(), s.cols());
    s.expect::<f32>(NAME, device, "s", shape)?;
    p.view().expect::<f32>(NAME, device, "p", shape)?;
    divides(shape.1, stride)?;
    let _span = device.span(NAME, "softmax", || cost(shape.0 * shape.1, shape.0 * shape.1, 10));
    match device {
        Device::Cpu(d) => cpu::softmax(d, s, stride, p),
        Device::Cuda(d) => cuda::softmax(d, s, stride, p),
        Device::Null(_) => Ok(()),
    }
}
/// ds = p ∘ (dp - Σ p dp), summed over the columns that a softmax had in common. (rows, groups)
pub fn softmax_backward(
    device: &Device,
    dp: View<'_>,
    p: View<'_>,
    stride: usize,
    ds: ViewMut<'_>,
) -> Result<()> {
    let shape = (p.rows(), p.cols());
    dp.expect::<f32>(NAME, device, "dp", shape)?;
    p.expect::<f32>(NAME, device, "p", shape)?;
    ds.view().expect::<f32>(NAME, device, "ds", shape)?;
    divides(shape.1, stride)?;
    let _span = device.span(NAME, "softmax backward", || cost(2 * shape.0 * shape.1, shape.0 * shape.1, 2));
    match device {
        Device::Cpu(d) => cpu::softmax_backward(d, [dp, p], stride, ds),
        Device::Cuda(d) => cuda::softmax_backward(d, [dp, p], stride, ds),
        Device::Null(_) => Ok(()),
    }
}
fn divides(groups: usize, stride: usize) -> Result<()> {
    match stride > 0 && groups.is_multiple_of(stride) {
        true => Ok(()),
        false => {
            let what = format!("{groups} columns cannot be taken in turns of {stride}");
            Err(Error::Invalid { kernel: NAME, what })
        }
    }
}

/// The columns of each group.
fn groups(widths: &[usize]) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
    let mut at = 0;
    widths.iter().map(move |w| {
        at += w;
        at - w..at
    })
}
/// Number by number: s.
pub fn reference_dots(a: &[f64], b: &[f64], widths: &[usize]) -> Vec<f64> {
    let row =
        |(a, b): (&[f64], &[f64])| groups(widths).map(|g| g.map(|k| a[k] * b[k]).sum()).collect::<Vec<f64>>();
    let cols = columns(widths).max(1);
    a.chunks(cols).zip(b.chunks(cols)).flat_map(row).collect()
}
/// Number by number: y.
pub fn reference_spread(x: &[f64], p: &[f64], widths: &[usize]) -> Vec<f64> {
    let row = |(x, p): (&[f64], &[f64])| {
        groups(widths).zip(p).flat_map(|(g, p)| g.map(|k| x[k] * p).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    x.chunks(columns(widths).max(1)).zip(p.chunks(widths.len().max(1))).flat_map(row).collect()
}
/// Number by number: p of rows of so many columns.
pub fn reference_softmax(s: &[f64], groups: usize, stride: usize) -> Vec<f64> {
    let row = |s: &[f64]| {
        let of = |g: usize| (g % stride..groups).step_by(stride);
        let sum = |g: usize| of(g).map(|k| s[k].exp()).sum::<f64>();
        (0..groups).map(|g| s[g].exp() / sum(g)).collect::<Vec<f64>>()
    };
    s.chunks(groups.max(1)).flat_map(row).collect()
}
/// Number by number: ds.
pub fn reference_softmax_backward(dp: &[f64], p: &[f64], groups: usize, stride: usize) -> Vec<f64> {
    let row = |(dp, p): (&[f64], &[f64])| {
        let of = |g: usize| (g % stride..groups).step_by(stride);
        let sum = |g: usize| of(g).map(|k| dp[k] * p[k]).sum::<f64>();
        (0..groups).map(|g| p[g] * (dp[g] - sum(g))).collect::<Vec<f64>>()
    };
    dp.chunks(groups.max(1)).zip(p.chunks(groups.max(1))).flat_map(row).collect()
}
