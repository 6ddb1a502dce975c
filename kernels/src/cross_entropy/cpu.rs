//! Rows in parallel; exponentials in single precision, their sums and the loss in double.
use super::*;
use crate::{
    Cpu, Error,
    lines::{Cut, Lines, PIECE, each_line},
    simd::{F32s, Level, math, parts, simd},
};

fn check(labels: &[u32], classes: usize) -> Result<()> {
    match labels.iter().filter(|l| **l != IGNORED).max() {
        Some(l) if *l as usize >= classes => {
            Err(Error::Range { kernel: NAME, what: "class", got: *l as usize, below: classes })
        }
        _ => Ok(()),
    }
}
pub(super) fn forward(
    d: &Cpu,
    z: View<'_>,
    labels: &Buffer,
    probs: ViewMut<'_>,
    loss: &mut Buffer,
) -> Result<()> {
    let (level, labels, classes) = (Level::current()?, labels.host::<u32>()?, z.cols());
    check(labels, classes)?;
    let z = Lines::<f32>::of(z, Cut::Rows)?;
    let (rows, stride) = ((PIECE / classes.max(1)).max(1), probs.view().stride().max(1));
    let probs = probs.host::<f32>()?.chunks_mut(rows * stride);
    let mut losses = vec![0.0; labels.len().div_ceil(rows)];
    parts(d, probs.zip(&mut losses), |i, (probs, loss)| {
        for (p, row) in probs.chunks_mut(stride).zip(i * rows..) {
            let (p, label) = (&mut p[..classes], labels[row]);
            if label == IGNORED {
                p.fill(0.0);
                continue;
            }
            let (top, sum) = softmax(level, z.at(row), p);
            *loss += sum.ln() - f64::from(z.at(row)[label as usize] - top);
        }
    });
    loss.host_mut::<f32>()?[0] = losses.iter().sum::<f64>() as f32;
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
    probs: View<'_>,
    labels: &Buffer,
    dz: ViewMut<'_>,
) -> Result<()> {
    let (labels, s) = (labels.host::<u32>()?, dloss.host::<f32>()?[0]);
    check(labels, probs.cols())?;
    let probs = Lines::<f32>::of(probs, Cut::Rows)?;
    each_line(d, dz, Cut::Rows, |i, dz: &mut [f32]| {
        let p = probs.at(i);
        for (dz, p) in dz.iter_mut().zip(p) {
            *dz = p * s;
        }
        if labels[i] != IGNORED {
            let label = labels[i] as usize;
            dz[label] = (p[label] - 1.0) * s;
        }
    })
}
