//! The small products of attention: C (m, n) = A B, with B read in panels two vectors wide.
//!
//! A tile of C, some rows by one panel, is summed in registers over all k; A is read where it is,
//! by broadcasts, so that a transposed A is a matter of strides. B is packed, panel by panel, so
//! that it is read in order; or it is read where it is, where that is less work.
use super::prefetch::PrefetchRows;
use crate::simd::{F32s, Level, Simd, opaque, simd};

/// Floats that a packed B of this size takes at most, on any level.
pub(super) fn packed(k: usize, n: usize) -> usize {
    k * n.next_multiple_of(32)
}

simd! {
    /// Packs B (k, n) = X; rows of X are `stride` apart.
    pub(super) fn pack<S>(s, x: &[f32], stride: usize, k: usize, n: usize, b: &mut [f32]) {
        let l = S::V::LANES;
        for j in (0..n).step_by(2 * l) {
            let width = 2 * l;
            for p in 0..k {
                let (from, to) = (&x[p * stride + j..][..width.min(n - j)], &mut b[j * k + p * width..][..width]);
                if from.len() == width {
                    s.load(from).store(to);
                    s.load(&from[l..]).store(&mut to[l..]);
                } else {
                    s.load_part(from).store(to);
                    s.load_part(&from[l.min(from.len())..]).store(&mut to[l..]);
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
            for p in (0..k).step_by(l) {
                let to = &mut b[panel * k + p * 2 * l + (j - panel)..];
                s.transpose(&x[j * stride + p..], stride, l.min(n - j), l.min(k - p), to, 2 * l);
            }
        }
    }
}

/// The B of a product: B[p, j] is at `p * row + panel * (j / w) + j % w`, w = two vectors.
#[derive(Clone, Copy)]
pub(super) struct Right<'a> {
    from: &'a [f32],
    row: usize,
    panel: usize,
}
impl<'a> Right<'a> {
    /// As [`pack`] and [`pack_transposed`] write `k` rows, on the same level.
    pub(super) fn packed(level: Level, from: &'a [f32], k: usize) -> Self {
        let row = 2 * level.lanes();
        Right { from, row, panel: row * k }
    }
    /// Rows of whole vectors, `stride` apart, as they are.
    pub(super) fn rows(level: Level, from: &'a [f32], stride: usize) -> Self {
        Right { from, row: stride, panel: 2 * level.lanes() }
    }
    /// Without its first rows.
    pub(super) fn skip_rows(self, rows: usize) -> Self {
        Right { from: &self.from[(rows * self.row).min(self.from.len())..], ..self }
    }
    /// Without its first columns, whole panels of every level.
    pub(super) fn skip_cols(self, level: Level, cols: usize) -> Self {
        debug_assert!(cols.is_multiple_of(2 * level.lanes()), "whole panels");
        let start = cols / (2 * level.lanes()) * self.panel;
        Right { from: &self.from[start.min(self.from.len())..], ..self }
    }
    /// Whether k rows of n columns, n rounded up to whole vectors of `l`, can be read.
    fn holds(&self, k: usize, n: usize, l: usize) -> bool {
        let (panels, rest) = ((n - 1) / (2 * l), (n - 1) % (2 * l) + 1);
        k == 0 || self.from.len() >= panels * self.panel + (k - 1) * self.row + rest.next_multiple_of(l)
    }
}

/// What becomes of A B.
#[derive(Clone, Copy)]
pub(super) enum Finish<'a> {
    /// It is C.
    Store,
    /// It is added to C.
    Add,
    /// Its rows, divided by these numbers, are C.
    Divide(&'a [f32]),
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
    pub b: Right<'a>,
    /// C[i, j] is at `i * c_row + j`.
    pub c: *mut f32,
    pub c_row: usize,
    pub finish: Finish<'a>,
}

/// C = A B, or what `finish` says. Meanwhile memory is read `ahead`.
///
/// # Safety
/// The m x n elements of C must be readable and writable, and nobody else's while this runs.
pub(super) unsafe fn product(level: Level, p: Product<'_>, ahead: &mut PrefetchRows) {
    if p.m == 0 || p.n == 0 {
        return;
    }
    assert!(p.k == 0 || p.a.len() > (p.m - 1) * p.a_row + (p.k - 1) * p.a_col, "A is too short");
    assert!(p.b.holds(p.k, p.n, level.lanes()), "B is too short");
    if let Finish::Divide(by) = p.finish {
        assert!(by.len() >= p.m, "a divisor for each row");
    }
    checked(level, Checked(p), ahead);
}

/// A product whose A and B are long enough, and whose C may be written.
struct Checked<'a>(Product<'a>);

simd! {
    fn checked<S>(s, p: Checked<'_>, ahead: &mut PrefetchRows) {
        let (p, l) = (p.0, S::V::LANES);
        let tiles = p.m.div_ceil(S::ROWS);
        for t in 0..tiles {
            // tiles of even height
            let (i, end) = (p.m * t / tiles, p.m * (t + 1) / tiles);
            for j in (0..p.n).step_by(2 * l) {
                // SAFETY: what `product` asserted and its caller promised: rows i..end of A and C
                // exist, and the panel that begins with column j, one vector wide where no more
                // columns are left.
                unsafe {
                    match (p.n - j > l, p.a_row == 1) {
                        (true, false) => rows::<S, 2, false>(s, &p, i..end, j),
                        (true, true) => rows::<S, 2, true>(s, &p, i..end, j),
                        (false, false) => rows::<S, 1, false>(s, &p, i..end, j),
                        (false, true) => rows::<S, 1, true>(s, &p, i..end, j),
                    }
                }
                ahead.worked((end - i) * p.k * (p.n - j).min(2 * l));
            }
        }
    }
}

/// Picks the tile of that many rows.
///
/// # Safety
/// As [`tile`]'s.
#[inline(always)]
unsafe fn rows<S: Simd, const W: usize, const UNIT: bool>(
    s: S,
    p: &Product<'_>,
    i: std::ops::Range<usize>,
    j: usize,
) {
    macro_rules! pick { ($($r:literal)*) => { match i.len() {
        // SAFETY: the caller's.
        $($r if $r <= S::ROWS => unsafe { tile::<S, $r, W, UNIT>(s, p, i.start, j) },)*
        _ => unreachable!("no tile has {} rows", i.len()),
    } } }
    pick!(1 2 3 4 5 6 7 8 9 10 11 12 13 14)
}

/// R rows from `i` on by W vectors from column `j` on, j a multiple of two vectors.
/// UNIT: a_row is 1.
///
/// # Safety
/// A must hold these rows of k values, B k rows of these vectors, and C these rows of min(n - j, W
/// vectors) values that nobody else reads or writes.
#[inline(always)]
unsafe fn tile<S: Simd, const R: usize, const W: usize, const UNIT: bool>(
    s: S,
    p: &Product<'_>,
    i: usize,
    j: usize,
) {
    // for each row r; left to itself, the compiler would unroll some tiles and keep the sums of the
    // others in memory
    macro_rules! each {
        ($r:ident $body:block) => { each!($r $body 0 1 2 3 4 5 6 7 8 9 10 11 12 13) };
        ($r:ident $body:block $($n:literal)*) => { $(if $n < R { const $r: usize = $n; $body })* };
    }
    let l = S::V::LANES;
    let row = if UNIT { 1 } else { p.a_row };
    let mut a = p.a.as_ptr().wrapping_add(i * row);
    let mut b = p.b.from.as_ptr().wrapping_add(j / (2 * l) * p.b.panel);
    let mut sums = [[s.splat(0.0); W]; R];
    // a pointer to every third row: the two behind it are an addressing mode away. Known to be as
    // far apart as they are, they would become one pointer that walks from row to row, each step
    // waiting for the last
    let hide = |p| if UNIT { p } else { opaque(p) };
    let mut every: [*const f32; 5] = std::array::from_fn(|t| hide(a.wrapping_add(3 * t * row)));
    for _ in 0..p.k {
        let mut v = [s.splat(0.0); W];
        for (w, v) in v.iter_mut().enumerate() {
            // SAFETY: one of the k rows of B.
            *v = unsafe { s.load_at(b.add(w * l)) };
        }
        each!(I {
            let from = if UNIT { a.wrapping_add(I) } else { every[I / 3].wrapping_add(I % 3 * row) };
            // SAFETY: one of the R x k values of A.
            let x = s.splat(unsafe { *from });
            for (sum, v) in sums[I].iter_mut().zip(v) {
                *sum = x.fma(v, *sum);
            }
        });
        a = a.wrapping_add(p.a_col);
        every = every.map(|a| a.wrapping_add(p.a_col));
        b = b.wrapping_add(p.b.row);
    }
    if let Finish::Divide(by) = p.finish {
        each!(I {
            // SAFETY: `product` asserted a divisor for each row.
            let by = s.splat(1.0 / unsafe { *by.get_unchecked(i + I) });
            for sum in &mut sums[I] {
                *sum = *sum * by;
            }
        });
    }
    let (c, add) = (p.c.wrapping_add(i * p.c_row + j), matches!(p.finish, Finish::Add));
    let left = p.n - j;
    if left < W * l {
        let mut all = [0.0; 14 * 32];
        each!(I {
            for (w, sum) in sums[I].iter().enumerate() {
                sum.store(&mut all[(I * W + w) * l..]);
            }
        });
        // SAFETY: R rows of `left` values of C.
        unsafe { copy(&all, W * l, c, p.c_row, (R, left), add) };
        return;
    }
    if add {
        each!(I {
            for (w, sum) in sums[I].iter_mut().enumerate() {
                // SAFETY: a vector of a row of C.
                *sum = *sum + unsafe { s.load_at(c.add(I * p.c_row + w * l)) };
            }
        });
    }
    each!(I {
        for (w, sum) in sums[I].iter().enumerate() {
            // SAFETY: a vector of a row of C.
            unsafe { sum.store_at(c.add(I * p.c_row + w * l), l) };
        }
    });
}

/// The first values of rows, `width` apart, become those of C or are added to them.
///
/// # Safety
/// The rows x cols values of C must exist, and nobody else may read or write them.
#[inline(never)]
unsafe fn copy(
    from: &[f32],
    width: usize,
    c: *mut f32,
    c_row: usize,
    (rows, cols): (usize, usize),
    add: bool,
) {
    for (r, from) in from.chunks_exact(width).enumerate().take(rows) {
        for (x, from) in from[..cols].iter().enumerate() {
            // SAFETY: one of the values of C.
            unsafe {
                let to = c.add(r * c_row + x);
                *to = if add { *to + from } else { *from };
            }
        }
    }
}
