//! What a product is made of.
use super::{pack::Piece, plan::Plan};
use crate::{epilogue::OnHost, team::Shared};

/// f32 values of a matrix: element (i, j) is `data[i * row + j * col]`.
#[derive(Clone, Copy)]
pub(super) struct Strided<'a> {
    pub data: &'a [f32],
    pub row: usize,
    pub col: usize,
}
/// A matrix in storage: element (p, j) is number j of line p or, if `transposed`,
/// number p of line j.
#[derive(Clone, Copy)]
pub(super) struct Lines<S> {
    pub from: S,
    pub transposed: bool,
}
/// A launch whose arguments have been checked.
pub(super) struct Job<'a, S> {
    pub plan: Plan,
    pub a: Strided<'a>,
    pub b: Lines<S>,
    pub plus: OnHost<'a>,
    pub c: Shared<f32>,
    /// Distance between C's rows.
    pub c_row: usize,
}
impl<S: Copy> Job<'_, S> {
    /// The piece of B from row `p` and column `j`.
    pub(super) fn piece(&self, p: usize, j: usize, depth: usize, cols: usize) -> Piece<S> {
        let Lines { from, transposed } = self.b;
        let (line, at) = if transposed { (j, p) } else { (p, j) };
        Piece { from, line, at, transposed, depth, cols }
    }
}
