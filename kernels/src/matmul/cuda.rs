//! The GPU has no multiply yet.
use super::*;
use crate::Cuda;

const REFUSED: Error = Error::Unsupported { kernel: NAME, device: "cuda" };
pub(super) fn times_transposed(
    _d: &Cuda,
    _x: &Buffer,
    _m: usize,
    _w: Matrix<'_>,
    _b: Option<&Buffer>,
    _y: &mut Buffer,
) -> Result<()> {
    Err(REFUSED)
}
pub(super) fn times(
    _d: &Cuda,
    _x: &Buffer,
    _m: usize,
    _w: Matrix<'_>,
    _b: Option<&Buffer>,
    _y: &mut Buffer,
) -> Result<()> {
    Err(REFUSED)
}
#[allow(clippy::too_many_arguments)]
pub(super) fn transposed_times(
    _d: &Cuda,
    _dy: &Buffer,
    _n: usize,
    _x: &Buffer,
    _k: usize,
    _m: usize,
    _g: &mut Buffer,
    _acc: bool,
) -> Result<()> {
    Err(REFUSED)
}
