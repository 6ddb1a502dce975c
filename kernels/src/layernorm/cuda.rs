//! The GPU has no normalisation yet.
use super::*;
use crate::{Cuda, Error};

const REFUSED: Error = Error::Unsupported { kernel: NAME, device: "cuda" };
pub(super) fn forward(
    _d: &Cuda,
    _x: &Buffer,
    _r: Option<&Buffer>,
    _n: Norm<'_>,
    _y: &mut Buffer,
    _k: Option<Kept<'_>>,
) -> Result<()> {
    Err(REFUSED)
}
pub(super) fn backward(
    _d: &Cuda,
    _dy: &Buffer,
    _h: &Buffer,
    _s: &Buffer,
    _n: Norm<'_>,
    _dx: &mut Buffer,
) -> Result<()> {
    Err(REFUSED)
}
