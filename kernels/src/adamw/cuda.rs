//! Many weights in one launch; see `kernel.cu`.
use super::*;
use crate::{
    Cuda,
    cuda::Program,
    launch::{Arg, Grid},
};

const PROGRAM: Program = Program { name: NAME, ptx: include_str!("kernel.ptx") };
/// PARTS of `kernel.cu`, and the words of each.
const PARTS: usize = 48;
const WORDS: usize = 9;

pub(super) fn step(d: &Cuda, all: &mut [Part<'_>]) -> Result<()> {
    for parts in all.chunks_mut(PARTS) {
        let (mut words, mut most) = (vec![], 0);
        for p in &mut *parts {
            let f: Factors<f32> = p.step.factors();
            let two = |a: f32, b: f32| u64::from(b.to_bits()) << 32 | u64::from(a.to_bits());
            words.extend([Arg::address(p.w)?, Arg::address(p.g)?, Arg::address(p.m)?, Arg::address(p.v)?]);
            words.extend([p.w.len() as u64, two(f.grad, f.keep), two(f.lr, f.root), two(f.eps, f.beta2)]);
            words.push(two(f.new1, f.new2));
            most = most.max(p.w.len());
        }
        words.resize(PARTS * WORDS, 0);
        let grid = Grid::elements(parts.len(), most);
        // SAFETY: the parameter of `adamw_step`, with a part for each row of blocks. `super::step` has
        // checked that all four buffers of a part are on this device and as long as its weight, and
        // all but the gradients are lent mutably.
        unsafe { d.launch(&PROGRAM, "adamw_step", grid, &[Arg::structure(words)]) }?;
    }
    Ok(())
}
