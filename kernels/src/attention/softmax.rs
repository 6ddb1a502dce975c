//! The row sweeps of attention: scores to exponentials, and back. Rows of scores are whole vectors long; what lies behind
//! their values becomes zeros.
use crate::{
    dropout::{Dropout, Row},
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
    /// The factors of the i-th row.
    #[inline(always)]
    fn of(&self, i: usize) -> Row {
        self.dropout.row(self.row + i).from(self.col)
    }
}

simd! {
    /// Rows of raw scores x, `stride` apart, `n` values each, become exp(scale x - top), top the largest of them, dropped
    /// out; `tops` and `sums`, one number for each row: top, and the sum before dropout.
    pub(super) fn softmax<S>(s, x: &mut [f32], stride: usize, n: usize, scale: f32, drop: Option<Drop>,
        tops: &mut [f32], sums: &mut [f32]) {
        for (i, (top, sum)) in tops.iter_mut().zip(sums).enumerate() {
            let row = &mut x[i * stride..][..n.next_multiple_of(S::V::LANES)];
            *top = math::largest(s, &row[..n], scale);
            *sum = match drop {
                None => exponentials(s, row, n, scale, *top, None),
                Some(d) => exponentials(s, row, n, scale, *top, Some(d.of(i))),
            };
        }
    }
}

/// x = exp(scale x - top), dropped out, and the sum before that.
#[inline(always)]
fn exponentials<S: Simd>(s: S, x: &mut [f32], n: usize, scale: f32, top: f32, drop: Option<Row>) -> f32 {
    let l = S::V::LANES;
    let (scale, low) = (s.splat(scale), s.splat(-top));
    let (whole, end) = x.split_at_mut(n / l * l);
    let mut sum = s.splat(0.0);
    for (j, x) in whole.chunks_exact_mut(l).enumerate() {
        let e = math::exp(s.load(x).fma(scale, low));
        sum = sum + e;
        match drop {
            None => e.store(x),
            Some(f) => (e * f.at(s, j * l)).store(x),
        }
    }
    if !end.is_empty() {
        let e = math::exp(s.load(end).fma(scale, low)).first(n % l);
        sum = sum + e;
        match drop {
            None => e.store(end),
            Some(f) => (e * f.at(s, n / l * l)).store(end),
        }
    }
    sum.sum()
}

simd! {
    /// Rows of raw scores x and of d = dO Vᵀ, `stride` apart, `n` values each. The scores become probabilities
    /// P = exp(scale x - lse), dropped out; d becomes the gradient of the raw scores:
    /// scale · P ∘ (dP - rowsum(P ∘ dP)), dP = d dropped out.
    pub(super) fn softmax_backward<S>(s, x: &mut [f32], d: &mut [f32], stride: usize, n: usize, scale: f32,
        drop: Option<Drop>, lse: &[f32]) {
        let (l, zero) = (S::V::LANES, s.splat(0.0));
        let width = n.next_multiple_of(l);
        for (i, lse) in lse.iter().enumerate() {
            let (x, d) = (&mut x[i * stride..][..width], &mut d[i * stride..][..width]);
            match drop {
                None => {
                    let low = s.splat(-scale * probabilities(s, x, d, n, (scale, *lse), None));
                    for (x, d) in x.chunks_exact_mut(l).zip(d.chunks_exact_mut(l)) {
                        (s.load(x) * s.load(d).fma(s.splat(scale), low)).store(d);
                    }
                }
                Some(drop) => {
                    let sum = probabilities(s, x, d, n, (scale, *lse), Some(drop.of(i)));
                    let low = s.splat(-scale * sum * (1.0 - drop.dropout.p()));
                    for (x, d) in x.chunks_exact_mut(l).zip(d.chunks_exact_mut(l)) {
                        let signed = s.load(x);
                        let p = zero.max(signed);
                        p.fma(s.load(d) * scale, signed.abs() * low).store(d);
                        p.store(x);
                    }
                }
            }
        }
    }
}
/// x becomes P = exp(scale x - lse); with dropout P / (1 - p), its sign that of what is dropped. Returns the sum of the
/// products of P, dropped out, and d.
#[inline(always)]
fn probabilities<S: Simd>(
    s: S,
    x: &mut [f32],
    d: &[f32],
    n: usize,
    (scale, lse): (f32, f32),
    drop: Option<Row>,
) -> f32 {
    let l = S::V::LANES;
    let (scale, low) = (s.splat(scale), s.splat(-lse));
    let mut sum = s.splat(0.0);
    for (j, (x, d)) in x.chunks_exact_mut(l).zip(d.chunks_exact(l)).enumerate() {
        let mut p = math::exp(s.load(x).fma(scale, low));
        if n - j * l < l {
            p = p.first(n - j * l);
        }
        if let Some(f) = drop {
            p = p * f.signed(s, j * l);
        }
        p.store(x);
        let dropped = if drop.is_some() { s.splat(0.0).max(p) } else { p };
        sum = dropped.fma(s.load(d), sum);
    }
    sum.sum()
}
