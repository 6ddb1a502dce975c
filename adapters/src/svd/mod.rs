//! The singular value decomposition of a matrix, in f64, or the part of it with the largest values.
//!
//! ```text
//! A = U diag(s) Vᵀ        A (m, n), U (m, k), s (k) falling, Vᵀ (k, n)
//! k = min(m, n); with fewer it is the nearest matrix of that rank
//! ```
//! One-sided Jacobi (Hestenes 1958) behind an orthogonalisation (Drmač and Veselić 2008): pairs of
//! rows, or of columns where those are fewer, are turned until all are orthogonal; their lengths
//! are the singular values. It is slower than bidiagonalisation, and exact to the last digits for
//! small values too (Demmel and Veselić 1992). A few values of a large matrix are found without the
//! others, on a subspace that grows (`subspace.rs`). A product of narrow matrices costs what their
//! width costs: [`of_product`].
mod subspace;

pub use subspace::iterated;

use crate::{Error, Result};

/// A decomposition: its matrices row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Svd {
    /// (m, k), with orthonormal columns; the largest entry of each is positive.
    pub u: Vec<f64>,
    /// (k), falling.
    pub s: Vec<f64>,
    /// (k, n), with orthonormal rows.
    pub vt: Vec<f64>,
}

/// More sweeps than any matrix needs: convergence is quadratic.
const SWEEPS: usize = 60;
/// Two lines are orthogonal if the cosine between them is no larger.
const ORTHOGONAL: f64 = 4.0 * f64::EPSILON;

/// The decomposition of `a` (m, n), row by row, cut to the `k` largest values. An error if a value
/// is not finite, if the shape is not that of `a`, or if `k` is larger than m or n.
pub fn svd(a: &[f64], (m, n): (usize, usize), k: usize) -> Result<Svd> {
    check(&[(a, m, n)], k, m.min(n))?;
    match subspace::is_worth_while(k, m.min(n)) {
        true => Ok(subspace::largest(a, (m, n), k)),
        false => Ok(whole(a, (m, n), k)),
    }
}
/// The same by way of all values.
fn whole(a: &[f64], (m, n): (usize, usize), k: usize) -> Svd {
    let (p, q) = (m.min(n), m.max(n));
    let scale = a.iter().fold(0f64, |top, x| top.max(x.abs()));
    let line = |i: usize| (0..q).map(move |j| if m < n { a[i * n + j] } else { a[j * n + i] } / scale);
    let lines: Vec<Vec<f64>> = match scale > 0.0 {
        true => (0..p).map(|i| line(i).collect()).collect(),
        false => vec![vec![0.0; q]; p],
    };
    // in the span of the lines, where they are shorter and nearer to orthogonal
    let mut longest: Vec<&Vec<f64>> = lines.iter().collect();
    longest.sort_by(|a, b| dot(b, b).total_cmp(&dot(a, a)));
    let (span, _) = basis(longest.into_iter().cloned());
    let inside = span.iter().map(|q| lines.iter().map(|l| dot(q, l)).collect()).collect();
    let turned = orthogonal(inside);
    let top = turned.first().map_or(0.0, |l| norm(l));
    // what is left of a line that depends on others is rounding
    let floor = top * f64::EPSILON * q as f64;
    let (mut s, mut long, mut short): (Vec<f64>, Vec<Vec<f64>>, Vec<Vec<f64>>) = (vec![], vec![], vec![]);
    for l in turned.into_iter().take(k) {
        let length = norm(&l);
        if length <= floor {
            break;
        }
        let w: Vec<f64> = l.iter().map(|x| x / length).collect();
        let mut across = vec![0.0; q];
        lines.iter().zip(&w).for_each(|(l, w)| add(&mut across, *w, l));
        long.extend(beside(across, &long));
        short.push(w);
        s.push(length * scale);
    }
    s.resize(k, 0.0);
    let (long, short) = (completed(long, q, k), completed(short, p, k));
    if m < n { together(short, s, long) } else { together(long, s, short) }
}

/// The decomposition of the product of `b` (m, r) and `a` (r, n), cut to the `k` largest values,
/// which is not made for it: what it costs grows with r. The errors are those of [`svd`].
pub fn of_product((b, a): (&[f64], &[f64]), (m, r, n): (usize, usize, usize), k: usize) -> Result<Svd> {
    check(&[(b, m, r), (a, r, n)], k, m.min(n))?;
    let (columns, rows) = ((0..r).map(|j| (0..m).map(|i| b[i * r + j]).collect()), a.chunks_exact(n.max(1)));
    let ((q, left), (w, right)) = (basis(columns), basis(rows.map(<[f64]>::to_vec)));
    // B A = Q L Rᵀ W with L (q, r) and R (w, r): the decomposition of L Rᵀ, turned
    let core: Vec<f64> = left.iter().flat_map(|l| right.iter().map(|r| dot(l, r))).collect();
    let inner = svd(&core, (q.len(), w.len()), k.min(q.len()).min(w.len()))?;
    let found = inner.s.iter().take_while(|s| **s > 0.0).count();
    let turned = |basis: &[Vec<f64>], weight: &dyn Fn(usize, usize) -> f64, length: usize| {
        let one = |j: usize| {
            let mut sum = vec![0.0; length];
            basis.iter().enumerate().for_each(|(i, v)| add(&mut sum, weight(i, j), v));
            sum
        };
        completed((0..found).map(one).collect(), length, k)
    };
    let width = inner.s.len();
    let u = turned(&q, &|i, j| inner.u[i * width + j], m);
    let v = turned(&w, &|i, j| inner.vt[j * w.len() + i], n);
    let mut s = inner.s;
    s.resize(k, 0.0);
    Ok(together(u, s, v))
}

fn check(all: &[(&[f64], usize, usize)], k: usize, most: usize) -> Result<()> {
    let wrong = |what: String| Err(Error::Config(what));
    for (a, m, n) in all {
        if m.checked_mul(*n) != Some(a.len()) {
            return wrong(format!("{} values are no matrix ({m}, {n})", a.len()));
        }
        if a.iter().any(|x| !x.is_finite()) {
            return wrong("a matrix with values that are not finite cannot be decomposed".into());
        }
    }
    match k <= most {
        true => Ok(()),
        false => wrong(format!("there are no {k} singular values; the matrix has {most}")),
    }
}
/// The matrices, of the columns of U and the rows of Vᵀ.
fn together(mut u: Vec<Vec<f64>>, s: Vec<f64>, mut v: Vec<Vec<f64>>) -> Svd {
    for (u, v) in u.iter_mut().zip(&mut v) {
        let top = u.iter().fold(0f64, |top, x| if x.abs() > top.abs() { *x } else { top });
        if top < 0.0 {
            u.iter_mut().chain(v).for_each(|x| *x = -*x);
        }
    }
    let m = u.first().map_or(0, Vec::len);
    let u = (0..m).flat_map(|i| u.iter().map(move |column| column[i])).collect();
    Svd { u, s, vt: v.concat() }
}
/// The lines turned until they are orthogonal, the longest first.
fn orthogonal(mut lines: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    for _ in 0..SWEEPS {
        lines.sort_by(|a, b| dot(b, b).total_cmp(&dot(a, a)));
        let mut squares: Vec<f64> = lines.iter().map(|l| dot(l, l)).collect();
        let mut is_done = true;
        for j in 1..lines.len() {
            let (before, rest) = lines.split_at_mut(j);
            let second = &mut rest[0];
            for (i, first) in before.iter_mut().enumerate() {
                let d = dot(first, second);
                if d.abs() <= ORTHOGONAL * (squares[i] * squares[j]).sqrt() {
                    continue;
                }
                is_done = false;
                let zeta = (squares[j] - squares[i]) / (2.0 * d);
                let t = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
                let c = 1.0 / (1.0 + t * t).sqrt();
                for (x, y) in first.iter_mut().zip(second.iter_mut()) {
                    (*x, *y) = (c * *x - c * t * *y, c * t * *x + c * *y);
                }
                squares[i] -= t * d;
                squares[j] += t * d;
            }
        }
        if is_done {
            break;
        }
    }
    lines.sort_by(|a, b| dot(b, b).total_cmp(&dot(a, a)));
    lines
}
/// Orthonormal vectors that span all of these, and each of these in them.
fn basis(of: impl Iterator<Item = Vec<f64>>) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let all: Vec<Vec<f64>> = of.collect();
    let mut found: Vec<Vec<f64>> = vec![];
    for v in &all {
        found.extend(beside(v.clone(), &found));
    }
    let coordinates = found.iter().map(|q| all.iter().map(|v| dot(q, v)).collect()).collect();
    (found, coordinates)
}
/// The direction of what a vector has beside orthonormal ones; none if there is only rounding.
fn beside(mut v: Vec<f64>, basis: &[Vec<f64>]) -> Option<Vec<f64>> {
    let before = norm(&v);
    // twice is enough (Kahan, Parlett)
    without(&mut v, basis);
    without(&mut v, basis);
    let length = norm(&v);
    if length <= before * f64::EPSILON * v.len() as f64 {
        return None;
    }
    v.iter_mut().for_each(|x| *x /= length);
    Some(v)
}
/// Takes out of a vector what it has of orthonormal ones; gives how much that was.
fn without(v: &mut [f64], basis: &[Vec<f64>]) -> Vec<f64> {
    let one = |q: &Vec<f64>| {
        let along = dot(q, v);
        add(v, -along, q);
        along
    };
    basis.iter().map(one).collect()
}
/// So many orthonormal vectors of a length that begin with these.
fn completed(mut found: Vec<Vec<f64>>, length: usize, k: usize) -> Vec<Vec<f64>> {
    for i in 0..length {
        if found.len() == k {
            break;
        }
        let unit = (0..length).map(|j| f64::from(u8::from(i == j))).collect();
        // a direction that the others nearly span would be mostly rounding
        let share: f64 = found.iter().map(|q| q[i] * q[i]).sum();
        if share < 1.0 - 1e-8 {
            found.extend(beside(unit, &found));
        }
    }
    found
}
fn norm(v: &[f64]) -> f64 {
    dot(v, v).sqrt()
}
/// Σ x y, eight sums side by side.
fn dot(x: &[f64], y: &[f64]) -> f64 {
    let (mut sums, (x8, y8)) = ([0f64; 8], (x.chunks_exact(8), y.chunks_exact(8)));
    let rest: f64 = x8.remainder().iter().zip(y8.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in x8.zip(y8) {
        sums.iter_mut().zip(x).zip(y).for_each(|((s, x), y)| *s += x * y);
    }
    sums.iter().sum::<f64>() + rest
}
fn add(to: &mut [f64], factor: f64, v: &[f64]) {
    to.iter_mut().zip(v).for_each(|(to, v)| *to += factor * v);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reproducible values in (-1, 1).
    fn noise(seed: u64, n: usize) -> Vec<f64> {
        let mut s = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let next = move || {
            s = s.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (s >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        };
        std::iter::repeat_with(next).take(n).collect()
    }
    /// (m, k) times (k, n).
    fn product(a: &[f64], b: &[f64], (m, k, n): (usize, usize, usize)) -> Vec<f64> {
        let entry = |i: usize, j: usize| (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum();
        (0..m * n).map(|at| entry(at / n, at % n)).collect()
    }
    fn transposed(a: &[f64], (m, n): (usize, usize)) -> Vec<f64> {
        (0..m * n).map(|at| a[at % m * n + at / m]).collect()
    }
    fn differ(a: &[f64], b: &[f64]) -> f64 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).fold(0.0, |m, (a, b)| m.max((a - b).abs()))
    }
    /// U and V are orthonormal, s falls, and U diag(s) Vᵀ is `a` up to `error`.
    fn holds(found: &Svd, a: &[f64], (m, n): (usize, usize), error: f64) {
        let k = found.s.len();
        assert_eq!((found.u.len(), found.vt.len()), (m * k, k * n));
        assert!(found.s.windows(2).all(|w| w[0] >= w[1]) && found.s.iter().all(|s| *s >= 0.0));
        let one: Vec<f64> = (0..k * k).map(|i| f64::from(u8::from(i / k == i % k))).collect();
        let u = product(&transposed(&found.u, (m, k)), &found.u, (k, m, k));
        let v = product(&found.vt, &transposed(&found.vt, (k, n)), (k, n, k));
        assert!(differ(&u, &one) < 1e-12 && differ(&v, &one) < 1e-12, "({m}, {n}) {k}");
        let us: Vec<f64> = found.u.iter().enumerate().map(|(i, u)| u * found.s[i % k]).collect();
        let e = differ(&product(&us, &found.vt, (m, k, n)), a);
        assert!(e < error, "({m}, {n}): {e:e}");
    }

    #[test]
    fn what_is_put_together_again_is_the_matrix() {
        for (m, n) in [(1, 1), (1, 5), (5, 1), (7, 7), (9, 4), (4, 9), (33, 20), (20, 33)] {
            let a = noise((m * 64 + n) as u64, m * n);
            holds(&svd(&a, (m, n), m.min(n)).unwrap(), &a, (m, n), 1e-13);
        }
        let tiny: Vec<f64> = noise(1, 30).iter().map(|x| x * 1e-200).collect();
        holds(&svd(&tiny, (5, 6), 5).unwrap(), &tiny, (5, 6), 1e-213);
        let empty = svd(&[], (0, 3), 0).unwrap();
        assert!(empty.s.is_empty() && empty.u.is_empty() && empty.vt.is_empty());
    }
    #[test]
    fn known_values_multiple_ones_and_few_of_them() {
        // Qᵀ diag Q of orthogonal matrices, with values that are equal, small and 0
        let (m, n) = (12, 10);
        let s = [5.0, 5.0, 5.0, 2.0, 1.0, 1.0, 1e-3, 1e-9, 0.0, 0.0];
        let q = |seed: u64, n: usize| svd(&noise(seed, n * n), (n, n), n).unwrap().u;
        let (left, right) = (q(3, m), q(4, n));
        let scaled: Vec<f64> = (0..m * n).map(|at| left[at / n * m + at % n] * s[at % n]).collect();
        let a = product(&scaled, &right, (m, n, n));
        let whole = svd(&a, (m, n), n).unwrap();
        holds(&whole, &a, (m, n), 1e-13);
        assert!(differ(&whole.s, &s) < 1e-13, "{:?}", whole.s);
        assert!((whole.s[7] / 1e-9 - 1.0).abs() < 1e-5, "small ones too: {:e}", whole.s[7]);
        for k in 0..n {
            let cut = svd(&a, (m, n), k).unwrap();
            assert!(differ(&cut.s, &s[..k]) < 1e-13);
            // the nearest matrix of rank k is so far away
            let us: Vec<f64> = cut.u.iter().enumerate().map(|(i, u)| u * cut.s[i % k]).collect();
            let rest: f64 =
                a.iter().zip(product(&us, &cut.vt, (m, k, n))).map(|(a, b)| (a - b) * (a - b)).sum();
            let want: f64 = s[k..].iter().map(|s| s * s).sum();
            assert!((rest - want).abs() < 1e-12, "{k}: {rest} {want}");
        }
    }
    #[test]
    fn nothing_and_what_depends_on_others() {
        holds(&svd(&[0.0; 12], (3, 4), 3).unwrap(), &[0.0; 12], (3, 4), 1e-300);
        let a: Vec<f64> = (0..20).map(|i| f64::from(i / 5) * f64::from(i % 5)).collect();
        let found = svd(&a, (4, 5), 4).unwrap();
        holds(&found, &a, (4, 5), 1e-13);
        assert!(found.s[1..].iter().all(|s| *s == 0.0), "rank 1: {:?}", found.s);
        // it is the same every time
        assert_eq!(found, svd(&a, (4, 5), 4).unwrap());
    }
    #[test]
    fn of_a_product_as_of_the_matrix() {
        for (m, r, n, k) in
            [(9, 3, 7, 3), (9, 3, 7, 7), (4, 6, 5, 4), (5, 1, 1, 1), (3, 0, 4, 2), (30, 5, 20, 2)]
        {
            let (mut b, a) = (noise(7, m * r), noise(8, r * n));
            if r == 5 {
                (0..m).for_each(|i| b[i * r + 4] = 2.0 * b[i * r]); // it has rank 4
            }
            let whole = product(&b, &a, (m, r, n));
            let (one, other) = (of_product((&b, &a), (m, r, n), k).unwrap(), svd(&whole, (m, n), k).unwrap());
            assert!(differ(&one.s, &other.s) < 1e-13, "{:?} {:?}", one.s, other.s);
            let found = one.s.iter().filter(|s| **s > 0.0).count();
            assert_eq!(found, k.min(r.min(m).min(n)).min(if r == 5 { 4 } else { r }));
            if found < k || k >= r {
                holds(&one, &whole, (m, n), 1e-13);
            }
        }
    }
    #[test]
    fn what_cannot_be_decomposed_is_refused() {
        for (e, word) in [
            (svd(&[1.0; 5], (2, 3), 1), "no matrix (2, 3)"),
            (svd(&[1.0, f64::NAN], (1, 2), 1), "not finite"),
            (svd(&[1.0; 6], (2, 3), 3), "the matrix has 2"),
            (of_product((&[1.0; 2], &[1.0; 3]), (2, 2, 1), 1), "no matrix"),
        ] {
            let e = e.unwrap_err().to_string();
            assert!(e.contains(word), "{e}");
        }
    }
}
