//! Rows in parallel. A row's part of a block stays in the first-level cache for its sweeps; sums
//! are kept in double precision.
use super::*;
use crate::{
    lines::{Cut, PIECE, each_line},
    simd::{F32s, Level, Simd, math, parts, simd},
    storage::{
        Scales,
        view::{Stored, stored},
    },
};

/// Vectors of exponentials that are summed in single precision before they join the total.
const RUN: usize = 32;
/// Values of W that are decoded at a time.
const PART: usize = 256;

/// What a row has met so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running {
    /// Its largest logit.
    top: f32,
    /// Σ exp(z - top).
    sum: f64,
    /// The logit at its label.
    at: f32,
    /// Σ z, where that counts.
    all: f64,
}
impl Default for Running {
    fn default() -> Running {
        Running { top: f32::NEG_INFINITY, sum: 0.0, at: f32::NAN, all: 0.0 }
    }
}

pub(super) fn check(labels: &Buffer, outputs: usize) -> Result<()> {
    match labels.host::<u32>()?.iter().max() {
        Some(l) if *l as usize >= outputs => {
            Err(Error::Range { kernel: NAME, what: "output", got: *l as usize, below: outputs })
        }
        _ => Ok(()),
    }
}
/// Rows of a task.
fn rows_of_task(n: usize) -> usize {
    (PIECE / n.max(1)).max(1)
}
/// So many rows of a matrix at a time; as many empty pieces as wanted if there is none.
fn pieces(v: Option<&mut [f32]>, stride: usize, rows: usize) -> impl Iterator<Item = &mut [f32]> {
    let mut chunks = v.filter(|v| !v.is_empty()).map(|v| v.chunks_mut(stride * rows));
    std::iter::from_fn(move || chunks.as_mut().map_or(Some(&mut [][..]), Iterator::next))
}

/// The logits z (rows, a block) become exponentials above what is the row's largest logit from now
/// on, if there is a dx, whose rows are rescaled to the same.
pub(super) fn exponentials(
    d: &Cpu,
    layer: Layer<'_>,
    block: &Range<usize>,
    of: Labels<'_>,
    z: &mut Buffer,
    running: &mut [Running],
    dx: Option<ViewMut<'_>>,
) -> Result<()> {
    let (level, n, cols) = (Level::current()?, block.len(), layer.w.cols);
    let (labels, bias) = (of.of.host::<u32>()?, bias(layer.bias, block)?);
    let factors = match layer.w.scales {
        Some(Scales::Rows(scales)) if layer.integer_dx => {
            Some(&scales.host()?[layer.w.first.0..][block.clone()])
        }
        _ => None,
    };
    let (rows, writes) = (rows_of_task(n), dx.is_some());
    let z = z.host_mut::<f32>()?[..running.len() * n].chunks_mut(rows * n);
    // nothing has been summed up yet in front of the first block
    let dx = dx.filter(|_| block.start > 0);
    let stride = dx.as_ref().map_or(1, |dx| dx.view().stride()).max(1);
    let dx = dx.map(|dx| dx.host::<f32>()).transpose()?;
    let tasks = z.zip(running.chunks_mut(rows)).zip(pieces(dx, stride, rows));
    parts(d, tasks, |i, ((z, running), dx)| {
        let mut dx = dx.chunks_mut(stride);
        for (j, (z, run)) in z.chunks_mut(n).zip(running).enumerate() {
            let label = labels[i * rows + j] as usize;
            let label = block.contains(&label).then(|| label - block.start);
            let by = advance(level, z, bias, label, factors, (writes, of.smoothing > 0.0), run);
            if let Some(dx) = dx.next().filter(|_| by != 1.0) {
                dx[..cols].iter_mut().for_each(|x| *x *= by);
            }
        }
    });
    Ok(())
}
fn bias<'a>(bias: Option<&'a Buffer>, block: &Range<usize>) -> Result<Option<&'a [f32]>> {
    bias.map(|b| Ok(&b.host::<f32>()?[block.clone()])).transpose()
}
simd! {
    /// Takes a block of a row's logits into account; if `writes`, exponentials (times `factors`)
    /// take their place, and if `smooths`, the logits themselves are summed. What sums of earlier
    /// exponentials are to be multiplied by.
    fn advance<S>(s, z: &mut [f32], bias: Option<&[f32]>, label: Option<usize>, factors: Option<&[f32]>,
        how: (bool, bool), run: &mut Running) -> f32 {
        let (writes, smooths) = how;
        let l = S::V::LANES;
        add_bias(s, z, bias);
        if smooths {
            for z in z.chunks(RUN * l) {
                let part = z.chunks(l).fold(s.splat(0.0), |part, z| part + s.load_part(z));
                run.all += f64::from(part.sum());
            }
        }
        if let Some(label) = label {
            run.at = z[label];
        }
        let top = math::largest(s, z, 1.0).max(run.top);
        if top == f32::NEG_INFINITY {
            // no number above it yet
            z.fill(0.0);
            return 1.0;
        }
        let by = (run.top - top).exp();
        let mut sum = 0f64;
        for (k, z) in z.chunks_mut(RUN * l).enumerate() {
            let mut part = s.splat(0.0);
            for (j, z) in z.chunks_mut(l).enumerate() {
                let e = math::exp(s.load_part(z) + -top).first(z.len());
                part = part + e;
                if writes {
                    let e = match factors {
                        Some(f) => e * s.load_part(&f[(k * RUN + j) * l..][..z.len()]),
                        None => e,
                    };
                    e.store_part(z);
                }
            }
            sum += f64::from(part.sum());
        }
        run.sum = run.sum * f64::from(by) + sum;
        run.top = top;
        by
    }
}
#[inline(always)]
fn add_bias<S: Simd>(s: S, z: &mut [f32], bias: Option<&[f32]>) {
    let Some(bias) = bias else { return };
    for (z, b) in z.chunks_mut(S::V::LANES).zip(bias.chunks(S::V::LANES)) {
        (s.load_part(z) + s.load_part(b)).store_part(z);
    }
}

/// The losses, what hits, the sums' logarithms, and dx / sum - (1 - ε) W_label + `shared`.
pub(super) fn finish(
    d: &Cpu,
    w: Matrix<'_>,
    of: Labels<'_>,
    running: &[Running],
    shared: Option<&Buffer>,
    out: Outputs<'_>,
) -> Result<()> {
    let (labels, smoothing, outputs) = (of.of.host::<u32>()?, f64::from(of.smoothing), w.rows as f64);
    for (loss, run) in out.losses.host_mut::<f32>()?.iter_mut().zip(running) {
        let mut l = run.sum.ln() + (f64::from(run.top) - f64::from(run.at));
        if smoothing > 0.0 {
            l += smoothing * (f64::from(run.at) - run.all / outputs);
        }
        *loss = l as f32;
    }
    if let Some(hits) = out.hits {
        for (hit, run) in hits.host_mut::<f32>()?.iter_mut().zip(running) {
            *hit = if run.at >= run.top { 1.0 } else { 0.0 };
        }
    }
    if let Some(lse) = out.lse {
        for (lse, run) in lse.host_mut::<f32>()?.iter_mut().zip(running) {
            *lse = (run.sum.ln() + f64::from(run.top)) as f32;
        }
    }
    let Some(dx) = out.dx else { return Ok(()) };
    let shared = shared.map_or(Ok(&[][..]), |shared| shared.host::<f32>())?;
    stored!(w, w => subtract(d, w, (labels, 1.0 - of.smoothing), running, shared, dx))
}
fn subtract(
    d: &Cpu,
    w: impl Stored,
    (labels, share): (&[u32], f32),
    running: &[Running],
    shared: &[f32],
    dx: ViewMut<'_>,
) -> Result<()> {
    each_line(d, dx, Cut::Rows, |i, row: &mut [f32]| {
        let (by, mut decoded) = ((1.0 / running[i].sum) as f32, [0.0; PART]);
        for (p, dx) in row.chunks_mut(PART).enumerate() {
            let decoded = &mut decoded[..dx.len()];
            w.decode(labels[i] as usize, p * PART, decoded);
            dx.iter_mut().zip(decoded).for_each(|(dx, w)| *dx = *dx * by - *w * share);
        }
        row.iter_mut().zip(shared).for_each(|(dx, s)| *dx += s);
    })
}

/// The logits z (rows, a block) become dloss (softmax z - (1 - ε) onehot - ε/V).
pub(super) fn slopes(
    d: &Cpu,
    of: Option<&Buffer>,
    (block, outputs): (&Range<usize>, usize),
    labels: Labels<'_>,
    lse: &Buffer,
    dloss: &Buffer,
    z: &mut Buffer,
) -> Result<()> {
    let (level, n) = (Level::current()?, block.len());
    let (of_all, of_label) = (labels.smoothing / outputs as f32, 1.0 - labels.smoothing);
    let (labels, lse, bias) = (labels.of.host::<u32>()?, lse.host::<f32>()?, bias(of, block)?);
    let dloss = dloss.host::<f32>()?[0];
    let z = &mut z.host_mut::<f32>()?[..labels.len() * n];
    d.rows(z, n, rows_of_task(n), |first, piece| {
        for (i, z) in piece.chunks_mut(n).enumerate() {
            let label = labels[first + i] as usize;
            let label = block.contains(&label).then(|| label - block.start);
            slope(level, z, bias, label, lse[first + i], dloss, (of_label, of_all));
        }
    });
    Ok(())
}
simd! {
    fn slope<S>(s, z: &mut [f32], bias: Option<&[f32]>, label: Option<usize>, lse: f32, dloss: f32,
        of: (f32, f32)) {
        let (of_label, of_all) = of;
        add_bias(s, z, bias);
        for z in z.chunks_mut(S::V::LANES) {
            ((math::exp(s.load_part(z) + -lse) + -of_all) * dloss).store_part(z);
        }
        if let Some(label) = label {
            z[label] -= dloss * of_label;
        }
    }
}
