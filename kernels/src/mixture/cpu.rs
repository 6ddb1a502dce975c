//! Rows in parallel. Sums run over lanes, which are added up at the end, in an order that depends
//! on widths alone.
use super::*;
use crate::{
    Cpu,
    lines::{Cut, Lines, each_line},
    simd::{Level, simd},
};

pub(super) fn dots(d: &Cpu, [a, b]: [View<'_>; 2], widths: &[usize], s: ViewMut<'_>) -> Result<()> {
    let level = Level::current()?;
    let (a, b) = (Lines::of(a, Cut::Rows)?, Lines::of(b, Cut::Rows)?);
    each_line(d, s, Cut::Rows, |i, s: &mut [f32]| row_dots(level, a.at(i), b.at(i), widths, s))
}
pub(super) fn spread(d: &Cpu, x: View<'_>, p: View<'_>, widths: &[usize], y: ViewMut<'_>) -> Result<()> {
    let level = Level::current()?;
    let (x, p) = (Lines::of(x, Cut::Rows)?, Lines::of(p, Cut::Rows)?);
    each_line(d, y, Cut::Rows, |i, y: &mut [f32]| row_spread(level, x.at(i), p.at(i), widths, y))
}
pub(super) fn softmax(d: &Cpu, s: View<'_>, stride: usize, p: ViewMut<'_>) -> Result<()> {
    let s = Lines::of(s, Cut::Rows)?;
    each_line(d, p, Cut::Rows, |i, p: &mut [f32]| {
        let s: &[f32] = s.at(i);
        for first in 0..stride.min(s.len()) {
            let of = || (first..s.len()).step_by(stride);
            let top = of().fold(f32::NEG_INFINITY, |m, k| m.max(s[k]));
            let mut sum = 0f64;
            for k in of() {
                let e = f64::from(s[k] - top).exp();
                p[k] = e as f32;
                sum += e;
            }
            of().for_each(|k| p[k] = (f64::from(p[k]) / sum) as f32);
        }
    })
}
pub(super) fn softmax_backward(
    d: &Cpu,
    [dp, p]: [View<'_>; 2],
    stride: usize,
    ds: ViewMut<'_>,
) -> Result<()> {
    let (dp, p) = (Lines::of(dp, Cut::Rows)?, Lines::of(p, Cut::Rows)?);
    each_line(d, ds, Cut::Rows, |i, ds: &mut [f32]| {
        let (dp, p): (&[f32], &[f32]) = (dp.at(i), p.at(i));
        for first in 0..stride.min(p.len()) {
            let of = || (first..p.len()).step_by(stride);
            let sum: f64 = of().map(|k| f64::from(p[k]) * f64::from(dp[k])).sum();
            of().for_each(|k| ds[k] = (f64::from(p[k]) * (f64::from(dp[k]) - sum)) as f32);
        }
    })
}

/// Partial sums of a dot product.
const LANES: usize = 32;

// plain loops, which the compiler turns into the level's vectors
simd! {
    fn row_dots<S>(_s, a: &[f32], b: &[f32], widths: &[usize], s: &mut [f32]) {
        for (g, s) in groups(widths).zip(s) {
            let (a, b) = (&a[g.clone()], &b[g]);
            let mut lanes = [0f32; LANES];
            let (a_whole, a_rest) = a.as_chunks::<LANES>();
            let (b_whole, b_rest) = b.as_chunks::<LANES>();
            for (a, b) in a_whole.iter().zip(b_whole) {
                for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
                    *lane += a * b;
                }
            }
            for ((lane, a), b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
                *lane += a * b;
            }
            *s = lanes.iter().map(|x| f64::from(*x)).sum::<f64>() as f32;
        }
    }
}
simd! {
    fn row_spread<S>(_s, x: &[f32], p: &[f32], widths: &[usize], y: &mut [f32]) {
        for (g, p) in groups(widths).zip(p) {
            for (y, x) in y[g.clone()].iter_mut().zip(&x[g]) {
                *y = x * p;
            }
        }
    }
}
