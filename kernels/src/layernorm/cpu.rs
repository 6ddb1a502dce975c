//! Rows in parallel; a row stays in the first-level cache for its three sweeps.
use super::*;
use crate::{
    Cpu,
    dropout::Row,
    lines::{Cut, Lines, PIECE},
    matmul_int8::{self, QuantizedRowsMut},
    simd::{F32s, Level, Simd, parts, simd},
};

/// Vectors summed at once, so that additions do not wait for each other.
const WIDE: usize = 4;

pub(super) fn forward(
    d: &Cpu,
    x: View<'_>,
    r: Option<View<'_>>,
    n: Norm<'_>,
    y: ViewMut<'_>,
    keep: Option<SavedNorm<'_>>,
    q: Option<&mut QuantizedRows>,
) -> Result<()> {
    let (level, cols) = (Level::current()?, x.cols());
    let rows = (PIECE / cols.max(1)).max(1);
    let none;
    let beta = match n.beta {
        Some(beta) => &beta.host::<f32>()?[..cols],
        None => {
            none = vec![0.0; cols];
            &none
        }
    };
    let w = Affine { gamma: &n.gamma.host()?[..cols], beta, eps: n.eps, centred: n.centred };
    let inputs = (Lines::of(x, Cut::Rows)?, r.map(|r| Lines::of(r, Cut::Rows)).transpose()?);
    let (normed, rstd) = match keep {
        Some(k) => (Some(k.normed), Some(&mut k.rstd.host_mut::<f32>()?[..x.rows()])),
        None => (None, None),
    };
    let (y_row, normed_row) = (stride(&y), normed.as_ref().map_or(1, stride));
    let y = y.host::<f32>()?.chunks_mut(rows * y_row);
    let normed = normed.map(|n| n.host::<f32>()).transpose()?;
    let kept = pieces(normed, rows * normed_row).zip(pieces(rstd, rows));
    let quantized = matmul_int8::pieces(q, rows)?;
    parts(d, y.zip(kept).zip(quantized), |i, ((y, (normed, rstd)), q)| {
        let keep = normed.map(|n| (n, normed_row)).zip(rstd);
        rows_forward(level, inputs, n.dropout, i * rows, w, (y, y_row), keep, q);
    });
    Ok(())
}

/// Elements from row to row.
fn stride(y: &ViewMut<'_>) -> usize {
    y.view().stride().max(1)
}
/// The pieces of what may not be there.
fn pieces<T>(v: Option<&mut [T]>, each: usize) -> impl Iterator<Item = Option<&mut [T]>> {
    let mut chunks = v.map(|v| v.chunks_mut(each));
    std::iter::from_fn(move || match &mut chunks {
        Some(chunks) => chunks.next().map(Some),
        None => Some(None),
    })
}

pub(super) fn backward(
    d: &Cpu,
    dy: View<'_>,
    normed: View<'_>,
    rstd: &Buffer,
    n: Norm<'_>,
    ds: ViewMut<'_>,
    dx: Option<ViewMut<'_>>,
) -> Result<()> {
    let (level, cols) = (Level::current()?, dy.cols());
    let inputs = (Lines::of(dy, Cut::Rows)?, Lines::of(normed, Cut::Rows)?, rstd.host::<f32>()?);
    let gamma = &n.gamma.host::<f32>()?[..cols];
    let rows = (PIECE / cols.max(1)).max(1);
    let dropout = n.dropout.unwrap_or(Dropout::none());
    let (ds_row, dx_row) = (stride(&ds), dx.as_ref().map_or(1, stride));
    let dx = dx.map(|dx| dx.host::<f32>()).transpose()?;
    let outputs = ds.host::<f32>()?.chunks_mut(rows * ds_row).zip(pieces(dx, rows * dx_row));
    parts(d, outputs, |i, (ds, dx)| {
        let dx = dx.map(|dx| ((dx, dx_row), dropout));
        rows_backward(level, inputs, i * rows, gamma, n.centred, (ds, ds_row), dx);
    });
    Ok(())
}

/// γ, β and eps; without `centred` the mean is taken to be 0.
#[derive(Clone, Copy)]
struct Affine<'a> {
    gamma: &'a [f32],
    beta: &'a [f32],
    eps: f32,
    centred: bool,
}
/// Rows to write, and the elements from one to the next.
type Out<'a> = (&'a mut [f32], usize);

simd! {
    /// y = LN(x ∘ f + r) for the rows that `y` holds, those from `first` on.
    fn rows_forward<S>(s, inputs: (Lines<'_, f32>, Option<Lines<'_, f32>>), drop: Option<Dropout>, first: usize,
        w: Affine<'_>, y: Out<'_>, keep: Option<(Out<'_>, &mut [f32])>, q: Option<QuantizedRowsMut<'_>>) {
        let cols = w.gamma.len();
        let ((x, r), (y, y_row)) = (inputs, y);
        let (mut keep, mut q) = (keep, q);
        for (i, y) in y.chunks_mut(y_row).enumerate() {
            let (x, y) = (x.at(first + i), &mut y[..cols]);
            let none = Row::default();
            let total = match (drop, r) {
                (None, None) => sum::<S, false, false>(s, x, none, x, y),
                (None, Some(r)) => sum::<S, false, true>(s, x, none, r.at(first + i), y),
                (Some(d), None) => sum::<S, true, false>(s, x, d.row(first + i), x, y),
                (Some(d), Some(r)) => sum::<S, true, true>(s, x, d.row(first + i), r.at(first + i), y),
            };
            let mean = if w.centred { total / cols as f32 } else { 0.0 };
            let (rest, squares) = moments(s, y, mean);
            // the mean was rounded; what is left of it corrects both
            let rest = if w.centred { rest / cols as f32 } else { 0.0 };
            let inv = 1.0 / (squares / cols as f32 - rest * rest + w.eps).sqrt();
            let normed = keep.as_mut().map(|((n, n_row), _)| &mut n[i * *n_row..][..cols]);
            normalise(s, y, mean, rest, inv, w, normed);
            if let Some((_, rstd)) = &mut keep {
                rstd[i] = inv;
            }
            if let Some(q) = &mut q {
                q.write(s, i, y);
            }
        }
    }
}
simd! {
    /// ds of the rows that it holds, those from `first` on, and dx.
    fn rows_backward<S>(s, inputs: (Lines<'_, f32>, Lines<'_, f32>, &[f32]), first: usize, gamma: &[f32], centred: bool,
        ds: Out<'_>, dx: Option<(Out<'_>, Dropout)>) {
        let cols = gamma.len();
        let ((dy, normed, rstd), (ds, ds_row)) = (inputs, ds);
        let mut outputs = dx;
        for (i, ds) in ds.chunks_mut(ds_row).enumerate() {
            let row = first + i;
            let dx = outputs.as_mut().map(|((dx, dx_row), d)| (&mut dx[i * *dx_row..][..cols], d.row(row)));
            gradient(s, dy.at(row), normed.at(row), (rstd[row], centred), gamma, &mut ds[..cols], dx);
        }
    }
}

/// y = x ∘ f + r, and its sum; without the factors unless `DROP`, without r unless `ADD`.
#[inline(always)]
fn sum<S: Simd, const DROP: bool, const ADD: bool>(s: S, x: &[f32], f: Row, r: &[f32], y: &mut [f32]) -> f32 {
    let (l, cols) = (S::V::LANES, x.len());
    let mut t = [s.splat(0.0); WIDE];
    let whole = cols / (WIDE * l) * (WIDE * l);
    let (x, x_end) = x.split_at(whole);
    let (r, r_end) = r.split_at(whole);
    let (y, y_end) = y.split_at_mut(whole);
    let rows = x.chunks_exact(WIDE * l).zip(r.chunks_exact(WIDE * l)).zip(y.chunks_exact_mut(WIDE * l));
    for (j, ((x, r), y)) in rows.enumerate() {
        for (k, t) in t.iter_mut().enumerate() {
            let (x, r, y) = (&x[k * l..], &r[k * l..], &mut y[k * l..]);
            let mut v = s.load(x);
            s.prefetch_read(x, cols); // the next row
            if DROP {
                v = v * f.at(s, (j * WIDE + k) * l);
            }
            if ADD {
                v = v + s.load(r);
                s.prefetch_read(r, cols);
            }
            v.store(y);
            s.prefetch_write(y, cols);
            *t = *t + v;
        }
    }
    for (j, ((x, r), y)) in x_end.chunks(l).zip(r_end.chunks(l)).zip(y_end.chunks_mut(l)).enumerate() {
        let mut v = s.load_part(x);
        if DROP {
            v = v * f.at(s, whole + j * l);
        }
        if ADD {
            v = v + s.load_part(r);
        }
        v.store_part(y);
        t[0] = t[0] + v;
    }
    ((t[0] + t[1]) + (t[2] + t[3])).sum()
}

/// Σ (x - mean) and Σ (x - mean)².
#[inline(always)]
fn moments<S: Simd>(s: S, x: &[f32], mean: f32) -> (f32, f32) {
    let l = S::V::LANES;
    let zero = s.splat(0.0);
    let (mut t, mut q) = ([zero; WIDE], [zero; WIDE]);
    let m = s.splat(mean);
    let wide = x.chunks_exact(WIDE * l);
    let end = wide.remainder();
    for x in wide {
        for k in 0..WIDE {
            let u = s.load(&x[k * l..]) - m;
            t[k] = t[k] + u;
            q[k] = u.fma(u, q[k]);
        }
    }
    for x in end.chunks(l) {
        // lanes beyond the row hold 0, not the mean
        let u = s.load_part(x) - s.load_part(&[mean; 16][..x.len()]);
        t[0] = t[0] + u;
        q[0] = u.fma(u, q[0]);
    }
    (((t[0] + t[1]) + (t[2] + t[3])).sum(), ((q[0] + q[1]) + (q[2] + q[3])).sum())
}

/// x̂ = (y - mean - rest) · inv, and y = x̂ γ + β.
#[inline(always)]
fn normalise<S: Simd>(
    s: S,
    y: &mut [f32],
    mean: f32,
    rest: f32,
    inv: f32,
    w: Affine<'_>,
    normed: Option<&mut [f32]>,
) {
    let l = S::V::LANES;
    let (m, rest, inv) = (s.splat(mean), s.splat(rest), s.splat(inv));
    let cols = y.len();
    let whole = cols / l * l;
    let (y, y_end) = y.split_at_mut(whole);
    let (g, g_end) = w.gamma.split_at(whole);
    let (b, b_end) = w.beta.split_at(whole);
    let rows = y.chunks_exact_mut(l).zip(g.chunks_exact(l)).zip(b.chunks_exact(l));
    let end = ((s.load_part(y_end) - m) - rest) * inv;
    end.fma(s.load_part(g_end), s.load_part(b_end)).store_part(y_end);
    if let Some(normed) = normed {
        let (n, n_end) = normed.split_at_mut(whole);
        end.store_part(n_end);
        for (((y, g), b), n) in rows.zip(n.chunks_exact_mut(l)) {
            let h = ((s.load(y) - m) - rest) * inv;
            s.prefetch_write(n, cols);
            h.store(n);
            h.fma(s.load(g), s.load(b)).store(y);
        }
    } else {
        for ((y, g), b) in rows {
            let h = ((s.load(y) - m) - rest) * inv;
            h.fma(s.load(g), s.load(b)).store(y);
        }
    }
}

/// ds = rstd · (g - mean g - x̂ mean(g x̂)), g = dy γ; and dx = ds ∘ f.
#[inline(always)]
fn gradient<S: Simd>(
    s: S,
    dy: &[f32],
    normed: &[f32],
    (rstd, centred): (f32, bool),
    gamma: &[f32],
    ds: &mut [f32],
    dx: Option<(&mut [f32], Row)>,
) {
    let (l, cols) = (S::V::LANES, gamma.len());
    let zero = s.splat(0.0);
    let (mut a, mut b) = ([zero; 2], [zero; 2]);
    let whole = cols / (2 * l) * (2 * l);
    let wide = dy.chunks_exact(2 * l).zip(normed.chunks_exact(2 * l)).zip(gamma.chunks_exact(2 * l));
    for ((dy, h), w) in wide {
        for k in 0..2 {
            let (dy, h) = (&dy[k * l..], &h[k * l..]);
            s.prefetch_read(dy, cols); // the next row
            s.prefetch_read(h, cols);
            let g = s.load(dy) * s.load(&w[k * l..]);
            a[k] = a[k] + g;
            b[k] = g.fma(s.load(h), b[k]);
        }
    }
    let end = dy[whole..].chunks(l).zip(normed[whole..].chunks(l)).zip(gamma[whole..].chunks(l));
    for ((dy, h), w) in end {
        let g = s.load_part(dy) * s.load_part(w);
        a[0] = a[0] + g;
        b[0] = g.fma(s.load_part(h), b[0]);
    }
    let n = cols as f32;
    let mean = if centred { (a[0] + a[1]).sum() / n } else { 0.0 };
    let (a, b) = (s.splat(mean), s.splat((b[0] + b[1]).sum() / n));
    let r = s.splat(rstd);
    match dx {
        None => spread::<S, false>(s, dy, normed, gamma, (a, b, r), ds, &mut [], Row::default()),
        Some((dx, f)) => spread::<S, true>(s, dy, normed, gamma, (a, b, r), ds, dx, f),
    }
}

/// ds = r (dy γ - a - x̂ b), and dx = ds ∘ f if `DROP`.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn spread<S: Simd, const DROP: bool>(
    s: S,
    dy: &[f32],
    normed: &[f32],
    gamma: &[f32],
    (a, b, r): (S::V, S::V, S::V),
    ds: &mut [f32],
    dx: &mut [f32],
    f: Row,
) {
    let (l, cols) = (S::V::LANES, gamma.len());
    let rows = dy.chunks_exact(l).zip(normed.chunks_exact(l)).zip(gamma.chunks_exact(l));
    for (j, (((dy, h), w), ds)) in rows.zip(ds.chunks_exact_mut(l)).enumerate() {
        let g = s.load(dy) * s.load(w) - a;
        let d = (-s.load(h)).fma(b, g) * r;
        s.prefetch_write(ds, cols);
        d.store(ds);
        if DROP {
            let dx = &mut dx[j * l..];
            s.prefetch_write(dx, cols);
            (d * f.at(s, j * l)).store(dx);
        }
    }
    let end = cols / l * l..cols;
    let g = s.load_part(&dy[end.clone()]) * s.load_part(&gamma[end.clone()]) - a;
    let d = (-s.load_part(&normed[end.clone()])).fma(b, g) * r;
    d.store_part(&mut ds[end.clone()]);
    if DROP {
        (d * f.at(s, end.start)).store_part(&mut dx[end]);
    }
}
