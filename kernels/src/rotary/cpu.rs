//! Rows in parallel.
use super::*;
use crate::{
    Cpu,
    lines::{Cut, each_line},
    simd::{F32s, Level, simd},
};

pub(super) fn rotate(d: &Cpu, r: Rotary<'_>, positions: &Buffer, x: ViewMut<'_>) -> Result<()> {
    let (level, n) = (Level::current()?, r.angles.frequencies);
    let positions = &positions.host::<u32>()?[..x.view().rows()];
    let (cos, sin) = (r.angles.cos.host::<f32>()?, r.angles.sin.host::<f32>()?);
    if let Some(p) = positions.iter().find(|p| **p as usize >= r.angles.positions) {
        let (got, below) = (*p as usize, r.angles.positions);
        return Err(Error::Range { kernel: NAME, what: "position", got, below });
    }
    let sign = if r.back { -1.0 } else { 1.0 };
    each_line(d, x, Cut::Rows, |i, row: &mut [f32]| {
        let at = positions[i] as usize * n..(positions[i] as usize + 1) * n;
        for head in row.chunks_exact_mut(r.head_dim) {
            let head = &mut head[..2 * n];
            match r.pairs {
                Pairs::Halves => halves(level, head, &cos[at.clone()], &sin[at.clone()], sign),
                Pairs::Neighbours => neighbours(level, head, &cos[at.clone()], &sin[at.clone()], sign),
            }
        }
    })
}

simd! {
    fn halves<S>(s, x: &mut [f32], cos: &[f32], sin: &[f32], sign: f32) {
        let l = S::V::LANES;
        let (a, b) = x.split_at_mut(cos.len());
        let pairs = a.chunks_mut(l).zip(b.chunks_mut(l)).zip(cos.chunks(l).zip(sin.chunks(l)));
        for ((a, b), (cos, sin)) in pairs {
            let (x, y, cos, sin) = (s.load_part(a), s.load_part(b), s.load_part(cos), s.load_part(sin) * sign);
            (x * cos - y * sin).store_part(a);
            (y * cos + x * sin).store_part(b);
        }
    }
}
// a plain loop, which the compiler turns into the level's vectors
simd! {
    fn neighbours<S>(_s, x: &mut [f32], cos: &[f32], sin: &[f32], sign: f32) {
        for (pair, (cos, sin)) in x.chunks_exact_mut(2).zip(cos.iter().zip(sin)) {
            let (a, b, sin) = (pair[0], pair[1], sin * sign);
            pair[0] = a * cos - b * sin;
            pair[1] = b * cos + a * sin;
        }
    }
}
