//! A bottleneck of width B on rows of C channels (Houlsby et al. 2019).
//!
//! ```text
//! forward    a (m, B) = x (m, C) W_dᵀ + b_d       y (m, C) = f(a) W_uᵀ + b_u [+ ..]
//! backward   da (m, B) = dy (m, C) W_u ∘ f'(a)    dx (m, C) = da W_d [+ ..]
//! ```
//! W_d is (B, C) and W_u (C, B), both f32. Either direction is two narrow products with something element by element in
//! between. They are computed block by block of rows: what one writes is in the cache when the next one reads it.
mod cases;
mod cpu;
#[cfg(test)]
mod tests;

use crate::{
    Buffer, Cost, Device, Error, Kernel, Result,
    activation::{self, Activation},
    isa,
    matmul::{self, Onto, Plus, area},
    need,
};

const NAME: &str = "bottleneck";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: cases::cases };
const REFUSED: Error = Error::Unsupported { kernel: NAME, device: "cuda" };

/// Sizes, weights and the non-linearity of a launch.
#[derive(Clone, Copy, Debug)]
pub struct Bottleneck<'a> {
    /// m.
    pub rows: usize,
    /// C.
    pub channels: usize,
    /// B.
    pub width: usize,
    /// W_d (B, C).
    pub down: &'a Buffer,
    /// b_d (B).
    pub down_bias: Option<&'a Buffer>,
    /// W_u (C, B).
    pub up: &'a Buffer,
    /// b_u (C).
    pub up_bias: Option<&'a Buffer>,
    /// f.
    pub f: Activation,
}

impl Bottleneck<'_> {
    fn check(&self, device: &Device) -> Result<()> {
        let all = area(NAME, "down", self.channels, self.width)?;
        need::<f32>(NAME, device, "down", self.down, all)?;
        need::<f32>(NAME, device, "up", self.up, all)?;
        self.down_bias.map_or(Ok(()), |b| need::<f32>(NAME, device, "down_bias", b, self.width))?;
        self.up_bias.map_or(Ok(()), |b| need::<f32>(NAME, device, "up_bias", b, self.channels))
    }
    /// Elements of a matrix of m rows of C, and of B.
    fn areas(&self) -> Result<(usize, usize)> {
        Ok((area(NAME, "x", self.rows, self.channels)?, area(NAME, "a", self.rows, self.width)?))
    }
}

/// So many products between rows of C and of B, `wide` and `narrow` matrices read or written, and the weights.
fn cost([m, c, b]: [usize; 3], products: usize, wide: usize, narrow: usize) -> Cost {
    let [m, c, b, products, wide, narrow] = [m, c, b, products, wide, narrow].map(|n| n as f64);
    Cost {
        flops: 2.0 * products * m * c * b,
        bytes: 4.0 * (m * (wide * c + narrow * b) + products * b * c),
        ..Cost::default()
    }
}
fn forward_cost(shape: [usize; 3], onto: Onto<'_>) -> Cost {
    cost(shape, 2, if matches!(onto, Onto::Nothing) { 2 } else { 3 }, 1)
}
fn backward_cost(shape: [usize; 3], onto: Option<Onto<'_>>) -> Cost {
    match onto {
        None => cost(shape, 1, 1, 2),
        Some(Onto::Nothing) => cost(shape, 2, 2, 2),
        Some(_) => cost(shape, 2, 3, 2),
    }
}

/// a (m, B) and y (m, C) from x (m, C).
pub fn forward(
    device: &Device,
    w: Bottleneck<'_>,
    x: &Buffer,
    onto: Onto<'_>,
    a: &mut Buffer,
    y: &mut Buffer,
) -> Result<()> {
    w.check(device)?;
    let (wide, narrow) = w.areas()?;
    need::<f32>(NAME, device, "x", x, wide)?;
    need::<f32>(NAME, device, "a", a, narrow)?;
    need::<f32>(NAME, device, "y", y, wide)?;
    let plus = Plus { bias: w.up_bias, onto };
    plus.check(NAME, device, w.rows, w.channels)?;
    let shape = [w.rows, w.channels, w.width];
    let _span = device.span(NAME, "forward", || forward_cost(shape, onto));
    match device {
        Device::Cpu(d) => cpu::forward(device, d, w, x, plus, a, y),
        Device::Cuda(_) => Err(REFUSED),
        Device::Null(_) => cpu::workspace(device, isa()?, shape, true).map(drop),
    }
}

/// da (m, B) from a (m, B) and dy (m, C), and dx (m, C) with what it is added to; without it da alone.
pub fn backward(
    device: &Device,
    w: Bottleneck<'_>,
    a: &Buffer,
    dy: &Buffer,
    da: &mut Buffer,
    dx: Option<(Plus<'_>, &mut Buffer)>,
) -> Result<()> {
    w.check(device)?;
    let (wide, narrow) = w.areas()?;
    need::<f32>(NAME, device, "a", a, narrow)?;
    need::<f32>(NAME, device, "dy", dy, wide)?;
    need::<f32>(NAME, device, "da", da, narrow)?;
    if let Some((plus, dx)) = &dx {
        plus.check(NAME, device, w.rows, w.channels)?;
        need::<f32>(NAME, device, "dx", dx, wide)?;
    }
    let shape = [w.rows, w.channels, w.width];
    let _span =
        device.span(NAME, "backward", || backward_cost(shape, dx.as_ref().map(|(plus, _)| plus.onto)));
    match device {
        Device::Cpu(d) => cpu::backward(device, d, w, a, dy, da, dx),
        Device::Cuda(_) => Err(REFUSED),
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
