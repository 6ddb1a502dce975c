//! A few numbers per example: plain loops, sums in double precision.
use super::*;
use crate::Cpu;

pub(super) fn forward(
    _d: &Cpu,
    z: &Buffer,
    labels: &Buffer,
    classes: usize,
    probs: &mut Buffer,
    loss: &mut Buffer,
) -> Result<()> {
    let (z, labels, probs) = (z.host::<f32>()?, labels.host::<u32>()?, probs.host_mut::<f32>()?);
    let mut total = 0f64;
    for (i, label) in labels.iter().enumerate() {
        let (row, label) = (&z[i * classes..][..classes], *label as usize);
        if label >= classes {
            return Err(Error::Length {
                kernel: NAME,
                argument: "classes",
                expected: label + 1,
                got: classes,
            });
        }
        let top = row.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
        let sum: f64 = row.iter().map(|x| f64::from(x - top).exp()).sum();
        total += sum.ln() - f64::from(row[label] - top);
        for (p, x) in probs[i * classes..].iter_mut().zip(row) {
            *p = (f64::from(x - top).exp() / sum) as f32;
        }
    }
    loss.host_mut::<f32>()?[0] = (total / labels.len() as f64) as f32;
    Ok(())
}
pub(super) fn backward(
    _d: &Cpu,
    dloss: &Buffer,
    probs: &Buffer,
    labels: &Buffer,
    classes: usize,
    dz: &mut Buffer,
) -> Result<()> {
    let (labels, probs, dz) = (labels.host::<u32>()?, probs.host::<f32>()?, dz.host_mut::<f32>()?);
    let s = dloss.host::<f32>()?[0] / labels.len() as f32;
    for (i, label) in labels.iter().enumerate() {
        for j in 0..classes {
            let hit = if j == *label as usize { 1.0 } else { 0.0 };
            dz[i * classes + j] = (probs[i * classes + j] - hit) * s;
        }
    }
    Ok(())
}
