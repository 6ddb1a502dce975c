//! Rows in parallel; exponentials in single precision, their sums and the loss in double.
use super::*;
use crate::{
    Cpu,
    simd::{F32s, Level, math, parts, simd},
};

/// Values of a task, about.
const PIECE: usize = 16 * 1024;

fn check(labels: &[u32], classes: usize) -> Result<()> {
    match labels.iter().max() {
        Some(l) if *l as usize >= classes => {
            Err(Error::Length { kernel: NAME, argument: "classes", expected: *l as usize + 1, got: classes })
        }
        _ => Ok(()),
    }
}
pub(super) fn forward(
    d: &Cpu,
    z: &Buffer,
    labels: &Buffer,
    classes: usize,
    probs: &mut Buffer,
    loss: &mut Buffer,
) -> Result<()> {
    let (level, z, labels) = (Level::current()?, z.host::<f32>()?, labels.host::<u32>()?);
    check(labels, classes)?;
    let rows = (PIECE / classes.max(1)).max(1);
    let probs = probs.host_mut::<f32>()?[..labels.len() * classes].chunks_mut((rows * classes).max(1));
    let mut losses = vec![0.0; labels.len().div_ceil(rows)];
    parts(d, probs.zip(&mut losses), |i, (probs, loss)| {
        let first = i * rows;
        for (j, p) in probs.chunks_mut(classes).enumerate() {
            let z = &z[(first + j) * classes..][..classes];
            let (top, sum) = softmax(level, z, p);
            *loss += sum.ln() - f64::from(z[labels[first + j] as usize] - top);
        }
    });
    loss.host_mut::<f32>()?[0] = (losses.iter().sum::<f64>() / labels.len() as f64) as f32;
    Ok(())
}
simd! {
    /// p = softmax z; the largest z, and the sum of exp(z - largest).
    fn softmax<S>(s, z: &[f32], p: &mut [f32]) -> (f32, f64) {
        let (l, top) = (S::V::LANES, math::largest(s, z, 1.0));
        for (z, p) in z.chunks(l).zip(p.chunks_mut(l)) {
            math::exp(s.load_part(z) + -top).store_part(p);
        }
        let mut sums = [0f64; 16];
        for p in p.chunks(16) {
            for (sum, p) in sums.iter_mut().zip(p) {
                *sum += f64::from(*p);
            }
        }
        let sum: f64 = sums.iter().sum();
        let by = (1.0 / sum) as f32;
        for p in p {
            *p *= by;
        }
        (top, sum)
    }
}
pub(super) fn backward(
    d: &Cpu,
    dloss: &Buffer,
    probs: &Buffer,
    labels: &Buffer,
    classes: usize,
    dz: &mut Buffer,
) -> Result<()> {
    let (labels, probs) = (labels.host::<u32>()?, probs.host::<f32>()?);
    check(labels, classes)?;
    let s = dloss.host::<f32>()?[0] / labels.len() as f32;
    let dz = &mut dz.host_mut::<f32>()?[..labels.len() * classes];
    d.rows(dz, classes, (PIECE / classes.max(1)).max(1), |first, piece| {
        for (i, dz) in piece.chunks_mut(classes).enumerate() {
            let (p, label) = (&probs[(first + i) * classes..][..classes], labels[first + i] as usize);
            for (dz, p) in dz.iter_mut().zip(p) {
                *dz = p * s;
            }
            dz[label] = (p[label] - 1.0) * s;
        }
    });
    Ok(())
}
