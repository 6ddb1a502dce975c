//! Rows in parallel, in double precision.
use super::*;
use crate::{
    Cpu,
    lines::{Cut, Lines, PIECE, each_line},
    simd::parts,
};

pub(super) fn forward(
    d: &Cpu,
    [z, q]: [View<'_>; 2],
    s: f32,
    p: ViewMut<'_>,
    loss: &mut Buffer,
) -> Result<()> {
    let (all, classes, stride) = (z.rows(), z.cols(), p.view().stride().max(1));
    let (z, q) = (Lines::<f32>::of(z, Cut::Rows)?, Lines::<f32>::of(q, Cut::Rows)?);
    let rows = (PIECE / classes.max(1)).max(1);
    let mut losses = vec![0.0; all.div_ceil(rows)];
    let p = p.host::<f32>()?.chunks_mut(rows * stride);
    parts(d, p.zip(&mut losses), |i, (p, loss)| {
        for (p, row) in p.chunks_mut(stride).zip(i * rows..) {
            *loss += one(z.at(row), q.at(row), f64::from(s), &mut p[..classes]);
        }
    });
    loss.host_mut::<f32>()?[0] = losses.iter().sum::<f64>() as f32;
    Ok(())
}
/// What a row adds; and its p.
fn one(z: &[f32], q: &[f32], s: f64, p: &mut [f32]) -> f64 {
    if q.iter().all(|q| *q == 0.0) {
        p.fill(0.0);
        return 0.0;
    }
    let z = || z.iter().map(|z| s * f64::from(*z));
    let top = z().fold(f64::NEG_INFINITY, f64::max);
    let all = top + z().map(|z| (z - top).exp()).sum::<f64>().ln();
    p.iter_mut().zip(z()).for_each(|(p, z)| *p = (z - all).exp() as f32);
    let term = |(q, z): (&f32, f64)| {
        let q = f64::from(*q);
        if q > 0.0 { q * (q.ln() - (z - all)) } else { 0.0 }
    };
    q.iter().zip(z()).map(term).sum()
}
pub(super) fn backward(
    d: &Cpu,
    dloss: &Buffer,
    [p, q]: [View<'_>; 2],
    s: f32,
    dz: ViewMut<'_>,
) -> Result<()> {
    let by = f64::from(s) * f64::from(dloss.host::<f32>()?[0]);
    let (p, q) = (Lines::<f32>::of(p, Cut::Rows)?, Lines::<f32>::of(q, Cut::Rows)?);
    each_line(d, dz, Cut::Rows, |i, dz: &mut [f32]| {
        let (p, q) = (p.at(i), q.at(i));
        let all: f64 = q.iter().map(|q| f64::from(*q)).sum();
        for (dz, (p, q)) in dz.iter_mut().zip(p.iter().zip(q)) {
            *dz = ((f64::from(*p) * all - f64::from(*q)) * by) as f32;
        }
    })
}
