//! Rows in parallel.
use super::*;
use crate::{
    Cpu,
    simd::{F32s, Level, simd},
};

/// Values of a task, about.
const PIECE: usize = 16 * 1024;

pub(super) fn apply(c: &Cpu, d: Dropout, rows: usize, cols: usize, y: &mut Buffer) -> Result<()> {
    let level = Level::current()?;
    let of_task = (PIECE / cols.max(1)).max(1);
    c.rows(&mut y.host_mut::<f32>()?[..rows * cols], cols, of_task, |first, piece| {
        for (i, row) in piece.chunks_mut(cols).enumerate() {
            multiply(level, d.row(first + i), row);
        }
    });
    Ok(())
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
