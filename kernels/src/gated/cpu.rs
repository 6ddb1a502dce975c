//! Lines in parallel, in pieces that stay in the first-level cache for their sweeps.
use super::*;
use crate::{
    Cpu,
    activation::{derivatives, values},
    lines::{Cut, Lines, each_line, each_two},
    simd::{Level, simd},
};

/// Values of a sweep.
const SWEEP: usize = 1024;

pub(super) fn forward(d: &Cpu, f: Activation, a: View<'_>, b: View<'_>, y: ViewMut<'_>) -> Result<()> {
    let (level, cut) = (Level::current()?, Cut::of([a.is_dense(), b.is_dense(), y.view().is_dense()]));
    let (a, b) = (Lines::of(a, cut)?, Lines::of(b, cut)?);
    each_line(d, y, cut, |i, y: &mut [f32]| {
        let inputs = a.at(i).chunks(SWEEP).zip(b.at(i).chunks(SWEEP));
        for (y, (a, b)) in y.chunks_mut(SWEEP).zip(inputs) {
            values(level, f, a, y);
            multiply(level, b, y);
        }
    })
}
pub(super) fn backward(
    d: &Cpu,
    f: Activation,
    dy: View<'_>,
    [a, b]: [View<'_>; 2],
    da: ViewMut<'_>,
    db: ViewMut<'_>,
) -> Result<()> {
    let level = Level::current()?;
    let all = [dy, a, b, da.view(), db.view()];
    let cut = Cut::of(all.map(|v| v.is_dense()));
    let (dy, a, b) = (Lines::of(dy, cut)?, Lines::of(a, cut)?, Lines::of(b, cut)?);
    each_two(d, da, db, cut, |i, da: &mut [f32], db: &mut [f32]| {
        let inputs = dy.at(i).chunks(SWEEP).zip(a.at(i).chunks(SWEEP).zip(b.at(i).chunks(SWEEP)));
        let outputs = da.chunks_mut(SWEEP).zip(db.chunks_mut(SWEEP));
        for ((dy, (a, b)), (da, db)) in inputs.zip(outputs) {
            da.copy_from_slice(dy);
            multiply(level, b, da);
            derivatives(level, f, a, da);
            values(level, f, a, db);
            multiply(level, dy, db);
        }
    })
}
// a plain loop, which the compiler turns into the level's vectors
simd! {
    fn multiply<S>(_s, by: &[f32], y: &mut [f32]) {
        for (y, by) in y.iter_mut().zip(by) {
            *y *= by;
        }
    }
}
