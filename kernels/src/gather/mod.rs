//! Rows by index: embeddings, the first token of each sequence, routing.
//!
//! ```text
//! rows:     y[i] = table[index[i]]   or   y[i] += it
//! scatter:  table[index[i]] += dy[i], in the order of i
//! ```
mod cases;
mod cpu;
mod cuda;
#[cfg(test)]
mod tests;

use crate::{Buffer, Cost, Device, Kernel, Result, View, ViewMut, check_buffer, matmul::Matrix};

const NAME: &str = "gather";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: cases::cases };

/// `from` bytes of rows to `len` f32 values, set or added to.
fn cost(from: usize, len: usize, accumulate: bool) -> Cost {
    Cost::new(if accumulate { len } else { 0 }, from + len * if accumulate { 8 } else { 4 })
}

/// y (n, cols) = rows of the table, or y += them. Indices (u32) beyond the table give an error.
pub fn rows(
    device: &Device,
    table: Matrix<'_>,
    index: &Buffer,
    y: ViewMut<'_>,
    accumulate: bool,
) -> Result<()> {
    table.check(NAME, "table", device)?;
    check_buffer::<u32>(NAME, device, "index", index, 0)?;
    y.view().expect::<f32>(NAME, device, "y", (index.len(), table.cols))?;
    let read = || Matrix { rows: index.len(), ..table }.bytes();
    let _span = device.span(NAME, "rows", || cost(read(), index.len() * table.cols, accumulate));
    match device {
        Device::Cpu(d) => cpu::rows(d, table, index, y, accumulate),
        Device::Cuda(d) => cuda::rows(d, table, index, y, accumulate),
        Device::Null(_) => Ok(()),
    }
}

/// table (rows, cols) += dy (n, cols) at the rows named. Indices beyond the table give an error.
pub fn scatter(device: &Device, dy: View<'_>, index: &Buffer, table: ViewMut<'_>) -> Result<()> {
    check_buffer::<u32>(NAME, device, "index", index, 0)?;
    let (rows, cols) = (table.view().rows(), dy.cols());
    dy.expect::<f32>(NAME, device, "dy", (index.len(), cols))?;
    table.view().expect::<f32>(NAME, device, "table", (rows, cols))?;
    let _span = device.span(NAME, "scatter", || cost(4 * index.len() * cols, index.len() * cols, true));
    match device {
        Device::Cpu(_) => cpu::scatter(dy, index, table),
        Device::Cuda(d) => cuda::scatter(d, dy, index, table),
        Device::Null(_) => Ok(()),
    }
}
