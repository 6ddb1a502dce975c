//! Rows in parallel; scattering in order.
use super::*;
use crate::{Cpu, DType};
use half::{bf16, f16};

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
    match table.data.dtype() {
        DType::F32 => copy(d, table.data.host::<f32>()?, |x| x, index, table.cols, y, accumulate),
        DType::Bf16 => copy(d, table.data.host::<bf16>()?, bf16::to_f32, index, table.cols, y, accumulate),
        _ => copy(d, table.data.host::<f16>()?, f16::to_f32, index, table.cols, y, accumulate),
    }
    Ok(())
}
fn copy<T: Copy + Sync>(
    d: &Cpu,
    table: &[T],
    f: impl Fn(T) -> f32 + Sync + Send,
    index: &[u32],
    cols: usize,
    y: &mut [f32],
    accumulate: bool,
) {
    d.rows(y, cols, 16, |first, piece| {
        for (i, row) in piece.chunks_mut(cols).enumerate() {
            let at = index[first + i] as usize * cols;
            for (y, x) in row.iter_mut().zip(&table[at..at + cols]) {
                *y = if accumulate { *y + f(*x) } else { f(*x) };
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
