//! Pieces in parallel; memory is what these wait for.
use super::*;
use crate::{
    Cpu,
    simd::{Level, simd},
};

/// Elements of a piece: long enough to be worth a task.
const PIECE: usize = 16 * 1024;

pub(super) fn add(d: &Cpu, a: &Buffer, b: &Buffer, y: &mut Buffer) -> Result<()> {
    let (level, a, b) = (Level::current()?, a.host::<f32>()?, b.host::<f32>()?);
    d.rows(y.host_mut::<f32>()?, 1, PIECE, |at, y| sum(level, &a[at..], &b[at..], y));
    Ok(())
}
pub(super) fn axpy(d: &Cpu, s: f32, x: &Buffer, y: &mut Buffer) -> Result<()> {
    let (level, x) = (Level::current()?, x.host::<f32>()?);
    d.rows(y.host_mut::<f32>()?, 1, PIECE, |at, y| add_multiple(level, s, &x[at..], y));
    Ok(())
}
pub(super) fn scale(d: &Cpu, s: f32, y: &mut Buffer) -> Result<()> {
    let level = Level::current()?;
    d.rows(y.host_mut::<f32>()?, 1, PIECE, |_, y| multiply(level, s, y));
    Ok(())
}
pub(super) fn mul_row(d: &Cpu, x: &Buffer, v: &Buffer, cols: usize, y: &mut Buffer) -> Result<()> {
    let (level, x, v) = (Level::current()?, x.host::<f32>()?, v.host::<f32>()?);
    if let [v] = v {
        d.rows(y.host_mut::<f32>()?, 1, PIECE, |at, y| multiple(level, *v, &x[at..], y));
        return Ok(());
    }
    d.rows(y.host_mut::<f32>()?, cols, (PIECE / cols.max(1)).max(1), |row, piece| {
        for (y, x) in piece.chunks_mut(cols).zip(x[row * cols..].chunks(cols)) {
            products(level, x, v, y);
        }
    });
    Ok(())
}

// plain loops, which the compiler turns into the level's vectors
simd! {
    fn sum<S>(_s, a: &[f32], b: &[f32], y: &mut [f32]) {
        for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
            *y = a + b;
        }
    }
}
simd! {
    fn add_multiple<S>(_s, by: f32, x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y += by * x;
        }
    }
}
simd! {
    fn multiply<S>(_s, by: f32, y: &mut [f32]) {
        for y in y {
            *y *= by;
        }
    }
}
simd! {
    fn multiple<S>(_s, by: f32, x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = x * by;
        }
    }
}
simd! {
    fn products<S>(_s, x: &[f32], v: &[f32], y: &mut [f32]) {
        for ((y, x), v) in y.iter_mut().zip(x).zip(v) {
            *y = x * v;
        }
    }
}
