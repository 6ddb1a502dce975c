//! Layer normalisation of a residual sum (Ba, Kiros & Hinton 2016), the first addend dropped out:
//!
//! ```text
//! s = x ∘ f + r    x̂ = (s - mean s) · rstd        rstd = 1 / sqrt(var s + eps)        y = x̂ γ + β
//! ds = rstd · (g - mean g - x̂ mean(g x̂)),  g = dy γ        dx = ds ∘ f        dγ = Σ dy x̂        dβ = Σ dy
//! ```
//! f are the factors of [`Dropout`], or 1: the numbers are those of [`crate::dropout::apply`] in a pass of its own.
//! Mean and (biased) variance run over the `cols` channels of a row. The backward pass keeps x̂ and rstd; dγ and dβ are
//! [`crate::reduce::column_dots`] and [`crate::reduce::column_sums`].
mod cases;
mod cpu;
mod cuda;
#[cfg(test)]
mod tests;

use crate::{
    Buffer, Cost, Device, Error, Kernel, Result, dropout::Dropout, matmul::area, matmul_int8::Rows, need,
};
use num_traits::Float;

const NAME: &str = "layernorm";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: cases::cases };

/// The shape and weights of one normalisation.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// γ, `cols` values.
    pub gamma: &'a Buffer,
    /// β, `cols` values.
    pub beta: &'a Buffer,
    /// Added to the variance.
    pub eps: f32,
    /// Rows (tokens).
    pub rows: usize,
    /// Channels of a row.
    pub cols: usize,
    /// What drops elements of x before anything is added.
    pub dropout: Option<Dropout>,
}

/// What the backward pass needs: x̂ (rows, cols) and rstd (rows).
#[derive(Debug)]
pub struct Kept<'a> {
    /// The normalised rows.
    pub normed: &'a mut Buffer,
    /// One over the standard deviation of each row.
    pub rstd: &'a mut Buffer,
}

/// Of n elements, forward.
fn cost(n: usize, dropout: bool, residual: bool, keep: bool) -> Cost {
    Cost::new((8 + usize::from(dropout)) * n, 4 * n * (2 + usize::from(residual) + usize::from(keep)))
}
/// Of n elements, backward.
fn cost_backward(n: usize, dropout: bool) -> Cost {
    Cost::new((9 + usize::from(dropout)) * n, 4 * n * (3 + usize::from(dropout)))
}
/// A launch that the GPU's kernels do not know.
fn refused(what: &'static str) -> Error {
    Error::Unsupported { kernel: what, device: "cuda" }
}

/// y = LN(x ∘ f + r), all (rows, cols).
pub fn forward(
    device: &Device,
    x: &Buffer,
    r: Option<&Buffer>,
    n: Norm<'_>,
    y: &mut Buffer,
    keep: Option<Kept<'_>>,
) -> Result<()> {
    forward_quantized(device, x, r, n, y, keep, None)
}

/// The same; and the rows of y in 8 bits too, while the first-level cache holds them.
pub fn forward_quantized(
    device: &Device,
    x: &Buffer,
    r: Option<&Buffer>,
    n: Norm<'_>,
    y: &mut Buffer,
    keep: Option<Kept<'_>>,
    q: Option<&mut Rows>,
) -> Result<()> {
    let len = area(NAME, "x", n.rows, n.cols)?;
    need::<f32>(NAME, device, "x", x, len)?;
    need::<f32>(NAME, device, "y", y, len)?;
    need::<f32>(NAME, device, "gamma", n.gamma, n.cols)?;
    need::<f32>(NAME, device, "beta", n.beta, n.cols)?;
    if let Some(r) = r {
        need::<f32>(NAME, device, "r", r, len)?;
    }
    if let Some(k) = &keep {
        need::<f32>(NAME, device, "normed", k.normed, len)?;
        need::<f32>(NAME, device, "rstd", k.rstd, n.rows)?;
    }
    if let Some(q) = &q {
        q.check(NAME, "q", device, n.rows, n.cols)?;
    }
    let bytes = if q.is_some() { len } else { 0 };
    let cost = || cost(len, n.dropout.is_some(), r.is_some(), keep.is_some()) + Cost::new(0, bytes);
    let _span = device.span(NAME, "forward", cost);
    match device {
        Device::Cpu(d) => cpu::forward(d, x, r, n, y, keep, q),
        Device::Cuda(_) if q.is_some() => Err(refused("layernorm to 8 bits")),
        Device::Cuda(_) if n.dropout.is_some() => Err(refused("layernorm with dropout")),
        Device::Cuda(d) => cuda::forward(d, x, r, n, y, keep),
        Device::Null(_) => Ok(()),
    }
}

/// The gradient of the sum, ds (rows, cols), from dy and what the forward pass kept; and that of x, dx, which is another one
/// where x was dropped out.
pub fn backward(
    device: &Device,
    dy: &Buffer,
    normed: &Buffer,
    rstd: &Buffer,
    n: Norm<'_>,
    ds: &mut Buffer,
    dx: Option<&mut Buffer>,
) -> Result<()> {
    let len = area(NAME, "dy", n.rows, n.cols)?;
    need::<f32>(NAME, device, "dy", dy, len)?;
    need::<f32>(NAME, device, "normed", normed, len)?;
    need::<f32>(NAME, device, "rstd", rstd, n.rows)?;
    need::<f32>(NAME, device, "gamma", n.gamma, n.cols)?;
    need::<f32>(NAME, device, "ds", ds, len)?;
    if let Some(dx) = &dx {
        need::<f32>(NAME, device, "dx", dx, len)?;
    }
    let _span = device.span(NAME, "backward", || cost_backward(len, dx.is_some()));
    match device {
        Device::Cpu(d) => cpu::backward(d, dy, normed, rstd, n, ds, dx),
        Device::Cuda(_) if dx.is_some() => Err(refused("layernorm with dropout")),
        Device::Cuda(d) => cuda::backward(d, dy, normed, rstd, n, ds),
        Device::Null(_) => Ok(()),
    }
}

/// Plain loops: (y, x̂, rstd) of the rows of s = x + r.
pub fn reference<T: Float>(s: &[T], gamma: &[T], beta: &[T], eps: T) -> (Vec<T>, Vec<T>, Vec<T>) {
    let c = gamma.len();
    let n = T::from(c).unwrap_or_else(T::one);
    let (mut y, mut hat, mut inv) = (vec![], vec![], vec![]);
    for row in s.chunks(c) {
        let mean = row.iter().fold(T::zero(), |a, v| a + *v) / n;
        let var = row.iter().fold(T::zero(), |a, v| a + (*v - mean) * (*v - mean)) / n;
        let r = T::one() / (var + eps).sqrt();
        inv.push(r);
        for (j, v) in row.iter().enumerate() {
            let h = (*v - mean) * r;
            hat.push(h);
            y.push(h * gamma[j] + beta[j]);
        }
    }
    (y, hat, inv)
}
/// Plain loops: ds from dy and what the forward pass kept.
pub fn reference_backward<T: Float>(dy: &[T], hat: &[T], inv: &[T], gamma: &[T]) -> Vec<T> {
    let c = gamma.len();
    let n = T::from(c).unwrap_or_else(T::one);
    let mut dx = vec![T::zero(); dy.len()];
    for (i, r) in inv.iter().enumerate() {
        let at = |j: usize| i * c + j;
        let m1 = (0..c).fold(T::zero(), |a, j| a + dy[at(j)] * gamma[j]) / n;
        let m2 = (0..c).fold(T::zero(), |a, j| a + dy[at(j)] * gamma[j] * hat[at(j)]) / n;
        for j in 0..c {
            dx[at(j)] = *r * (dy[at(j)] * gamma[j] - m1 - hat[at(j)] * m2);
        }
    }
    dx
}
