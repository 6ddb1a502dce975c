//! The small products of attention: C (m, n) = A B or C += A B, B packed so that it is read in order.
//!
//! B (k, n) lies in panels two vectors wide (the last one vector, where that is enough), each panel row by row. A tile of
//! C, some rows by one panel, is summed in registers over all k; A is read where it is, by broadcasts, so that a
//! transposed A is a matter of strides.
use crate::simd::{F32s, Level, Simd, simd};

/// Floats that a packed B of this size takes at most, on any level.
pub(super) fn packed(k: usize, n: usize) -> usize {
    k * n.next_multiple_of(16)
}

simd! {
    /// Packs B (k, n) = X; rows of X are `stride` apart.
    pub(super) fn pack<S>(s, x: &[f32], stride: usize, k: usize, n: usize, b: &mut [f32]) {
        let l = S::V::LANES;
        for j in (0..n).step_by(2 * l) {
            let width = if n - j > l { 2 * l } else { l };
            for p in 0..k {
                let to = &mut b[j * k + p * width..][..width];
                for h in (0..width).step_by(l) {
                    s.load_part(&x[p * stride..][j + h..n]).store(&mut to[h..]);
                }
            }
        }
    }
}
simd! {
    /// Packs B (k, n) = Xᵀ; X (n, k), its rows `stride` apart.
    pub(super) fn pack_transposed<S>(s, x: &[f32], stride: usize, k: usize, n: usize, b: &mut [f32]) {
        let l = S::V::LANES;
        for j in (0..n).step_by(l) {
            let panel = j / (2 * l) * (2 * l);
            let width = if n - panel > l { 2 * l } else { l };
            for p in (0..k).step_by(l) {
                let to = &mut b[panel * k + p * width + (j - panel)..];
                s.transpose(&x[j * stride + p..], stride, l.min(n - j), l.min(k - p), to, width);
            }
        }
    }
}

/// One product.
#[derive(Clone, Copy)]
pub(super) struct Product<'a> {
    pub m: usize,
    pub k: usize,
    pub n: usize,
    /// A[i, p] is at `i * a_row + p * a_col`.
    pub a: &'a [f32],
    pub a_row: usize,
    pub a_col: usize,
    /// As [`pack`] and [`pack_transposed`] write it, on the same level.
    pub b: &'a [f32],
    /// C[i, j] is at `i * c_row + j`.
    pub c: *mut f32,
    pub c_row: usize,
    /// Whether to add to what C holds.
    pub accumulate: bool,
}

/// C = A B, or C += A B.
///
/// # Safety
/// The m x n elements of C must be readable and writable, and nobody else's while this runs.
pub(super) unsafe fn product(level: Level, p: Product<'_>) {
    if p.m == 0 || p.n == 0 {
        return;
    }
    assert!(p.k == 0 || p.a.len() > (p.m - 1) * p.a_row + (p.k - 1) * p.a_col, "A is too short");
    assert!(p.b.len() >= p.k * p.n.next_multiple_of(level.lanes()), "B is too short");
    checked(level, Checked(p));
}

/// A product whose A and B are long enough, and whose C may be written.
struct Checked<'a>(Product<'a>);

simd! {
    fn checked<S>(s, p: Checked<'_>) {
        let (p, l) = (p.0, S::V::LANES);
        let tiles = p.m.div_ceil(S::ROWS);
        for t in 0..tiles {
            // tiles of even height
            let (i, end) = (p.m * t / tiles, p.m * (t + 1) / tiles);
            for j in (0..p.n).step_by(2 * l) {
                // SAFETY: what `product` asserted and its caller promised: rows i..end of A and C exist, and the panel
                // that begins with column j, one vector wide where no more columns are left.
                unsafe {
                    let (a, b, c) = (
                        p.a.as_ptr().wrapping_add(i * p.a_row),
                        p.b.as_ptr().add(j * p.k),
                        p.c.add(i * p.c_row + j),
                    );
                    if p.n - j > l {
                        rows::<S, 2>(s, end - i, &p, a, b, c, p.n - j);
                    } else {
                        rows::<S, 1>(s, end - i, &p, a, b, c, p.n - j);
                    }
                }
            }
        }
    }
}

/// Picks the tile of that many rows.
///
/// # Safety
/// As [`tile`]'s.
#[inline(always)]
unsafe fn rows<S: Simd, const W: usize>(
    s: S,
    rows: usize,
    p: &Product<'_>,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    n: usize,
) {
    macro_rules! pick { ($($r:literal)*) => { match rows {
        // SAFETY: the caller's.
        $($r if $r <= S::ROWS => unsafe { tile::<S, $r, W>(s, p, a, b, c, n) },)*
        _ => unreachable!("no tile has {rows} rows"),
    } } }
    pick!(1 2 3 4 5 6 7 8 9 10 11 12 13 14)
}

/// R rows by W vectors of C, of which `n` columns exist.
///
/// # Safety
/// From `a` on there must be R rows of k values, from `b` on k rows of W vectors, and R rows of min(n, W vectors) values
/// of C from `c` on that nobody else reads or writes.
#[inline(always)]
unsafe fn tile<S: Simd, const R: usize, const W: usize>(
    s: S,
    p: &Product<'_>,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    n: usize,
) {
    let l = S::V::LANES;
    let mut sums = [[s.splat(0.0); W]; R];
    let (mut a, mut b) = (a, b);
    for _ in 0..p.k {
        let mut v = [s.splat(0.0); W];
        for (w, v) in v.iter_mut().enumerate() {
            // SAFETY: one of the k rows of B.
            *v = unsafe { s.load_at(b.add(w * l)) };
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: one of the R x k values of A.
            let x = s.splat(unsafe { *a.add(r * p.a_row) });
            for (w, sum) in sums.iter_mut().enumerate() {
                *sum = x.fma(v[w], *sum);
            }
        }
        (a, b) = (a.wrapping_add(p.a_col), b.wrapping_add(W * l));
    }
    for (r, sums) in sums.iter().enumerate() {
        for (w, sum) in sums.iter().enumerate() {
            let left = (n - w * l).min(l);
            // SAFETY: `left` values of a row of C.
            unsafe {
                let to = c.add(r * p.c_row + w * l);
                let old = if p.accumulate {
                    s.load_part(std::slice::from_raw_parts(to, left))
                } else {
                    s.splat(0.0)
                };
                (*sum + old).store_at(to, left);
            }
        }
    }
}
