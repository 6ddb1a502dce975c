//! Rounding rows to 8 bits: two sweeps over a row, which the first-level cache holds.
use super::*;
use crate::{
    Cpu,
    simd::{F32s, Level, Simd, parts, simd},
};

/// A row counts as if its largest value were at least this, so that the factor 127 /
/// max is a number.
pub(super) const TINY: f32 = 1e-30;
/// Added to a number within ±127.5, it leaves the nearest integer (of two, the even one) + 128 as
/// the lowest byte.
const ROUND: f32 = 12_582_912.0 + 128.0;
/// Stands for 0.
const ZERO: u8 = 128;
/// Values that a task quantises, about.
const PIECE: usize = 16 * 1024;
/// Vectors compared at once, so that comparisons do not wait for each other.
const WIDE: usize = 4;

/// The vector of x at `i`, times that of `by`.
#[inline(always)]
fn at<S: Simd>(s: S, x: &[f32], by: Option<&[f32]>, i: usize) -> S::V {
    let v = s.load(&x[i..]);
    match by {
        Some(by) => v * s.load(&by[i..]),
        None => v,
    }
}
/// The same at the end of x, zeros behind it.
#[inline(always)]
fn end<S: Simd>(s: S, x: &[f32], by: Option<&[f32]>, i: usize) -> S::V {
    let v = s.load_part(&x[i..]);
    match by {
        Some(by) => v * s.load_part(&by[i..x.len()]),
        None => v,
    }
}

/// Quantises x, or x ∘ `by`, into `q`, which is at least as long; the rest of it is set to what
/// stands for 0. Returns the scale. No multiply is fused with an add, so that every instruction
/// set rounds alike.
#[inline(always)]
pub(crate) fn quantize_row<S: Simd>(s: S, x: &[f32], by: Option<&[f32]>, q: &mut [u8]) -> f32 {
    let l = S::V::LANES;
    let (wide, whole) = (x.len() / (WIDE * l) * (WIDE * l), x.len() / l * l);
    let mut tops = [s.splat(0.0); WIDE];
    for i in (0..wide).step_by(WIDE * l) {
        for (k, top) in tops.iter_mut().enumerate() {
            *top = at(s, x, by, i + k * l).magnitude(*top);
        }
    }
    for i in (wide..whole).step_by(l) {
        tops[0] = at(s, x, by, i).magnitude(tops[0]);
    }
    if whole < x.len() {
        tops[1] = end(s, x, by, whole).magnitude(tops[1]);
    }
    let top = tops[0].magnitude(tops[1]).magnitude(tops[2].magnitude(tops[3])).highest();
    if !top.is_finite() {
        q.fill(ZERO);
        return f32::NAN;
    }
    let top = top.max(TINY);
    let factor = 127.0 / top;
    for i in (0..whole).step_by(l) {
        (at(s, x, by, i) * factor + ROUND).store_bytes(&mut q[i..]);
    }
    if whole < x.len() {
        let mut bytes = [0; 16];
        (end(s, x, by, whole) * factor + ROUND).store_bytes(&mut bytes);
        q[whole..x.len()].copy_from_slice(&bytes[..x.len() - whole]);
    }
    q[x.len()..].fill(ZERO);
    top / 127.0
}

/// A piece of [`QuantizedRows`] that a kernel fills as it produces the rows.
pub(crate) struct QuantizedRowsMut<'a> {
    q: &'a mut [u8],
    stride: usize,
    scales: &'a mut [f32],
}
impl QuantizedRowsMut<'_> {
    /// Quantises `x` as row `i` of the piece.
    #[inline(always)]
    pub(crate) fn write<S: Simd>(&mut self, s: S, i: usize, x: &[f32]) {
        self.scales[i] = quantize_row(s, x, None, &mut self.q[i * self.stride..][..self.stride]);
    }
}
/// The pieces, of `each` rows, of rows that may not be there.
pub(crate) fn pieces<'a>(
    to: Option<&'a mut QuantizedRows>,
    each: usize,
) -> Result<impl Iterator<Item = Option<QuantizedRowsMut<'a>>>> {
    let mut there = match to {
        Some(to) => {
            let stride = stride(to.cols);
            if to.cols == 0 {
                to.scales.host_mut()?.fill(TINY / 127.0); // there are no pieces
            }
            let q = to.q.host_mut::<u8>()?.chunks_mut((each * stride).max(1));
            Some((q.zip(to.scales.host_mut::<f32>()?.chunks_mut(each)), stride))
        }
        None => None,
    };
    Ok(std::iter::from_fn(move || match &mut there {
        Some((pieces, stride)) => {
            pieces.next().map(|(q, scales)| Some(QuantizedRowsMut { q, stride: *stride, scales }))
        }
        None => Some(None),
    }))
}

simd! {
    /// Quantises the rows of a piece, which are `stride` apart in x.
    fn fill<S>(s, x: &[f32], stride: usize, by: Option<&[f32]>, cols: usize, to: QuantizedRowsMut<'_>) {
        for (i, scale) in to.scales.iter_mut().enumerate() {
            *scale = quantize_row(s, &x[i * stride..][..cols], by, &mut to.q[i * to.stride..][..to.stride]);
        }
    }
}
pub(super) fn rows(d: &Cpu, x: View<'_>, by: Option<&Buffer>, to: &mut QuantizedRows) -> Result<()> {
    let (level, cols) = (Level::current()?, to.cols);
    let (x, stride) = (x.host::<f32>()?, x.stride());
    let by = by.map(|b| b.host::<f32>()).transpose()?;
    let each = (PIECE / cols.max(1)).max(1);
    parts(d, pieces(Some(to), each)?.flatten(), |i, to| {
        fill(level, &x[i * each * stride..], stride, by, cols, to);
    });
    Ok(())
}
