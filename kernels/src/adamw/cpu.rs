//! One pass over the four buffers, in pieces.
use super::*;
use crate::{
    Cpu,
    simd::{Level, parts, simd},
};

/// Weights of a piece.
const PIECE: usize = 16 * 1024;

pub(super) fn step(
    d: &Cpu,
    s: Step,
    w: &mut Buffer,
    g: &Buffer,
    m: &mut Buffer,
    v: &mut Buffer,
) -> Result<()> {
    let (level, f) = (Level::current()?, s.factors());
    let (w, g) = (w.host_mut::<f32>()?.chunks_mut(PIECE), g.host::<f32>()?.chunks(PIECE));
    let (m, v) = (m.host_mut::<f32>()?.chunks_mut(PIECE), v.host_mut::<f32>()?.chunks_mut(PIECE));
    parts(d, w.zip(g).zip(m.zip(v)), |_, ((w, g), (m, v))| update(level, f, w, g, m, v));
    Ok(())
}
simd! {
    // a plain loop, which the compiler turns into the level's vectors
    fn update<S>(_s, f: Factors<f32>, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
        for (((w, g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
            (*w, *m, *v) = f.step(*w, *g, *m, *v);
        }
    }
}
