//! Element by element; see `kernel.cu`.
use super::*;
use crate::{
    Cuda, Storage,
    cuda::Program,
    launch::{Arg, Grid},
};

const PROGRAM: Program = Program { name: NAME, ptx: include_str!("kernel.ptx") };

pub(super) fn rows(
    d: &Cuda,
    table: Matrix<'_>,
    index: &Buffer,
    y: ViewMut<'_>,
    accumulate: bool,
) -> Result<()> {
    let (rows, cols, below) = (index.len(), table.cols, table.rows);
    let (table, storage) = table.on_gpu()?;
    let kernel = match storage {
        Storage::F32 => "gather_rows_f32",
        Storage::Bf16 => "gather_rows_bf16",
        Storage::F16 => "gather_rows_f16",
        Storage::Int8 => "gather_rows_int8",
        Storage::Nf4 => "gather_rows_nf4",
    };
    let args = [
        table,
        Arg::all(index)?,
        accumulate.into(),
        Arg::write(y)?,
        rows.into(),
        cols.into(),
        d.faults(NAME, "row", below),
        below.into(),
    ];
    // SAFETY: the parameters of a kernel for this storage type. `super::rows` has checked the table,
    // and y, which has a row for each index; the kernel passes over indices beyond the table.
    unsafe { d.launch(&PROGRAM, kernel, Grid::elements(rows, cols), &args) }
}
pub(super) fn scatter(d: &Cuda, dy: View<'_>, index: &Buffer, table: ViewMut<'_>) -> Result<()> {
    let (rows, cols, below) = (dy.rows(), dy.cols(), table.view().rows());
    let args = [
        Arg::read(dy)?,
        Arg::all(index)?,
        Arg::write(table)?,
        rows.into(),
        cols.into(),
        d.faults(NAME, "row", below),
        below.into(),
    ];
    // SAFETY: the parameters of `gather_scatter`. `super::scatter` has checked the columns of both
    // matrices and that dy has a row for each index; the kernel passes over those beyond the table.
    unsafe { d.launch(&PROGRAM, "gather_scatter", Grid::elements(1, cols), &args) }
}
