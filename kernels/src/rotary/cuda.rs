//! A thread for each pair; see `kernel.cu`.
use super::*;
use crate::{
    Cuda,
    cuda::Program,
    launch::{Arg, Grid},
};

const PROGRAM: Program = Program { name: NAME, ptx: include_str!("kernel.ptx") };

pub(super) fn rotate(d: &Cuda, r: Rotary<'_>, positions: &Buffer, x: ViewMut<'_>) -> Result<()> {
    let (rows, frequencies) = (x.view().rows(), r.angles.frequencies);
    let pairs = x.view().cols() / r.head_dim * frequencies;
    let args = [
        Arg::write(x)?,
        Arg::all(positions)?,
        Arg::all(&r.angles.cos)?,
        Arg::all(&r.angles.sin)?,
        (r.pairs == Pairs::Halves).into(),
        r.back.into(),
        r.head_dim.into(),
        frequencies.into(),
        rows.into(),
        pairs.into(),
        d.faults(NAME, "position", r.angles.positions),
        r.angles.positions.into(),
    ];
    // SAFETY: the parameters of `rotary_rotate`. `super::rotate` has checked that x has whole heads
    // whose pairs lie inside them, that there is a position for each row and that both tables hold
    // all positions; the kernel passes over rows whose position is beyond them.
    unsafe { d.launch(&PROGRAM, "rotary_rotate", Grid::elements(rows, pairs), &args) }
}
