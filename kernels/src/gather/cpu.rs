//! Rows in parallel; scattering in order.
use super::*;
use crate::{
    Cpu, Error,
    lines::{Cut, Lines, each_line},
    storage::view::{Stored, stored},
};

/// Values that are decoded at a time, before they are added.
const PART: usize = 256;

fn check(index: &[u32], rows: usize) -> Result<()> {
    match index.iter().find(|i| **i as usize >= rows) {
        Some(i) => Err(Error::Range { kernel: NAME, what: "row", got: *i as usize, below: rows }),
        None => Ok(()),
    }
}
pub(super) fn rows(
    d: &Cpu,
    table: Matrix<'_>,
    index: &Buffer,
    y: ViewMut<'_>,
    accumulate: bool,
) -> Result<()> {
    let index = index.host::<u32>()?;
    check(index, table.rows)?;
    stored!(table, view => copy(d, view, index, y, accumulate))
}
fn copy(d: &Cpu, table: impl Stored, index: &[u32], y: ViewMut<'_>, accumulate: bool) -> Result<()> {
    each_line(d, y, Cut::Rows, |i, row: &mut [f32]| {
        let (line, mut decoded) = (index[i] as usize, [0.0; PART]);
        for (p, y) in row.chunks_mut(PART).enumerate() {
            if accumulate {
                let decoded = &mut decoded[..y.len()];
                table.decode(line, p * PART, decoded);
                y.iter_mut().zip(decoded).for_each(|(y, x)| *y += *x);
            } else {
                table.decode(line, p * PART, y);
            }
        }
    })
}
pub(super) fn scatter(dy: View<'_>, index: &Buffer, table: ViewMut<'_>) -> Result<()> {
    let (index, stride, cols) = (index.host::<u32>()?, table.view().stride(), dy.cols());
    check(index, table.view().rows())?;
    if cols == 0 {
        return Ok(());
    }
    let (dy, table) = (Lines::<f32>::of(dy, Cut::Rows)?, table.host::<f32>()?);
    for (i, t) in index.iter().enumerate() {
        let row = &mut table[*t as usize * stride..][..cols];
        row.iter_mut().zip(dy.at(i)).for_each(|(t, d)| *t += d);
    }
    Ok(())
}
