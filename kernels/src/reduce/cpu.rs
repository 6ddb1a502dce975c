//! Sums by columns: a task takes some columns and walks down all rows, so nothing is shared. Rows
//! are summed by blocks, and the blocks' sums summed, which keeps the rounding of long sums small.
use super::*;
use crate::{
    Cpu,
    lines::{Cut, Lines},
    simd::{F32s, Level, Simd, parts, simd},
};

/// Columns of a task: some cache lines of each row.
const COLUMNS: usize = 64;
/// Rows summed before they join the total.
const ROWS: usize = 32;
/// Vectors side by side.
const WIDE: usize = 4;
/// Elements of a block of [`dots`].
const PIECE: usize = 16 * 1024;

/// The sums of the columns of a, or of a ∘ b.
pub(super) fn columns(
    d: &Cpu,
    a: View<'_>,
    b: Option<View<'_>>,
    y: ViewMut<'_>,
    accumulate: bool,
) -> Result<()> {
    let (level, rows) = (Level::current()?, a.rows());
    let (a, b) = (Lines::of(a, Cut::Rows)?, b.map(|b| Lines::of(b, Cut::Rows)).transpose()?);
    d.rows(y.host::<f32>()?, 1, COLUMNS, |first, y| sums(level, a, b, rows, first, y, accumulate));
    Ok(())
}

simd! {
    /// The sums of the columns from `first` on, as many as `y` holds.
    fn sums<S>(s, a: Lines<'_, f32>, b: Option<Lines<'_, f32>>, rows: usize, first: usize, y: &mut [f32],
        accumulate: bool) {
        let l = S::V::LANES;
        for (k, y) in y.chunks_mut(WIDE * l).enumerate() {
            let (from, n) = (first + k * WIDE * l, y.len());
            let mut total = [s.splat(0.0); WIDE];
            for block in (0..rows).step_by(ROWS) {
                let mut part = [s.splat(0.0); WIDE];
                for i in block..rows.min(block + ROWS) {
                    let a = &a.at(i)[from..][..n];
                    let b = b.map(|b| &b.at(i)[from..][..n]);
                    if n == WIDE * l {
                        // the same code with a length known to the compiler
                        part = add(s, &a[..WIDE * l], b.map(|b| &b[..WIDE * l]), part);
                    } else {
                        part = add(s, a, b, part);
                    }
                }
                for (t, p) in total.iter_mut().zip(part) {
                    *t = *t + p;
                }
            }
            for (y, t) in y.chunks_mut(l).zip(total) {
                let old = if accumulate { s.load_part(y) } else { s.splat(0.0) };
                (old + t).store_part(y);
            }
        }
    }
}
/// sums += a, or a ∘ b; at most `WIDE` vectors.
#[inline(always)]
fn add<S: Simd>(s: S, a: &[f32], b: Option<&[f32]>, mut sums: [S::V; WIDE]) -> [S::V; WIDE] {
    let l = S::V::LANES;
    for (w, sum) in sums.iter_mut().enumerate() {
        let of = (w * l).min(a.len())..((w + 1) * l).min(a.len());
        let x = s.load_part(&a[of.clone()]);
        *sum = match b {
            Some(b) => x.fma(s.load_part(&b[of]), *sum),
            None => *sum + x,
        };
    }
    sums
}

pub(super) fn dots(d: &Cpu, pairs: &[(&Buffer, &Buffer)]) -> Result<f64> {
    let (level, mut inputs) = (Level::current()?, vec![]);
    for (p, (a, b)) in pairs.iter().enumerate() {
        let (a, b) = (a.host::<f32>()?.chunks(PIECE), b.host::<f32>()?.chunks(PIECE));
        inputs.extend(a.zip(b).map(|(a, b)| (p, a, b)));
    }
    let mut blocks = vec![0.0; inputs.len()];
    parts(d, blocks.iter_mut().zip(&inputs), |_, (sum, (_, a, b))| *sum = products(level, a, b));
    let mut sums = vec![0.0; pairs.len()];
    inputs.iter().zip(blocks).for_each(|((p, ..), block)| sums[*p] += block);
    Ok(sums.into_iter().fold(0.0, |a, b| a + b))
}
simd! {
    /// Σ a b in double precision, by eight interleaved sums.
    fn products<S>(_s, a: &[f32], b: &[f32]) -> f64 {
        let mut t = [0f64; 8];
        let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
        let rest = a8.remainder().iter().zip(b8.remainder());
        for (a, b) in a8.zip(b8) {
            for (k, t) in t.iter_mut().enumerate() {
                *t += f64::from(a[k]) * f64::from(b[k]);
            }
        }
        for (t, (a, b)) in t.iter_mut().zip(rest) {
            *t += f64::from(*a) * f64::from(*b);
        }
        t.iter().sum()
    }
}
