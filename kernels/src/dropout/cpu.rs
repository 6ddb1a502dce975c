//! Rows in parallel.
use super::*;
use crate::{
    Cpu,
    lines::{Cut, each_line},
    simd::{F32s, Level, simd},
};

pub(super) fn apply(c: &Cpu, d: Dropout, y: ViewMut<'_>) -> Result<()> {
    let level = Level::current()?;
    each_line(c, y, Cut::Rows, |i, row| multiply(level, d.row(i), row))
}
simd! {
    /// y *= the factors of a row.
    fn multiply<S>(s, row: Row, y: &mut [f32]) {
        let l = S::V::LANES;
        let (y, end) = y.split_at_mut(y.len() / l * l);
        for (j, y) in y.chunks_exact_mut(l).enumerate() {
            (s.load(y) * row.at(s, j * l)).store(y);
        }
        (s.load_part(end) * row.at(s, y.len())).store_part(end);
    }
}
