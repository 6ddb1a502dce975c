//! One pass over the four buffers of every weight, in pieces.
use super::*;
use crate::{
    Cpu,
    simd::{Level, parts, simd},
};

/// Weights of a piece.
const PIECE: usize = 16 * 1024;

pub(super) fn step(d: &Cpu, all: &mut [Part<'_>]) -> Result<()> {
    let (level, mut pieces) = (Level::current()?, vec![]);
    for p in all {
        let (f, n) = (p.step.factors(), p.w.len());
        let (w, g) = (p.w.host_mut::<f32>()?.chunks_mut(PIECE), p.g.host::<f32>()?[..n].chunks(PIECE));
        let (m, v) = (p.m.host_mut::<f32>()?.chunks_mut(PIECE), p.v.host_mut::<f32>()?.chunks_mut(PIECE));
        pieces.extend(w.zip(g).zip(m.zip(v)).map(|((w, g), (m, v))| (f, w, g, m, v)));
    }
    parts(d, pieces.into_iter(), |_, (f, w, g, m, v)| update(level, f, w, g, m, v));
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
