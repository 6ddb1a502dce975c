//! Dropout without a stored mask (Srivastava et al. 2014): whether an element is kept is a
//! hash of its place.
//!
//! ```text
//! y[row, col] = x[row, col] · factor(row, col)      factor = 0 with probability p, else 1 / (1 - p)
//! ```
//! The backward pass is the same function of dy. A key names the pass and the site, so replaying a
//! layer needs nothing.
mod cases;
mod cpu;
mod cuda;
#[cfg(test)]
mod tests;

use crate::{Cost, Device, Kernel, Result, ViewMut, simd::Simd};
pub(crate) use cuda::argument;
use num_traits::Float;

const NAME: &str = "dropout";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: cases::cases };

/// One use of dropout: how much, and which random numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    p: f32,
    key: [u32; 2],
}

impl Dropout {
    /// Drops with probability `p` in [0, 1); the run's `seed`, the number of the pass and the place
    /// in the model choose the numbers.
    pub fn new(p: f32, seed: u64, pass: u64, place: u64) -> Dropout {
        debug_assert!((0.0..1.0).contains(&p), "checked where configurations are read");
        let k = mix(mix(mix(seed ^ 0x656e_6772_6166_7421) ^ pass) ^ place);
        Dropout { p, key: [k as u32, (k >> 32) as u32] }
    }
    /// Drops nothing.
    pub(crate) fn none() -> Dropout {
        Dropout::new(0.0, 0, 0, 0)
    }
    /// The probability of dropping an element.
    pub fn p(&self) -> f32 {
        self.p
    }
    /// 0 or 1 / (1 - p).
    pub fn factor(&self, row: usize, col: usize) -> f32 {
        if hash(self.row_key(row), col as u32) < self.threshold() { 0.0 } else { self.scale() }
    }
    /// What kept elements are multiplied by.
    pub(crate) fn scale(&self) -> f32 {
        1.0 / (1.0 - self.p)
    }
    /// Hashes below this are dropped.
    pub(crate) fn threshold(&self) -> u32 {
        (f64::from(self.p) * 4_294_967_296.0) as u32
    }
    /// The two words that, with a column, decide an element of this row.
    pub(crate) fn row_key(&self, row: usize) -> [u32; 2] {
        let r = mix((u64::from(self.key[1]) << 32 | u64::from(self.key[0]))
            ^ (row as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        [r as u32, (r >> 32) as u32]
    }
}
/// The factors of one row, as vectors take them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Row {
    key: [u32; 2],
    /// The column that counts as the first.
    first: u32,
    threshold: u32,
    scale: f32,
}
impl Dropout {
    /// Those of row `row`.
    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> Row {
        Row { key: self.row_key(row), first: 0, threshold: self.threshold(), scale: self.scale() }
    }
}
impl Row {
    /// The same, with columns counted from `first` on.
    #[inline(always)]
    pub(crate) fn from(self, first: u32) -> Row {
        Row { first, ..self }
    }
    /// The same, from a later column on.
    #[inline(always)]
    pub(crate) fn after(self, cols: usize) -> Row {
        Row { first: self.first.wrapping_add(cols as u32), ..self }
    }
    /// Those of the columns from `col` on.
    #[inline(always)]
    pub(crate) fn at<S: Simd>(self, s: S, col: usize) -> S::V {
        s.factors(self.key, self.first.wrapping_add(col as u32), self.threshold, self.scale)
    }
    /// The same, but what is dropped has the factor with its sign turned instead of 0.
    #[inline(always)]
    pub(crate) fn signed<S: Simd>(self, s: S, col: usize) -> S::V {
        // 2 scale or 0, less scale
        Row { scale: 2.0 * self.scale, ..self }.at(s, col) + -self.scale
    }
}
/// Finaliser of SplitMix64 (Steele, Lea & Flood 2014): every input bit reaches every output bit.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
/// The PCG RXS-M-XS hash (Jarzynski & Olano 2020) of a column under a row's key.
pub(crate) fn hash(key: [u32; 2], col: u32) -> u32 {
    let s = (col.wrapping_mul(0x9e37_79b9) ^ key[0])
        .wrapping_add(key[1])
        .wrapping_mul(747_796_405)
        .wrapping_add(2_891_336_453);
    let w = ((s >> ((s >> 28) + 4)) ^ s).wrapping_mul(277_803_737);
    (w >> 22) ^ w
}

/// Of n elements.
fn cost(n: usize) -> Cost {
    Cost::new(n, 8 * n)
}

/// y *= factor, y (rows, cols).
pub fn apply(device: &Device, d: Dropout, y: ViewMut<'_>) -> Result<()> {
    let (rows, cols) = (y.view().rows(), y.view().cols());
    y.view().expect::<f32>(NAME, device, "y", (rows, cols))?;
    let _span = device.span(NAME, "apply", || cost(rows * cols));
    match device {
        Device::Cpu(c) => cpu::apply(c, d, y),
        Device::Cuda(c) => cuda::apply(c, d, y),
        Device::Null(_) => Ok(()),
    }
}

/// Plain loops.
pub fn reference<T: Float>(d: Dropout, cols: usize, y: &[T]) -> Vec<T> {
    let factor = |i: usize| T::from(d.factor(i / cols, i % cols)).unwrap_or_else(T::nan);
    y.iter().enumerate().map(|(i, y)| *y * factor(i)).collect()
}
