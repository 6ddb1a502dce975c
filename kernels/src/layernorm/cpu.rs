//! Rows in parallel; a row stays in the first-level cache for its three sweeps.
use super::*;
use crate::{
    Cpu,
    dropout::Row,
    matmul_int8::{self, RowsMut},
    simd::{F32s, Level, Simd, parts, simd},
};

/// Values that a task normalises, about.
const PIECE: usize = 16 * 1024;
/// Vectors summed at once, so that additions do not wait for each other.
const WIDE: usize = 4;

pub(super) fn forward(
    d: &Cpu,
    x: &Buffer,
    r: Option<&Buffer>,
    n: Norm<'_>,
    y: &mut Buffer,
    keep: Option<Kept<'_>>,
    q: Option<&mut Rows>,
) -> Result<()> {
    let (level, len) = (Level::current()?, n.rows * n.cols);
    let rows = (PIECE / n.cols.max(1)).max(1);
    let piece = (rows * n.cols).max(1);
    let x = &x.host::<f32>()?[..len];
    let r = r.map(|r| r.host::<f32>()).transpose()?;
    let w = Affine { gamma: &n.gamma.host()?[..n.cols], beta: &n.beta.host()?[..n.cols], eps: n.eps };
    let y = y.host_mut::<f32>()?[..len].chunks_mut(piece);
    let residual = |i: usize, len: usize| r.map(|r| &r[i * piece..][..len]);
    let (normed, rstd) = match keep {
        Some(k) => {
            (Some(&mut k.normed.host_mut::<f32>()?[..len]), Some(&mut k.rstd.host_mut::<f32>()?[..n.rows]))
        }
        None => (None, None),
    };
    let kept = pieces(normed, piece).zip(pieces(rstd, rows));
    let quantized = matmul_int8::pieces(q, rows)?;
    parts(d, y.zip(kept).zip(quantized), |i, ((y, (normed, rstd)), q)| {
        let drop = n.dropout.map(|d| (d, i * rows));
        rows_forward(level, &x[i * piece..], drop, residual(i, y.len()), w, y, normed.zip(rstd), q);
    });
    Ok(())
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
    dy: &Buffer,
    normed: &Buffer,
    rstd: &Buffer,
    n: Norm<'_>,
    ds: &mut Buffer,
    dx: Option<&mut Buffer>,
) -> Result<()> {
    let (level, len) = (Level::current()?, n.rows * n.cols);
    let (dy, normed, rstd) = (dy.host::<f32>()?, normed.host::<f32>()?, rstd.host::<f32>()?);
    let gamma = &n.gamma.host::<f32>()?[..n.cols];
    let rows = (PIECE / n.cols.max(1)).max(1);
    let piece = (rows * n.cols).max(1);
    let dropout = n.dropout.unwrap_or(Dropout::none());
    let dx = match dx {
        Some(dx) => Some(&mut dx.host_mut::<f32>()?[..len]),
        None => None,
    };
    let outputs = ds.host_mut::<f32>()?[..len].chunks_mut(piece).zip(pieces(dx, piece));
    parts(d, outputs, |i, (ds, dx)| {
        let (at, first) = (i * piece, i * rows);
        let dx = dx.map(|dx| (dx, dropout, first));
        rows_backward(level, &dy[at..], &normed[at..], &rstd[first..], gamma, ds, dx);
    });
    Ok(())
}

/// γ, β and eps.
#[derive(Clone, Copy)]
struct Affine<'a> {
    gamma: &'a [f32],
    beta: &'a [f32],
    eps: f32,
}

simd! {
    /// y = LN(x ∘ f + r) for the rows that `y` holds, the dropout's from the one it names on.
    fn rows_forward<S>(s, x: &[f32], drop: Option<(Dropout, usize)>, r: Option<&[f32]>, w: Affine<'_>,
        y: &mut [f32], keep: Option<(&mut [f32], &mut [f32])>, q: Option<RowsMut<'_>>) {
        let cols = w.gamma.len();
        let ((mut normed, mut rstd), mut q) = (keep.unzip(), q);
        for (i, y) in y.chunks_exact_mut(cols).enumerate() {
            let at = i * cols..(i + 1) * cols;
            let x = &x[at.clone()];
            let none = Row::default();
            let total = match (drop, r) {
                (None, None) => sum::<S, false, false>(s, x, none, x, y),
                (None, Some(r)) => sum::<S, false, true>(s, x, none, &r[at.clone()], y),
                (Some((d, first)), None) => sum::<S, true, false>(s, x, d.row(first + i), x, y),
                (Some((d, first)), Some(r)) => sum::<S, true, true>(s, x, d.row(first + i), &r[at.clone()], y),
            };
            let mean = total / cols as f32;
            let (rest, squares) = moments(s, y, mean);
            // the mean was rounded; what is left of it corrects both
            let rest = rest / cols as f32;
            let inv = 1.0 / (squares / cols as f32 - rest * rest + w.eps).sqrt();
            normalise(s, y, mean, rest, inv, w, normed.as_deref_mut().map(|n| &mut n[at]));
            if let Some(rstd) = &mut rstd {
                rstd[i] = inv;
            }
            if let Some(q) = &mut q {
                q.write(s, i, y);
            }
        }
    }
}
simd! {
    /// ds of the rows that it holds, and dx.
    fn rows_backward<S>(s, dy: &[f32], normed: &[f32], rstd: &[f32], gamma: &[f32], ds: &mut [f32],
        dx: Option<(&mut [f32], Dropout, usize)>) {
        let cols = gamma.len();
        let mut outputs = dx;
        for (i, ds) in ds.chunks_exact_mut(cols).enumerate() {
            let at = i * cols..(i + 1) * cols;
            let dx = outputs.as_mut().map(|(dx, d, first)| (&mut dx[at.clone()], d.row(*first + i)));
            gradient(s, &dy[at.clone()], &normed[at], rstd[i], gamma, ds, dx);
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
            s.soon(x, cols); // the next row
            if DROP {
                v = v * f.at(s, (j * WIDE + k) * l);
            }
            if ADD {
                v = v + s.load(r);
                s.soon(r, cols);
            }
            v.store(y);
            s.soon_mut(y, cols);
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
            s.soon_mut(n, cols);
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
    rstd: f32,
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
            s.soon(dy, cols); // the next row
            s.soon(h, cols);
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
    let (a, b) = (s.splat((a[0] + a[1]).sum() / n), s.splat((b[0] + b[1]).sum() / n));
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
        s.soon_mut(ds, cols);
        d.store(ds);
        if DROP {
            let dx = &mut dx[j * l..];
            s.soon_mut(dx, cols);
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
