//! What a product is made of.

/// f32 values of a matrix: element (i, j) is `data[i * row + j * col]`.
#[derive(Clone, Copy)]
pub(super) struct Strided<'a> {
    pub data: &'a [f32],
    pub row: usize,
    pub col: usize,
}
/// A matrix in storage: element (p, j) is number j of line p or, if `transposed`, number p of line j.
#[derive(Clone, Copy)]
pub(super) struct Lines<S> {
    pub from: S,
    pub transposed: bool,
}
/// What is added to the products: a row, the same for all rows, and a matrix.
#[derive(Clone, Copy)]
pub(crate) struct Start<'a> {
    pub bias: Option<&'a [f32]>,
    pub onto: Base<'a>,
}
#[derive(Clone, Copy)]
pub(crate) enum Base<'a> {
    Zero,
    /// A matrix that lies as C does.
    Rows(&'a [f32]),
    /// C as it is.
    Output,
}
