//! Pieces in parallel; memory is what these wait for.
use super::*;
use crate::{
    Cpu,
    simd::{Level, simd},
};

/// Elements of a piece: long enough to be worth a task.
const PIECE: usize = 16 * 1024;

pub(super) fn narrow(d: &Cpu, x: &Buffer, y: &mut Buffer) -> Result<()> {
    let (level, x) = (Level::current()?, x.host::<f32>()?);
    d.rows(y.host_mut::<bf16>()?, 1, PIECE, |at, y| round(level, &x[at..], y));
    Ok(())
}
pub(super) fn widen(d: &Cpu, x: &Buffer, y: &mut Buffer) -> Result<()> {
    let (level, x) = (Level::current()?, x.host::<bf16>()?);
    d.rows(y.host_mut::<f32>()?, 1, PIECE, |at, y| extend(level, &x[at..], y));
    Ok(())
}

// plain loops on the bits, which the compiler turns into the level's vectors
simd! {
    fn round<S>(_s, x: &[f32], y: &mut [bf16]) {
        for (y, x) in y.iter_mut().zip(x) {
            let b = x.to_bits();
            // half a step less one, and one more where the half that stays is odd: ties go to the even neighbour
            let rounded = b.wrapping_add(0x7fff + (b >> 16 & 1)) >> 16;
            // adding could turn a NaN into an infinity or a zero; its upper half with a bit of mantissa set is a NaN
            let nan = b >> 16 | 0x40;
            *y = bf16::from_bits(if b & 0x7fff_ffff > 0x7f80_0000 { nan } else { rounded } as u16);
        }
    }
}
simd! {
    fn extend<S>(_s, x: &[bf16], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = f32::from_bits(u32::from(x.to_bits()) << 16);
        }
    }
}
