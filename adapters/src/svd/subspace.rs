//! The largest singular values of a matrix with their vectors, without the others.
//!
//! A V = U R on a growing orthonormal basis V: the decomposition of the small triangle R gives that
//! of A on it (Rayleigh-Ritz). V grows by Aᵀ u of the newest u, as in the bidiagonalisation of
//! Golub and Kahan (1965), with all of V orthogonalised against, twice. A value with its vectors is
//! good when Aᵀ u - σ v is next to nothing. One direction can miss the second of two equal singular
//! values, so the basis goes on from a random direction when all are good, and they have to stay
//! so. It ends where V spans all that A has: then they are exact.
use super::{Svd, add, beside, check, completed, dot, norm, together, whole, without};
use crate::Result;

/// What may be left of a value with its vectors, relative to the largest value.
const TOLERANCE: f64 = 1e-7;
/// Directions at first, and so many more each time, with a third of those that there are.
const WIDTH: usize = 16;

/// True if `k` values of `most` are few enough.
pub(super) fn is_worth_while(k: usize, most: usize) -> bool {
    4 * (2 * k + WIDTH) <= most
}
/// The `k` largest values of `a` (m, n).
pub(super) fn largest(a: &[f64], (m, n): (usize, usize), k: usize) -> Svd {
    let mut basis = Basis::new(a, (m, n));
    let most = m.min(n);
    let (mut next, mut was, mut is_confirmed) = (2 * k + WIDTH, vec![], false);
    while basis.v.len() < most && basis.grow(false) {
        if basis.v.len() < next || basis.v.len() == most {
            continue;
        }
        let found = basis.found(k);
        let top = found.values.first().copied().unwrap_or(0.0);
        let is_same = |(a, b): (&f64, &f64)| (a - b).abs() <= TOLERANCE * top;
        let is_good = (0..found.values.len()).all(|i| basis.rest(&found, i) <= TOLERANCE * top);
        if is_good && is_confirmed && found.values.iter().zip(&was).all(is_same) {
            return found.completed((m, n), k);
        }
        is_confirmed = is_good;
        if is_good && !basis.grow(true) {
            break;
        }
        (was, next) = (found.values, basis.v.len() + WIDTH + basis.v.len() / 3);
    }
    basis.found(k).completed((m, n), k)
}
/// The `k` largest values of `a` (m, n) as so many iterations on a random subspace find them
/// (Halko, Martinsson and Tropp 2011, algorithm 4.4), which is 10 wider than asked for. The errors
/// are those of [`super::svd`].
pub fn iterated(a: &[f64], (m, n): (usize, usize), k: usize, iterations: usize) -> Result<Svd> {
    check(&[(a, m, n)], k, m.min(n))?;
    let mut basis = Basis::new(a, (m, n));
    let width = (k + 10).min(m.min(n));
    let mut span: Vec<Vec<f64>> = (0..width).map(|_| basis.random.vector(m)).collect();
    let mut turned = vec![];
    for _ in 0..=iterations {
        turned = orthonormal(span.iter().map(|u| basis.transposed_times(u)));
        span = orthonormal(turned.iter().map(|v| basis.times(v)));
    }
    turned.into_iter().for_each(|v| basis.push(v));
    Ok(basis.found(k).completed((m, n), k))
}

struct Basis<'a> {
    a: &'a [f64],
    rows: usize,
    cols: usize,
    v: Vec<Vec<f64>>,
    u: Vec<Vec<f64>>,
    /// The columns of R, each down to the diagonal.
    r: Vec<Vec<f64>>,
    random: Random,
}
/// Values above 0, the largest first, with their vectors.
struct Found {
    values: Vec<f64>,
    left: Vec<Vec<f64>>,
    right: Vec<Vec<f64>>,
}
impl Found {
    fn completed(self, (m, n): (usize, usize), k: usize) -> Svd {
        let mut s = self.values;
        s.resize(k, 0.0);
        together(completed(self.left, m, k), s, completed(self.right, n, k))
    }
}
impl<'a> Basis<'a> {
    fn new(a: &'a [f64], (rows, cols): (usize, usize)) -> Basis<'a> {
        Basis { a, rows, cols, v: vec![], u: vec![], r: vec![], random: Random(1) }
    }
    /// A v.
    fn times(&self, v: &[f64]) -> Vec<f64> {
        self.a.chunks_exact(self.cols.max(1)).map(|row| dot(row, v)).collect()
    }
    /// Aᵀ u.
    fn transposed_times(&self, u: &[f64]) -> Vec<f64> {
        let mut y = vec![0.0; self.cols];
        self.a.chunks_exact(self.cols.max(1)).zip(u).for_each(|(row, u)| add(&mut y, *u, row));
        y
    }
    /// One direction more; false if A has no more.
    fn grow(&mut self, anywhere: bool) -> bool {
        let from = match self.u.last().filter(|_| !anywhere) {
            Some(u) => u.clone(),
            None => self.random.vector(self.rows),
        };
        let mut v = beside(self.transposed_times(&from), &self.v);
        if v.is_none() {
            // nothing new that way: another one
            let other = self.random.vector(self.rows);
            v = beside(self.transposed_times(&other), &self.v);
        }
        v.map(|v| self.push(v)).is_some()
    }
    fn push(&mut self, v: Vec<f64>) {
        let mut y = self.times(&v);
        let mut column = without(&mut y, &self.u);
        let again = without(&mut y, &self.u);
        column.iter_mut().zip(again).for_each(|(c, more)| *c += more);
        let length = norm(&y);
        column.push(length);
        let scale = if length > 0.0 { length.recip() } else { 0.0 };
        y.iter_mut().for_each(|y| *y *= scale);
        self.v.push(v);
        self.u.push(y);
        self.r.push(column);
    }
    /// |Aᵀ u - σ v|
    fn rest(&self, found: &Found, i: usize) -> f64 {
        let mut y = self.transposed_times(&found.left[i]);
        add(&mut y, -found.values[i], &found.right[i]);
        norm(&y)
    }
    /// The `k` largest that the basis has.
    fn found(&self, k: usize) -> Found {
        let n = self.r.len();
        let triangle: Vec<f64> =
            (0..n * n).map(|at| self.r[at % n].get(at / n).copied().unwrap_or(0.0)).collect();
        let inner = whole(&triangle, (n, n), n);
        let combined = |of: &[Vec<f64>], length: usize, with: &dyn Fn(usize) -> f64| {
            let mut y = vec![0.0; length];
            of.iter().enumerate().for_each(|(j, x)| add(&mut y, with(j), x));
            y
        };
        let values: Vec<f64> = inner.s.iter().copied().take(k).filter(|s| *s > 0.0).collect();
        let one = |i: usize| {
            let left = combined(&self.u, self.rows, &|j| inner.u[j * n + i]);
            (left, combined(&self.v, self.cols, &|j| inner.vt[i * n + j]))
        };
        let (left, right) = (0..values.len()).map(one).unzip();
        Found { values, left, right }
    }
}
fn orthonormal(of: impl Iterator<Item = Vec<f64>>) -> Vec<Vec<f64>> {
    let mut all: Vec<Vec<f64>> = vec![];
    for x in of {
        all.extend(beside(x, &all));
    }
    all
}

/// The same numbers on every machine (SplitMix64, Steele et al. 2014).
struct Random(u64);
impl Random {
    fn vector(&mut self, n: usize) -> Vec<f64> {
        let mut one = || {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        };
        (0..n).map(|_| one()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::svd::svd;

    /// U diag(s) Vᵀ with random orthonormal U and V.
    fn made((m, n): (usize, usize), s: &[f64], seed: u64) -> Vec<f64> {
        let mut random = Random(seed);
        let mut span =
            |n: usize| orthonormal((0..s.len()).map(|_| random.vector(n)).collect::<Vec<_>>().into_iter());
        let (u, v) = (span(m), span(n));
        let at = |i: usize| s.iter().enumerate().map(|(k, s)| s * u[k][i / n] * v[k][i % n]).sum();
        (0..m * n).map(at).collect()
    }
    /// What a matrix is without its largest values, against what it should be.
    fn check(a: &[f64], n: usize, s: &[f64], found: &Svd, tolerance: f64) {
        let (k, top) = (found.s.len(), s.first().copied().unwrap_or(0.0).max(1e-30));
        for (i, value) in found.s.iter().enumerate() {
            assert!((value - s.get(i).unwrap_or(&0.0)).abs() < tolerance * top, "{i}: {value}");
            let left: Vec<f64> = found.u.iter().skip(i).step_by(k).copied().collect();
            assert!((norm(&left) - 1.0).abs() < 1e-9 && (norm(&found.vt[i * n..][..n]) - 1.0).abs() < 1e-9);
        }
        let sum = |i: usize| -> f64 {
            (0..k).map(|j| found.s[j] * found.u[i / n * k + j] * found.vt[j * n + i % n]).sum()
        };
        let rest = a.iter().enumerate().map(|(i, a)| (a - sum(i)).powi(2)).sum::<f64>().sqrt();
        let want = s.iter().skip(k).map(|s| s * s).sum::<f64>().sqrt();
        assert!((rest - want).abs() < 1e-6 * top, "{rest} {want}");
    }
    #[test]
    fn the_largest_of_known_matrices() {
        let slow: Vec<f64> = (0..60).map(|i| 3.0 * 0.99f64.powi(i)).collect();
        for (shape, s, k) in [
            ((1, 1), vec![2.0], 1),
            ((7, 3), vec![3.0, 2.0, 1.0], 2),
            ((3, 7), vec![3.0, 2.0, 1.0], 3),
            ((90, 70), slow.clone(), 8),
            ((60, 130), slow, 20),
            // equal ones, and matrices of a low rank
            ((80, 90), vec![3.0, 3.0, 3.0, 1.0, 1.0, 0.5, 0.5], 4),
            ((90, 80), vec![1.0; 50], 30),
            ((40, 40), vec![5.0, 1e-3], 2),
            ((40, 30), vec![5.0, 1e-3], 6),
            ((30, 40), vec![], 3),
        ] {
            let a = made(shape, &s, 7);
            let found = largest(&a, shape, k);
            assert_eq!((found.u.len(), found.s.len(), found.vt.len()), (shape.0 * k, k, k * shape.1));
            check(&a, shape.1, &s, &found, 1e-12);
        }
    }
    #[test]
    fn a_few_of_many_are_those_of_all() {
        let a = made((100, 90), &(1..=90).map(|i| 1.0 / f64::from(i)).collect::<Vec<_>>(), 5);
        assert!(is_worth_while(2, 90) && !is_worth_while(10, 90));
        let (few, all) = (svd(&a, (100, 90), 2).unwrap(), whole(&a, (100, 90), 2));
        for (few, all) in [(few.u, all.u), (few.s, all.s), (few.vt, all.vt)] {
            assert!(few.iter().zip(&all).all(|(a, b)| (a - b).abs() < 1e-8));
        }
    }
    #[test]
    fn iterations_come_near() {
        let s: Vec<f64> = (0..50).map(|i| 0.8f64.powi(i)).collect();
        let a = made((60, 70), &s, 3);
        let gap = |n: usize| {
            let found = iterated(&a, (60, 70), 4, n).unwrap();
            found.s.iter().zip(&s).map(|(t, s)| (t - s).abs()).fold(0.0, f64::max)
        };
        assert!(gap(0) < 0.1 && gap(4) < 1e-5 && gap(4) < gap(0));
        check(&a, 70, &s, &iterated(&a, (60, 70), 4, 30).unwrap(), 1e-7);
        assert_eq!(iterated(&[0.0; 12], (3, 4), 2, 3).unwrap().s, [0.0, 0.0]);
        assert!(iterated(&[f64::NAN], (1, 1), 1, 3).is_err());
    }
}
