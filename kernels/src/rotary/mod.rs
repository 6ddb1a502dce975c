//! Rotary positions (Su et al. 2021, arXiv:2104.09864): pairs of channels of each head turned by
//! angles that grow with the row's position, in place.
//!
//! ```text
//! (a, b) ← (a cos - b sin, b cos + a sin)      angle (p, i) = p · frequency_i
//! ```
//! The first `2 · frequencies` channels of a head are turned and the others stay. The backward pass
//! turns the other way.
mod cases;
mod cpu;
mod cuda;
#[cfg(test)]
mod tests;

use crate::{Buffer, Class, Cost, Device, Error, Kernel, Result, ViewMut, check_buffer};

const NAME: &str = "rotary";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: cases::cases };

/// Which channels make a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// i and i + half of what is turned, as in GPT-NeoX and LLaMA.
    Halves,
    /// 2i and 2i + 1, as in GPT-J.
    Neighbours,
}

/// Cosines and sines of every position's angles, (positions, frequencies) each.
#[derive(Debug)]
pub struct Angles {
    cos: Buffer,
    sin: Buffer,
    positions: usize,
    frequencies: usize,
}
impl Angles {
    /// Those of positions 0 to `positions` - 1. As in the reference libraries an angle is a
    /// product in f32, and cosine and sine are multiplied by `scale` (1, but for models whose
    /// context was extended).
    pub fn new(
        device: &Device,
        class: Class,
        frequencies: &[f32],
        positions: usize,
        scale: f32,
    ) -> Result<Angles> {
        let angles = (0..positions).flat_map(|p| frequencies.iter().map(move |f| p as f32 * f));
        Angles::of(device, class, angles, (positions, frequencies.len()), scale)
    }
    /// Those of positions in any order, (positions, frequencies) of them: what a position is
    /// called when [`rotate`] is asked is its number among these.
    pub fn of(
        device: &Device,
        class: Class,
        angles: impl IntoIterator<Item = f32>,
        (positions, frequencies): (usize, usize),
        scale: f32,
    ) -> Result<Angles> {
        let (cos, sin): (Vec<f32>, Vec<f32>) = angles
            .into_iter()
            .map(|a| f64::from(a).sin_cos())
            .map(|(sin, cos)| (cos as f32 * scale, sin as f32 * scale))
            .unzip();
        let (cos, sin) = (device.upload(class, &cos)?, device.upload(class, &sin)?);
        Ok(Angles { cos, sin, positions, frequencies })
    }
    /// Positions.
    pub fn positions(&self) -> usize {
        self.positions
    }
    /// Frequencies: half the channels of a head that are turned.
    pub fn frequencies(&self) -> usize {
        self.frequencies
    }
}

/// How rows are turned.
#[derive(Clone, Copy, Debug)]
pub struct Rotary<'a> {
    /// By what.
    pub angles: &'a Angles,
    /// Which channels together.
    pub pairs: Pairs,
    /// Channels of a head.
    pub head_dim: usize,
    /// The other way: what [`rotate`] did is undone, and gradients are passed back.
    pub back: bool,
}

/// Of n channels that are turned.
fn cost(n: usize) -> Cost {
    Cost::new(3 * n, 8 * n)
}

/// Turns the rows of x (rows, heads · head_dim), each by the angles of its position (rows, u32).
/// Positions beyond the table give an error.
pub fn rotate(device: &Device, r: Rotary<'_>, positions: &Buffer, x: ViewMut<'_>) -> Result<()> {
    let (rows, cols) = (x.view().rows(), x.view().cols());
    x.view().expect::<f32>(NAME, device, "x", (rows, cols))?;
    check_buffer::<u32>(NAME, device, "positions", positions, rows)?;
    let table = r.angles.positions * r.angles.frequencies;
    check_buffer::<f32>(NAME, device, "cos", &r.angles.cos, table)?;
    check_buffer::<f32>(NAME, device, "sin", &r.angles.sin, table)?;
    if r.head_dim == 0 || !cols.is_multiple_of(r.head_dim) {
        let what = format!("`x` has {cols} columns, which are no whole heads of {}", r.head_dim);
        return Err(Error::Invalid { kernel: NAME, what });
    }
    let turned = 2 * r.angles.frequencies;
    if turned > r.head_dim {
        let what = format!("{turned} values of a head are to be rotated, and it has {}", r.head_dim);
        return Err(Error::Invalid { kernel: NAME, what });
    }
    let _span = device.span(NAME, "rotate", || cost(rows * cols / r.head_dim * turned));
    match device {
        Device::Cpu(d) => cpu::rotate(d, r, positions, x),
        Device::Cuda(d) => cuda::rotate(d, r, positions, x),
        Device::Null(_) => Ok(()),
    }
}

/// Plain loops: the rows of x, `heads` of them each, turned by angles (rows, frequencies).
pub fn reference(x: &[f64], heads: usize, pairs: Pairs, angles: &[f64], frequencies: usize) -> Vec<f64> {
    let mut y = x.to_vec();
    if frequencies == 0 {
        return y;
    }
    let rows = angles.len() / frequencies;
    let head_dim = x.len() / (rows * heads).max(1);
    for row in 0..rows {
        for head in 0..heads {
            for i in 0..frequencies {
                let first = (row * heads + head) * head_dim;
                let (a, b) = match pairs {
                    Pairs::Halves => (first + i, first + i + frequencies),
                    Pairs::Neighbours => (first + 2 * i, first + 2 * i + 1),
                };
                let (sin, cos) = angles[row * frequencies + i].sin_cos();
                (y[a], y[b]) = (x[a] * cos - x[b] * sin, x[b] * cos + x[a] * sin);
            }
        }
    }
    y
}
