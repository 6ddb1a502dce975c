//! Pieces of a few cache lines in parallel.
use super::*;
use crate::Cpu;

/// Elements of a piece: long enough to be worth a task.
const PIECE: usize = 16 * 1024;

pub(super) fn add(d: &Cpu, a: &Buffer, b: &Buffer, y: &mut Buffer) -> Result<()> {
    let (a, b) = (a.host::<f32>()?, b.host::<f32>()?);
    d.rows(y.host_mut::<f32>()?, 1, PIECE, |at, y| {
        y.iter_mut().zip(&a[at..]).zip(&b[at..]).for_each(|((y, a), b)| *y = a + b);
    });
    Ok(())
}
pub(super) fn axpy(d: &Cpu, s: f32, x: &Buffer, y: &mut Buffer) -> Result<()> {
    let x = x.host::<f32>()?;
    d.rows(y.host_mut::<f32>()?, 1, PIECE, |at, y| y.iter_mut().zip(&x[at..]).for_each(|(y, x)| *y += s * x));
    Ok(())
}
pub(super) fn scale(d: &Cpu, s: f32, y: &mut Buffer) -> Result<()> {
    d.rows(y.host_mut::<f32>()?, 1, PIECE, |_, y| y.iter_mut().for_each(|y| *y *= s));
    Ok(())
}
pub(super) fn mul_row(d: &Cpu, x: &Buffer, v: &Buffer, cols: usize, y: &mut Buffer) -> Result<()> {
    let (x, v) = (x.host::<f32>()?, v.host::<f32>()?);
    d.rows(y.host_mut::<f32>()?, cols, (PIECE / cols.max(1)).max(1), |row, piece| {
        for (y, x) in piece.chunks_mut(cols).zip(x[row * cols..].chunks(cols)) {
            match v {
                [s] => y.iter_mut().zip(x).for_each(|(y, x)| *y = x * s),
                v => y.iter_mut().zip(x).zip(v).for_each(|((y, x), v)| *y = x * v),
            }
        }
    });
    Ok(())
}
