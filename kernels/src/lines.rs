//! Matrices in host memory, line by line, for kernels that go through them element by element.
//!
//! A line is a row. If no matrix of a launch has gaps between its rows, lines are cut regardless of
//! rows, long enough that each is worth a task: the same loop then runs over dense matrices and
//! over parts of others.
use crate::{Cpu, Element, Result, View, ViewMut, simd::parts};

/// Elements of a task, about.
pub(crate) const PIECE: usize = 16 * 1024;

/// How matrices of one shape are cut.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// Into pieces, regardless of rows.
    Pieces,
    /// Into rows.
    Rows,
}
impl Cut {
    /// Into rows, unless all are dense.
    pub(crate) fn of(dense: impl IntoIterator<Item = bool>) -> Cut {
        if dense.into_iter().all(|dense| dense) { Cut::Pieces } else { Cut::Rows }
    }
    /// Elements from line to line, and of a line.
    fn widths(self, stride: usize, cols: usize) -> (usize, usize) {
        match self {
            Cut::Pieces => (PIECE, PIECE),
            Cut::Rows => (stride.max(1), cols),
        }
    }
}

/// The lines of a matrix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lines<'a, T> {
    data: &'a [T],
    stride: usize,
    width: usize,
}
impl<'a, T: Element> Lines<'a, T> {
    /// Of a matrix in host memory.
    pub(crate) fn of(x: View<'a>, cut: Cut) -> Result<Lines<'a, T>> {
        let (stride, width) = cut.widths(x.stride(), x.cols());
        Ok(Lines { data: x.host()?, stride, width })
    }
    /// Line `i`.
    #[inline(always)]
    pub(crate) fn at(&self, i: usize) -> &'a [T] {
        let from = &self.data[i * self.stride..];
        &from[..self.width.min(from.len())]
    }
}

/// Runs `f(i, line)` on every line of y in parallel.
pub(crate) fn each_line<T: Element>(
    d: &Cpu,
    y: ViewMut<'_>,
    cut: Cut,
    f: impl Fn(usize, &mut [T]) + Sync,
) -> Result<()> {
    let (stride, width) = cut.widths(y.view().stride(), y.view().cols());
    let lines = (PIECE / width.max(1)).max(1);
    d.rows(y.host::<T>()?, stride, lines, |first, piece| {
        for (i, line) in piece.chunks_mut(stride).enumerate() {
            let width = width.min(line.len());
            f(first + i, &mut line[..width]);
        }
    });
    Ok(())
}

/// Runs `f(i, line of y, line of z)` on every line of y and z, which have one shape, in parallel.
pub(crate) fn each_two<T: Element>(
    d: &Cpu,
    y: ViewMut<'_>,
    z: ViewMut<'_>,
    cut: Cut,
    f: impl Fn(usize, &mut [T], &mut [T]) + Sync,
) -> Result<()> {
    let (y_stride, width) = cut.widths(y.view().stride(), y.view().cols());
    let (z_stride, _) = cut.widths(z.view().stride(), z.view().cols());
    let lines = (PIECE / width.max(1)).max(1);
    let pieces = y.host::<T>()?.chunks_mut(lines * y_stride).zip(z.host::<T>()?.chunks_mut(lines * z_stride));
    parts(d, pieces, |piece, (y, z)| {
        for (i, (y, z)) in y.chunks_mut(y_stride).zip(z.chunks_mut(z_stride)).enumerate() {
            let width = width.min(y.len()).min(z.len());
            f(piece * lines + i, &mut y[..width], &mut z[..width]);
        }
    });
    Ok(())
}
