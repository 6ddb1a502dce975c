//! Lines in parallel; memory is what these wait for.
use super::*;
use crate::{
    Cpu,
    lines::{Cut, Lines, each_line},
    simd::{Level, simd},
};

pub(super) fn copy(d: &Cpu, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
    let cut = Cut::of([x.is_dense(), y.view().is_dense()]);
    let x = Lines::<f32>::of(x, cut)?;
    each_line(d, y, cut, |i, y| y.copy_from_slice(x.at(i)))
}
pub(super) fn add(d: &Cpu, a: View<'_>, b: View<'_>, y: ViewMut<'_>) -> Result<()> {
    let (level, cut) = (Level::current()?, Cut::of([a.is_dense(), b.is_dense(), y.view().is_dense()]));
    let (a, b) = (Lines::of(a, cut)?, Lines::of(b, cut)?);
    each_line(d, y, cut, |i, y| sum(level, a.at(i), b.at(i), y))
}
pub(super) fn axpy(d: &Cpu, s: f32, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
    let (level, cut) = (Level::current()?, Cut::of([x.is_dense(), y.view().is_dense()]));
    let x = Lines::of(x, cut)?;
    each_line(d, y, cut, |i, y| add_multiple(level, s, x.at(i), y))
}
pub(super) fn scale(d: &Cpu, s: f32, y: ViewMut<'_>) -> Result<()> {
    let (level, cut) = (Level::current()?, Cut::of([y.view().is_dense()]));
    each_line(d, y, cut, |_, y| multiply(level, s, y))
}
pub(super) fn mul_row(d: &Cpu, x: View<'_>, v: &Buffer, y: ViewMut<'_>) -> Result<()> {
    let (level, v) = (Level::current()?, v.host::<f32>()?);
    if let [v] = v {
        let cut = Cut::of([x.is_dense(), y.view().is_dense()]);
        let x = Lines::of(x, cut)?;
        return each_line(d, y, cut, |i, y| multiple(level, *v, x.at(i), y));
    }
    let x = Lines::of(x, Cut::Rows)?;
    each_line(d, y, Cut::Rows, |i, y| products(level, x.at(i), v, y))
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
