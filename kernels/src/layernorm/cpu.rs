//! Rows in parallel; a row stays in the first-level cache for its three sweeps.
use super::*;
use crate::{
    Cpu,
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
        rows_forward(level, &x[i * piece..], residual(i, y.len()), w, y, normed.zip(rstd), q);
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
    dx: &mut Buffer,
) -> Result<()> {
    let (level, len) = (Level::current()?, n.rows * n.cols);
    let (dy, normed, rstd) = (dy.host::<f32>()?, normed.host::<f32>()?, rstd.host::<f32>()?);
    let gamma = &n.gamma.host::<f32>()?[..n.cols];
    let rows = (PIECE / n.cols.max(1)).max(1);
    d.rows(&mut dx.host_mut::<f32>()?[..len], n.cols, rows, |row, dx| {
        let at = row * n.cols;
        rows_backward(level, &dy[at..], &normed[at..], &rstd[row..], gamma, dx);
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
    /// y = LN(x + r) for the rows that `y` holds.
    fn rows_forward<S>(s, x: &[f32], r: Option<&[f32]>, w: Affine<'_>, y: &mut [f32],
        keep: Option<(&mut [f32], &mut [f32])>, q: Option<RowsMut<'_>>) {
        let cols = w.gamma.len();
        let ((mut normed, mut rstd), mut q) = (keep.unzip(), q);
        for (i, y) in y.chunks_exact_mut(cols).enumerate() {
            let at = i * cols..(i + 1) * cols;
            let mean = sum(s, &x[at.clone()], r.map(|r| &r[at.clone()]), y) / cols as f32;
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
    /// dx of the rows that it holds.
    fn rows_backward<S>(s, dy: &[f32], normed: &[f32], rstd: &[f32], gamma: &[f32], dx: &mut [f32]) {
        let cols = gamma.len();
        for (i, dx) in dx.chunks_exact_mut(cols).enumerate() {
            let at = i * cols..(i + 1) * cols;
            gradient(s, &dy[at.clone()], &normed[at], rstd[i], gamma, dx);
        }
    }
}

/// y = x + r, and its sum.
#[inline(always)]
fn sum<S: Simd>(s: S, x: &[f32], r: Option<&[f32]>, y: &mut [f32]) -> f32 {
    let l = S::V::LANES;
    let mut t = [s.splat(0.0); WIDE];
    let whole = x.len() / (WIDE * l) * (WIDE * l);
    let (x, x_end) = x.split_at(whole);
    let (y, y_end) = y.split_at_mut(whole);
    let r = r.map(|r| r.split_at(whole));
    let rows = x.chunks_exact(WIDE * l).zip(y.chunks_exact_mut(WIDE * l));
    if let Some((r, r_end)) = r {
        for ((x, y), r) in rows.zip(r.chunks_exact(WIDE * l)) {
            for (k, t) in t.iter_mut().enumerate() {
                let v = s.load(&x[k * l..]) + s.load(&r[k * l..]);
                v.store(&mut y[k * l..]);
                *t = *t + v;
            }
        }
        for ((x, y), r) in x_end.chunks(l).zip(y_end.chunks_mut(l)).zip(r_end.chunks(l)) {
            let v = s.load_part(x) + s.load_part(r);
            v.store_part(y);
            t[0] = t[0] + v;
        }
    } else {
        for (x, y) in rows {
            for (k, t) in t.iter_mut().enumerate() {
                let v = s.load(&x[k * l..]);
                v.store(&mut y[k * l..]);
                *t = *t + v;
            }
        }
        for (x, y) in x_end.chunks(l).zip(y_end.chunks_mut(l)) {
            let v = s.load_part(x);
            v.store_part(y);
            t[0] = t[0] + v;
        }
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
    let whole = y.len() / l * l;
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

/// dx = rstd · (g - mean g - x̂ mean(g x̂)), g = dy γ.
#[inline(always)]
fn gradient<S: Simd>(s: S, dy: &[f32], normed: &[f32], rstd: f32, gamma: &[f32], dx: &mut [f32]) {
    let l = S::V::LANES;
    let zero = s.splat(0.0);
    let (mut a, mut b) = ([zero; 2], [zero; 2]);
    let whole = dx.len() / (2 * l) * (2 * l);
    let (dy, dy_end) = dy.split_at(whole);
    let (h, h_end) = normed.split_at(whole);
    let (w, w_end) = gamma.split_at(whole);
    let (dx, dx_end) = dx.split_at_mut(whole);
    for ((dy, h), w) in dy.chunks_exact(2 * l).zip(h.chunks_exact(2 * l)).zip(w.chunks_exact(2 * l)) {
        for k in 0..2 {
            let g = s.load(&dy[k * l..]) * s.load(&w[k * l..]);
            a[k] = a[k] + g;
            b[k] = g.fma(s.load(&h[k * l..]), b[k]);
        }
    }
    for ((dy, h), w) in dy_end.chunks(l).zip(h_end.chunks(l)).zip(w_end.chunks(l)) {
        let g = s.load_part(dy) * s.load_part(w);
        a[0] = a[0] + g;
        b[0] = g.fma(s.load_part(h), b[0]);
    }
    let n = gamma.len() as f32;
    let (a, b) = (s.splat((a[0] + a[1]).sum() / n), s.splat((b[0] + b[1]).sum() / n));
    let r = s.splat(rstd);
    let rows = dy.chunks_exact(l).zip(h.chunks_exact(l)).zip(w.chunks_exact(l));
    for (((dy, h), w), dx) in rows.zip(dx.chunks_exact_mut(l)) {
        let g = s.load(dy) * s.load(w) - a;
        ((-s.load(h)).fma(b, g) * r).store(dx);
    }
    let rows = dy_end.chunks(l).zip(h_end.chunks(l)).zip(w_end.chunks(l));
    for (((dy, h), w), dx) in rows.zip(dx_end.chunks_mut(l)) {
        let g = s.load_part(dy) * s.load_part(w) - a;
        ((-s.load_part(h)).fma(b, g) * r).store_part(dx);
    }
}
