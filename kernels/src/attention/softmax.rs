//! The row sweeps of attention: scores to probabilities, and back.
use crate::{
    dropout::Dropout,
    simd::{F32s, Simd, math, simd},
};

/// Dropout on a block of probabilities: its first row, and the column of its first key.
#[derive(Clone, Copy)]
pub(super) struct Drop {
    pub dropout: Dropout,
    pub row: usize,
    pub col: u32,
}
impl Drop {
    /// (key of the i-th row, threshold, scale).
    #[inline(always)]
    fn of(&self, i: usize) -> ([u32; 2], u32, f32) {
        (self.dropout.row_key(self.row + i), self.dropout.threshold(), self.dropout.scale())
    }
}

simd! {
    /// Rows of raw scores, `stride` apart, `n` values each, become probabilities, dropped out; one row for each `lse`.
    pub(super) fn softmax<S>(s, x: &mut [f32], stride: usize, n: usize, scale: f32, drop: Option<Drop>,
        lse: &mut [f32]) {
        for (i, lse) in lse.iter_mut().enumerate() {
            let row = &mut x[i * stride..][..n];
            let top = math::largest(s, row, scale);
            let sum = exponentials(s, row, scale, top);
            *lse = top + sum.ln();
            match drop {
                None => multiply(s, row, 1.0 / sum),
                Some(d) => {
                    let (key, threshold, keep) = d.of(i);
                    multiply_dropped(s, row, key, d.col, threshold, keep / sum);
                }
            }
        }
    }
}

/// x = exp(scale x - top), and the sum.
#[inline(always)]
fn exponentials<S: Simd>(s: S, x: &mut [f32], scale: f32, top: f32) -> f32 {
    let l = S::V::LANES;
    let (scale, low) = (s.splat(scale), s.splat(-top));
    let mut sum = s.splat(0.0);
    let mut whole = x.chunks_exact_mut(l);
    for x in &mut whole {
        let e = math::exp(s.load(x).fma(scale, low));
        e.store(x);
        sum = sum + e;
    }
    let end = whole.into_remainder();
    if !end.is_empty() {
        math::exp(s.load_part(end).fma(scale, low)).store_part(end);
        sum = sum + s.load_part(end);
    }
    sum.sum()
}
#[inline(always)]
fn multiply<S: Simd>(s: S, x: &mut [f32], by: f32) {
    let by = s.splat(by);
    let mut whole = x.chunks_exact_mut(S::V::LANES);
    for x in &mut whole {
        (s.load(x) * by).store(x);
    }
    let end = whole.into_remainder();
    (s.load_part(end) * by).store_part(end);
}
#[inline(always)]
fn multiply_dropped<S: Simd>(s: S, x: &mut [f32], key: [u32; 2], col: u32, threshold: u32, by: f32) {
    for (j, x) in x.chunks_mut(S::V::LANES).enumerate() {
        let f = s.factors(key, col.wrapping_add((j * S::V::LANES) as u32), threshold, by);
        (s.load_part(x) * f).store_part(x);
    }
}

simd! {
    /// Rows of raw scores and of dO Vᵀ, `stride` apart, `n` values each. The scores become probabilities, dropped out;
    /// dO Vᵀ becomes the gradient of the raw scores: scale · P ∘ (dP - rowsum(P ∘ dP)).
    pub(super) fn softmax_backward<S>(s, x: &mut [f32], d: &mut [f32], stride: usize, n: usize, scale: f32,
        drop: Option<Drop>, lse: &[f32]) {
        let l = S::V::LANES;
        for (i, lse) in lse.iter().enumerate() {
            let drop = drop.map(|d| (d.of(i), d.col));
            let (x, x_end) = x[i * stride..][..n].split_at_mut(n / l * l);
            let (d, d_end) = d[i * stride..][..n].split_at_mut(n / l * l);
            let mut sum = s.splat(0.0);
            for (j, (x, d)) in x.chunks_exact_mut(l).zip(d.chunks_exact_mut(l)).enumerate() {
                sum = recompute(s, x, d, (scale, *lse), drop, j * l, sum);
            }
            sum = recompute(s, x_end, d_end, (scale, *lse), drop, n / l * l, sum);
            let sum = sum.sum();
            for (j, (x, d)) in x.chunks_exact_mut(l).zip(d.chunks_exact_mut(l)).enumerate() {
                gradients(s, x, d, (scale, sum), drop, j * l);
            }
            gradients(s, x_end, d_end, (scale, sum), drop, n / l * l);
        }
    }
}
/// The numbers of dropout for one row (see [`Drop::of`]), and the column of its first key.
type RowDrop = Option<(([u32; 2], u32, f32), u32)>;

/// At most a vector of x = P = exp(scale x - lse) and of d = dP, and the sum of their products.
#[inline(always)]
fn recompute<S: Simd>(
    s: S,
    x: &mut [f32],
    d: &mut [f32],
    (scale, lse): (f32, f32),
    drop: RowDrop,
    at: usize,
    sum: S::V,
) -> S::V {
    math::exp(s.load_part(x).fma(s.splat(scale), s.splat(-lse))).store_part(x);
    if let Some(((key, threshold, keep), col)) = drop {
        let f = s.factors(key, col.wrapping_add(at as u32), threshold, keep);
        (s.load_part(d) * f).store_part(d);
    }
    // loaded again, so that lanes beyond the row are zeros
    s.load_part(x).fma(s.load_part(d), sum)
}
/// At most a vector of d = scale · P ∘ (dP - sum), and of x = P dropped out.
#[inline(always)]
fn gradients<S: Simd>(
    s: S,
    x: &mut [f32],
    d: &mut [f32],
    (scale, sum): (f32, f32),
    drop: RowDrop,
    at: usize,
) {
    let p = s.load_part(x);
    (p * (s.load_part(d) - s.splat(sum)) * s.splat(scale)).store_part(d);
    if let Some(((key, threshold, keep), col)) = drop {
        (p * s.factors(key, col.wrapping_add(at as u32), threshold, keep)).store_part(x);
    }
}
