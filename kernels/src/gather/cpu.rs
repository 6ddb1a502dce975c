//! Rows in parallel; scattering in order.
use super::*;
use crate::{
    Cpu,
    storage::view::{Stored, stored},
};

/// Values that are decoded at a time, before they are added.
const PART: usize = 256;

fn check(index: &[u32], rows: usize) -> Result<()> {
    match index.iter().find(|i| **i as usize >= rows) {
        Some(i) => Err(Error::Length {
            kernel: NAME,
            argument: "table (rows)",
            expected: *i as usize + 1,
            got: rows,
        }),
        None => Ok(()),
    }
}
pub(super) fn rows(
    d: &Cpu,
    table: Matrix<'_>,
    index: &Buffer,
    y: &mut Buffer,
    accumulate: bool,
) -> Result<()> {
    let index = index.host::<u32>()?;
    check(index, table.rows)?;
    let y = &mut y.host_mut::<f32>()?[..index.len() * table.cols];
    stored!(table, view => copy(d, view, index, table.cols, y, accumulate));
    Ok(())
}
fn copy(d: &Cpu, table: impl Stored, index: &[u32], cols: usize, y: &mut [f32], accumulate: bool) {
    d.rows(y, cols, 16, |first, piece| {
        let mut decoded = [0.0; PART];
        for (i, row) in piece.chunks_mut(cols).enumerate() {
            let line = index[first + i] as usize;
            for (p, y) in row.chunks_mut(PART).enumerate() {
                if accumulate {
                    let decoded = &mut decoded[..y.len()];
                    table.decode(line, p * PART, decoded);
                    y.iter_mut().zip(decoded).for_each(|(y, x)| *y += *x);
                } else {
                    table.decode(line, p * PART, y);
                }
            }
        }
    });
}
pub(super) fn scatter(_d: &Cpu, dy: &Buffer, index: &Buffer, cols: usize, table: &mut Buffer) -> Result<()> {
    let (dy, index, table) = (dy.host::<f32>()?, index.host::<u32>()?, table.host_mut::<f32>()?);
    check(index, table.len() / cols.max(1))?;
    for (i, t) in index.iter().enumerate() {
        let row = &mut table[*t as usize * cols..][..cols];
        row.iter_mut().zip(&dy[i * cols..]).for_each(|(t, d)| *t += d);
    }
    Ok(())
}
