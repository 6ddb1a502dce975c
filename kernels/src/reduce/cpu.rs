//! For now: plain loops.
use super::*;
use crate::Cpu;

pub(super) fn column_sums(
    _d: &Cpu,
    x: &Buffer,
    rows: usize,
    cols: usize,
    y: &mut Buffer,
    accumulate: bool,
) -> Result<()> {
    let (x, y) = (x.host::<f32>()?, &mut y.host_mut::<f32>()?[..cols]);
    if !accumulate {
        y.fill(0.0);
    }
    for row in x[..rows * cols].chunks(cols.max(1)) {
        y.iter_mut().zip(row).for_each(|(y, x)| *y += x);
    }
    Ok(())
}
pub(super) fn column_dots(
    _d: &Cpu,
    a: &Buffer,
    b: &Buffer,
    rows: usize,
    cols: usize,
    y: &mut Buffer,
    accumulate: bool,
) -> Result<()> {
    let (a, b, y) = (a.host::<f32>()?, b.host::<f32>()?, &mut y.host_mut::<f32>()?[..cols]);
    if !accumulate {
        y.fill(0.0);
    }
    for (a, b) in a[..rows * cols].chunks(cols.max(1)).zip(b.chunks(cols.max(1))) {
        y.iter_mut().zip(a).zip(b).for_each(|((y, a), b)| *y += a * b);
    }
    Ok(())
}
pub(super) fn dot(_d: &Cpu, a: &Buffer, b: &Buffer) -> Result<f64> {
    Ok(a.host::<f32>()?.iter().zip(b.host::<f32>()?).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum())
}
