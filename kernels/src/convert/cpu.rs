//! Lines in parallel; memory is what these wait for.
use super::*;
use crate::{
    Cpu,
    lines::{Cut, Lines, each_line},
    simd::{Level, simd},
};

pub(super) fn narrow(d: &Cpu, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
    let (level, cut) = (Level::current()?, Cut::of([x.is_dense(), y.view().is_dense()]));
    let x = Lines::of(x, cut)?;
    each_line(d, y, cut, |i, y| round(level, x.at(i), y))
}
pub(super) fn widen(d: &Cpu, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
    let (level, cut) = (Level::current()?, Cut::of([x.is_dense(), y.view().is_dense()]));
    let x = Lines::of(x, cut)?;
    each_line(d, y, cut, |i, y| extend(level, x.at(i), y))
}

// plain loops on the bits, which the compiler turns into the level's vectors
simd! {
    fn round<S>(_s, x: &[f32], y: &mut [bf16]) {
        for (y, x) in y.iter_mut().zip(x) {
            let b = x.to_bits();
            // half a step less one, and one more where the half that stays is odd: ties go to
            // the even neighbour
            let rounded = b.wrapping_add(0x7fff + (b >> 16 & 1)) >> 16;
            // adding could turn a NaN into an infinity or a zero; its upper half with a bit of
            // mantissa set is a NaN
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
