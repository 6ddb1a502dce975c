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
