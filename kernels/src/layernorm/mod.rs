//! Layer normalisation of a residual sum (Ba, Kiros & Hinton 2016), the first addend dropped out:
//!
//! ```text
//! s = x ∘ f + r    x̂ = (s - mean s) · rstd        rstd = 1 / sqrt(var s + eps)        y = x̂ γ + β
//! ds = rstd · (g - mean g - x̂ mean(g x̂)),  g = dy γ        dx = ds ∘ f        dγ = Σ dy x̂        dβ = Σ dy
//! ```
//! f are the factors of [`Dropout`], or 1: the numbers are those of [`crate::dropout::apply`] in a
//! pass of its own. Mean and (biased) variance run over the channels of a row. The root mean square
//! norm (Zhang & Sennrich 2019, arXiv:1910.07467) takes the mean to be 0, in ds too. The backward
//! pass keeps x̂ and rstd; dγ and dβ are [`crate::reduce::column_dots`] and
//! [`crate::reduce::column_sums`].
mod cases;
mod cpu;
mod cuda;
#[cfg(test)]
mod tests;

use crate::{
    Buffer, Cost, Device, Error, Kernel, Result, View, ViewMut, check_buffer, dropout::Dropout,
    matmul_int8::QuantizedRows,
};
use num_traits::Float;

const NAME: &str = "layernorm";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: cases::cases };

/// The weights of a normalisation.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// γ, a value for each channel.
    pub gamma: &'a Buffer,
    /// β, a value for each channel; 0 if there is none.
    pub beta: Option<&'a Buffer>,
    /// Added to the variance.
    pub eps: f32,
    /// False: the mean is taken to be 0.
    pub centred: bool,
    /// What drops elements of x before anything is added.
    pub dropout: Option<Dropout>,
}

/// What the backward pass needs: x̂ (rows, cols) and rstd (rows).
#[derive(Debug)]
pub struct SavedNorm<'a> {
    /// The normalised rows.
    pub normed: ViewMut<'a>,
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

/// y = LN(x ∘ f + r), all (rows, cols).
pub fn forward(
    device: &Device,
    x: View<'_>,
    r: Option<View<'_>>,
    n: Norm<'_>,
    y: ViewMut<'_>,
    keep: Option<SavedNorm<'_>>,
) -> Result<()> {
    forward_quantized(device, x, r, n, y, keep, None)
}

/// The same; and the rows of y in 8 bits too, while the first-level cache holds them.
pub fn forward_quantized(
    device: &Device,
    x: View<'_>,
    r: Option<View<'_>>,
    n: Norm<'_>,
    y: ViewMut<'_>,
    keep: Option<SavedNorm<'_>>,
    q: Option<&mut QuantizedRows>,
) -> Result<()> {
    let shape = (x.rows(), x.cols());
    x.expect::<f32>(NAME, device, "x", shape)?;
    y.view().expect::<f32>(NAME, device, "y", shape)?;
    n.check(device, shape.1)?;
    if let Some(r) = r {
        r.expect::<f32>(NAME, device, "r", shape)?;
    }
    if let Some(k) = &keep {
        k.normed.view().expect::<f32>(NAME, device, "normed", shape)?;
        check_buffer::<f32>(NAME, device, "rstd", k.rstd, shape.0)?;
    }
    if let Some(q) = &q {
        q.check(NAME, "q", device, shape.0, shape.1)?;
    }
    let len = shape.0 * shape.1;
    let bytes = if q.is_some() { len } else { 0 };
    let cost = || cost(len, n.dropout.is_some(), r.is_some(), keep.is_some()) + Cost::new(0, bytes);
    let _span = device.span(NAME, "forward", cost);
    match device {
        Device::Cpu(d) => cpu::forward(d, x, r, n, y, keep, q),
        Device::Cuda(_) if q.is_some() => {
            Err(Error::Unsupported { kernel: "layernorm to 8 bits", device: "cuda" })
        }
        Device::Cuda(d) => cuda::forward(d, x, r, n, y, keep),
        Device::Null(_) => Ok(()),
    }
}

/// The gradient of the sum, ds (rows, cols), from dy and what the forward pass kept; and that of x,
/// dx, which is another one where x was dropped out.
pub fn backward(
    device: &Device,
    dy: View<'_>,
    normed: View<'_>,
    rstd: &Buffer,
    n: Norm<'_>,
    ds: ViewMut<'_>,
    dx: Option<ViewMut<'_>>,
) -> Result<()> {
    let shape = (dy.rows(), dy.cols());
    dy.expect::<f32>(NAME, device, "dy", shape)?;
    normed.expect::<f32>(NAME, device, "normed", shape)?;
    check_buffer::<f32>(NAME, device, "rstd", rstd, shape.0)?;
    n.check(device, shape.1)?;
    ds.view().expect::<f32>(NAME, device, "ds", shape)?;
    if let Some(dx) = &dx {
        dx.view().expect::<f32>(NAME, device, "dx", shape)?;
    }
    let _span = device.span(NAME, "backward", || cost_backward(shape.0 * shape.1, dx.is_some()));
    match device {
        Device::Cpu(d) => cpu::backward(d, dy, normed, rstd, n, ds, dx),
        Device::Cuda(d) => cuda::backward(d, dy, normed, rstd, n, ds, dx),
        Device::Null(_) => Ok(()),
    }
}
impl Norm<'_> {
    fn check(&self, device: &Device, cols: usize) -> Result<()> {
        check_buffer::<f32>(NAME, device, "gamma", self.gamma, cols)?;
        self.beta.map_or(Ok(()), |beta| check_buffer::<f32>(NAME, device, "beta", beta, cols))
    }
}

/// Plain loops: (y, x̂, rstd) of the rows of s = x + r.
pub fn reference<T: Float>(
    s: &[T],
    gamma: &[T],
    beta: Option<&[T]>,
    eps: T,
    centred: bool,
) -> (Vec<T>, Vec<T>, Vec<T>) {
    let c = gamma.len();
    let n = T::from(c).unwrap_or_else(T::one);
    let (mut y, mut hat, mut inv) = (vec![], vec![], vec![]);
    for row in s.chunks(c) {
        let mean = if centred { row.iter().fold(T::zero(), |a, v| a + *v) / n } else { T::zero() };
        let var = row.iter().fold(T::zero(), |a, v| a + (*v - mean) * (*v - mean)) / n;
        let r = T::one() / (var + eps).sqrt();
        inv.push(r);
        for (j, v) in row.iter().enumerate() {
            let h = (*v - mean) * r;
            hat.push(h);
            y.push(h * gamma[j] + beta.map_or(T::zero(), |b| b[j]));
        }
    }
    (y, hat, inv)
}
/// Plain loops: ds from dy and what the forward pass kept.
pub fn reference_backward<T: Float>(dy: &[T], hat: &[T], inv: &[T], gamma: &[T], centred: bool) -> Vec<T> {
    let c = gamma.len();
    let n = T::from(c).unwrap_or_else(T::one);
    let mut dx = vec![T::zero(); dy.len()];
    for (i, r) in inv.iter().enumerate() {
        let at = |j: usize| i * c + j;
        let mean = (0..c).fold(T::zero(), |a, j| a + dy[at(j)] * gamma[j]) / n;
        let m1 = if centred { mean } else { T::zero() };
        let m2 = (0..c).fold(T::zero(), |a, j| a + dy[at(j)] * gamma[j] * hat[at(j)]) / n;
        for j in 0..c {
            dx[at(j)] = *r * (dy[at(j)] * gamma[j] - m1 - hat[at(j)] * m2);
        }
    }
    dx
}
