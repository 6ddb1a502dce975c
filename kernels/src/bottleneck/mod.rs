//! A bottleneck of width B on rows of C channels (Houlsby et al. 2019).
//!
//! ```text
//! forward    a (m, B) = x (m, C) W_dᵀ + b_d       y (m, C) = f(a) W_uᵀ + b_u [+ ..]
//! backward   da (m, B) = dy (m, C) W_u ∘ f'(a)    dx (m, C) = da W_d [+ ..]
//! ```
//! W_d is (B, C) and W_u (C, B), both f32. Either direction is two narrow products with something
//! element by element in between. They are computed block by block of rows: what one writes is in
//! the cache when the next one reads it.
mod cases;
mod cpu;
mod cuda;
#[cfg(test)]
mod tests;

use crate::{
    Buffer, Cost, Device, Error, Kernel, Result, View, ViewMut,
    activation::{self, Activation},
    check_buffer, isa,
    matmul::{self, Base, Plus},
};

const NAME: &str = "bottleneck";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: cases::cases };

/// Weights and the non-linearity of a launch.
#[derive(Clone, Copy, Debug)]
pub struct Bottleneck<'a> {
    /// W_d (B, C).
    pub down: View<'a>,
    /// b_d (B).
    pub down_bias: Option<&'a Buffer>,
    /// W_u (C, B).
    pub up: View<'a>,
    /// b_u (C).
    pub up_bias: Option<&'a Buffer>,
    /// f.
    pub f: Activation,
}

impl Bottleneck<'_> {
    /// C.
    fn channels(&self) -> usize {
        self.down.cols()
    }
    /// B.
    fn width(&self) -> usize {
        self.down.rows()
    }
    fn check(&self, device: &Device) -> Result<()> {
        let (c, b) = (self.channels(), self.width());
        self.down.expect::<f32>(NAME, device, "down", (b, c))?;
        self.up.expect::<f32>(NAME, device, "up", (c, b))?;
        self.down_bias.map_or(Ok(()), |v| check_buffer::<f32>(NAME, device, "down_bias", v, b))?;
        self.up_bias.map_or(Ok(()), |v| check_buffer::<f32>(NAME, device, "up_bias", v, c))
    }
}

/// So many products between rows of C and of B, `wide` and `narrow` matrices read or written,
/// and the weights.
fn cost([m, c, b]: [usize; 3], products: usize, wide: usize, narrow: usize) -> Cost {
    let [m, c, b, products, wide, narrow] = [m, c, b, products, wide, narrow].map(|n| n as f64);
    Cost {
        flops: 2.0 * products * m * c * b,
        bytes: 4.0 * (m * (wide * c + narrow * b) + products * b * c),
        ..Cost::default()
    }
}
/// `added`: y is added to a matrix.
fn forward_cost(shape: [usize; 3], added: bool) -> Cost {
    cost(shape, 2, if added { 3 } else { 2 }, 1)
}
/// The same of dx, if it is computed.
fn backward_cost(shape: [usize; 3], added: Option<bool>) -> Cost {
    match added {
        None => cost(shape, 1, 1, 2),
        Some(false) => cost(shape, 2, 2, 2),
        Some(true) => cost(shape, 2, 3, 2),
    }
}

/// What is between the products is computed on all of a block at once.
fn dense(v: View<'_>, argument: &'static str, device: &Device, shape: (usize, usize)) -> Result<()> {
    v.expect::<f32>(NAME, device, argument, shape)?;
    if !v.is_dense() {
        let what = format!("the rows of `{argument}` must follow each other without gaps");
        return Err(Error::Invalid { kernel: NAME, what });
    }
    Ok(())
}

/// a (m, B), whose rows follow each other without gaps, and y (m, C) from x (m, C).
pub fn forward(
    device: &Device,
    w: Bottleneck<'_>,
    x: View<'_>,
    base: Base<View<'_>>,
    a: ViewMut<'_>,
    y: ViewMut<'_>,
) -> Result<()> {
    let shape @ [m, c, b] = [x.rows(), w.channels(), w.width()];
    w.check(device)?;
    x.expect::<f32>(NAME, device, "x", (m, c))?;
    dense(a.view(), "a", device, (m, b))?;
    y.view().expect::<f32>(NAME, device, "y", (m, c))?;
    let plus = Plus { bias: w.up_bias, base };
    plus.check(NAME, device, (m, c))?;
    let _span = device.span(NAME, "forward", || forward_cost(shape, plus.has_base()));
    match device {
        Device::Cpu(d) => cpu::forward(device, d, w, x, plus, a, y),
        Device::Cuda(d) => cuda::forward(d, w, x, plus, a, y),
        Device::Null(d) if d.is_gpu() => Ok(()),
        Device::Null(_) => cpu::workspace(device, isa()?, shape, true).map(drop),
    }
}

/// da (m, B) from a (m, B), both without gaps between their rows, and dy (m, C), and dx (m, C) with
/// what it is added to; without it da alone.
pub fn backward(
    device: &Device,
    w: Bottleneck<'_>,
    a: View<'_>,
    dy: View<'_>,
    da: ViewMut<'_>,
    dx: Option<(Plus<'_>, ViewMut<'_>)>,
) -> Result<()> {
    let shape @ [m, c, b] = [dy.rows(), w.channels(), w.width()];
    w.check(device)?;
    dense(a, "a", device, (m, b))?;
    dy.expect::<f32>(NAME, device, "dy", (m, c))?;
    dense(da.view(), "da", device, (m, b))?;
    if let Some((plus, dx)) = &dx {
        plus.check(NAME, device, (m, c))?;
        dx.view().expect::<f32>(NAME, device, "dx", (m, c))?;
    }
    let added = dx.as_ref().map(|(plus, _)| plus.has_base());
    let _span = device.span(NAME, "backward", || backward_cost(shape, added));
    match device {
        Device::Cpu(d) => cpu::backward(device, d, w, a, dy, da, dx),
        Device::Cuda(d) => cuda::backward(d, w, a, dy, da, dx),
        Device::Null(d) if d.is_gpu() => Ok(()),
        Device::Null(_) => cpu::workspace(device, isa()?, shape, false).map(drop),
    }
}

/// Weights as plain numbers: W_d, b_d, W_u, b_u.
pub type Numbers<'a> = (&'a [f64], Option<&'a [f64]>, &'a [f64], Option<&'a [f64]>);

/// Plain loops: a and f(a) W_uᵀ + b_u, for m rows of C channels and a width of B.
pub fn reference(
    f: Activation,
    [m, c, b]: [usize; 3],
    (down, down_bias, up, up_bias): Numbers<'_>,
    x: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let a = matmul::reference(m, c, b, (x, c, 1), (down, 1, c), down_bias);
    let h: Vec<f64> = a.iter().map(|a| activation::value(f, *a)).collect();
    let y = matmul::reference(m, b, c, (&h, b, 1), (up, 1, b), up_bias);
    (a, y)
}
/// Plain loops: da and da W_d.
pub fn reference_backward(
    f: Activation,
    [m, c, b]: [usize; 3],
    (down, up): (&[f64], &[f64]),
    a: &[f64],
    dy: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let mut da = matmul::reference(m, c, b, (dy, c, 1), (up, b, 1), None);
    da.iter_mut().zip(a).for_each(|(d, a)| *d *= activation::derivative(f, *a));
    let dx = matmul::reference(m, b, c, (&da, b, 1), (down, c, 1), None);
    (da, dx)
}
