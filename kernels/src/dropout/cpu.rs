//! Rows in parallel.
use super::*;
use crate::Cpu;

pub(super) fn apply(c: &Cpu, d: Dropout, rows: usize, cols: usize, y: &mut Buffer) -> Result<()> {
    let (threshold, scale) = (d.threshold(), 1.0 / (1.0 - d.p()));
    c.rows(&mut y.host_mut::<f32>()?[..rows * cols], cols, 16, |first, piece| {
        for (i, row) in piece.chunks_mut(cols).enumerate() {
            let key = d.row_key(first + i);
            for (j, y) in row.iter_mut().enumerate() {
                *y *= if hash(key, j as u32) < threshold { 0.0 } else { scale };
            }
        }
    });
    Ok(())
}
