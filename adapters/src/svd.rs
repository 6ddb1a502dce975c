//! The largest singular values of a matrix with their vectors, in double precision.
//!
//! W V = U R on a growing orthonormal basis V: the singular triplets of the small triangle R give
//! those of W on it (Rayleigh-Ritz). V grows by Wᵀ u of the newest u, as in the bidiagonalisation
//! of Golub & Kahan (1965), with all of V orthogonalised against, twice. A triplet is good when Wᵀ
//! u - σ v is next to nothing. One direction can miss the second of two equal singular values, so
//! the basis goes on from a random direction when all are good, and they have to stay so. It ends
//! where V spans all that W has: then the triplets are exact.

/// A triplet σ u vᵀ.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Triplet {
    pub value: f64,
    /// As many as W has rows.
    pub left: Vec<f64>,
    /// As many as W has columns.
    pub right: Vec<f64>,
}

/// What may be left of a triplet, relative to the largest value.
const TOLERANCE: f64 = 1e-7;
/// Smaller values, relative to the largest, are none.
const NOTHING: f64 = 1e-12;

/// The r largest triplets of W (rows, cols), largest first: fewer, where W has no more.
pub(crate) fn largest(w: &[f32], (rows, cols): (usize, usize), r: usize) -> Vec<Triplet> {
    let mut basis = Basis { w, rows, cols, v: vec![], u: vec![], r: vec![], random: Random(1) };
    let most = rows.min(cols);
    let (mut next, mut was, mut is_confirmed) = (2 * r + 16, vec![], false);
    while basis.v.len() < most && basis.grow(false) {
        if basis.v.len() < next || basis.v.len() == most {
            continue;
        }
        let found = basis.triplets(r);
        let top = found.first().map_or(0.0, |t| t.value);
        let values: Vec<f64> = found.iter().map(|t| t.value).collect();
        let is_same = |(a, b): (&f64, &f64)| (a - b).abs() <= TOLERANCE * top;
        let is_good = found.iter().all(|t| basis.rest(t) <= TOLERANCE * top);
        if is_good && is_confirmed && values.iter().zip(&was).all(is_same) {
            return found;
        }
        is_confirmed = is_good;
        if is_good && !basis.grow(true) {
            break;
        }
        (was, next) = (values, basis.v.len() + 16 + basis.v.len() / 3);
    }
    basis.triplets(r)
}
/// The r largest triplets as so many iterations on a random subspace find them (Halko, Martinsson &
/// Tropp 2011, algorithm 4.4), which is 10 wider than asked for.
pub(crate) fn iterated(w: &[f32], (rows, cols): (usize, usize), r: usize, iterations: usize) -> Vec<Triplet> {
    let mut basis = Basis { w, rows, cols, v: vec![], u: vec![], r: vec![], random: Random(1) };
    let width = (r + 10).min(rows.min(cols));
    let mut span: Vec<Vec<f64>> = (0..width).map(|_| basis.random.vector(rows)).collect();
    for _ in 0..=iterations {
        let turned = orthonormal(span.iter().map(|u| basis.transposed_times(u)));
        basis.v.clone_from(&turned);
        span = orthonormal(turned.iter().map(|v| basis.times(v)));
    }
    for v in std::mem::take(&mut basis.v) {
        basis.push(v);
    }
    basis.triplets(r)
}

struct Basis<'w> {
    w: &'w [f32],
    rows: usize,
    cols: usize,
    v: Vec<Vec<f64>>,
    u: Vec<Vec<f64>>,
    /// The columns of R, each down to the diagonal.
    r: Vec<Vec<f64>>,
    random: Random,
}
impl Basis<'_> {
    /// W v.
    fn times(&self, v: &[f64]) -> Vec<f64> {
        let row = |row: &[f32]| row.iter().zip(v).map(|(w, v)| f64::from(*w) * v).sum();
        self.w.chunks_exact(self.cols).map(row).collect()
    }
    /// Wᵀ u.
    fn transposed_times(&self, u: &[f64]) -> Vec<f64> {
        let mut y = vec![0.0; self.cols];
        for (row, u) in self.w.chunks_exact(self.cols).zip(u) {
            y.iter_mut().zip(row).for_each(|(y, w)| *y += u * f64::from(*w));
        }
        y
    }
    /// One direction more; false if W has no more.
    fn grow(&mut self, anywhere: bool) -> bool {
        let from = match self.u.last().filter(|_| !anywhere) {
            Some(u) => u.clone(),
            None => self.random.vector(self.rows),
        };
        let v = self.transposed_times(&from);
        if let Some(v) = unit(v, &self.v) {
            self.push(v);
            return true;
        }
        // nothing new that way: another one
        let other = self.random.vector(self.rows);
        let v = unit(self.transposed_times(&other), &self.v);
        v.map(|v| self.push(v)).is_some()
    }
    fn push(&mut self, v: Vec<f64>) {
        let mut y = self.times(&v);
        let mut column = against(&mut y, &self.u);
        let again = against(&mut y, &self.u);
        column.iter_mut().zip(again).for_each(|(c, more)| *c += more);
        let norm = length(&y);
        column.push(norm);
        let scale = if norm > 0.0 { norm.recip() } else { 0.0 };
        y.iter_mut().for_each(|y| *y *= scale);
        self.v.push(v);
        self.u.push(y);
        self.r.push(column);
    }
    /// |Wᵀ u - σ v|
    fn rest(&self, t: &Triplet) -> f64 {
        let y = self.transposed_times(&t.left);
        let gap = y.iter().zip(&t.right).map(|(y, v)| (y - t.value * v).powi(2)).sum::<f64>();
        gap.sqrt()
    }
    /// The r largest that the basis has.
    fn triplets(&self, r: usize) -> Vec<Triplet> {
        let n = self.r.len();
        let padded = |column: &Vec<f64>| column.iter().copied().chain(vec![0.0; n - column.len()]).collect();
        // R Q = P Σ, columns made orthogonal by rotations
        let mut p: Vec<Vec<f64>> = self.r.iter().map(padded).collect();
        let mut q: Vec<Vec<f64>> =
            (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect();
        rotate(&mut p, &mut q);
        let mut order: Vec<(f64, usize)> = p.iter().map(|column| length(column)).zip(0..).collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0));
        let combined = |of: &[Vec<f64>], with: &[f64], len: usize, scale: f64| {
            let mut y = vec![0.0; len];
            for (x, c) in of.iter().zip(with) {
                y.iter_mut().zip(x).for_each(|(y, x)| *y += scale * c * x);
            }
            y
        };
        let one = |(value, i): (f64, usize)| Triplet {
            value,
            left: combined(&self.u, &p[i], self.rows, value.recip()),
            right: combined(&self.v, &q[i], self.cols, 1.0),
        };
        let least = NOTHING * order.first().map_or(0.0, |(value, _)| *value);
        order.into_iter().take(r).filter(|(value, _)| *value > least).map(one).collect()
    }
}
/// Makes the columns of p orthogonal by rotations of pairs of them, which q takes part in
/// (one-sided Jacobi, Hestenes 1958).
fn rotate(p: &mut [Vec<f64>], q: &mut [Vec<f64>]) {
    const SWEEPS: usize = 60;
    for _ in 0..SWEEPS {
        let mut is_done = true;
        for i in 0..p.len() {
            for j in i + 1..p.len() {
                let (a, b, c) = (dot(&p[i], &p[i]), dot(&p[j], &p[j]), dot(&p[i], &p[j]));
                if c == 0.0 || c.abs() <= 1e-14 * (a * b).sqrt() {
                    continue;
                }
                is_done = false;
                let zeta = (b - a) / (2.0 * c);
                let t = zeta.signum() / (zeta.abs() + zeta.hypot(1.0));
                let cos = t.hypot(1.0).recip();
                for m in [&mut *p, &mut *q] {
                    let (front, back) = m.split_at_mut(j);
                    for (x, y) in front[i].iter_mut().zip(&mut back[0]) {
                        (*x, *y) = (cos * (*x - t * *y), cos * (t * *x + *y));
                    }
                }
            }
        }
        if is_done {
            return;
        }
    }
}
fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
fn length(x: &[f64]) -> f64 {
    dot(x, x).sqrt()
}
/// x without what it has of each of these; gives how much that was.
fn against(x: &mut [f64], of: &[Vec<f64>]) -> Vec<f64> {
    let one = |b: &Vec<f64>| {
        let along = dot(x, b);
        x.iter_mut().zip(b).for_each(|(x, b)| *x -= along * b);
        along
    };
    of.iter().map(one).collect()
}
/// x without what it has of these, of length 1; none if nothing is left.
fn unit(mut x: Vec<f64>, of: &[Vec<f64>]) -> Option<Vec<f64>> {
    let before = length(&x);
    against(&mut x, of);
    against(&mut x, of);
    let after = length(&x);
    if !(after > NOTHING * before && after > 0.0) {
        return None;
    }
    x.iter_mut().for_each(|x| *x /= after);
    Some(x)
}
fn orthonormal(of: impl Iterator<Item = Vec<f64>>) -> Vec<Vec<f64>> {
    let mut all: Vec<Vec<f64>> = vec![];
    for x in of {
        all.extend(unit(x, &all));
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

    /// U diag(s) Vᵀ with random orthonormal U and V.
    fn made((rows, cols): (usize, usize), s: &[f64], seed: u64) -> Vec<f32> {
        let mut random = Random(seed);
        let mut span =
            |n: usize| orthonormal((0..s.len()).map(|_| random.vector(n)).collect::<Vec<_>>().into_iter());
        let (u, v) = (span(rows), span(cols));
        let at = |i: usize| {
            s.iter().enumerate().map(|(k, s)| s * u[k][i / cols] * v[k][i % cols]).sum::<f64>() as f32
        };
        (0..rows * cols).map(at).collect()
    }
    /// What a matrix is without its triplets, against what it should be without its largest values.
    fn check(w: &[f32], (rows, cols): (usize, usize), s: &[f64], found: &[Triplet]) {
        let top = s.first().copied().unwrap_or(1.0).max(1e-30);
        for (t, s) in found.iter().zip(s) {
            assert!((t.value - s).abs() < 2e-7 * top, "{} {s}", t.value);
            assert!((length(&t.left) - 1.0).abs() < 1e-9 && (length(&t.right) - 1.0).abs() < 1e-9);
        }
        let rest = (0..rows * cols).map(|i| {
            let sum = |t: &Triplet| t.value * t.left[i / cols] * t.right[i % cols];
            f64::from(w[i]) - found.iter().map(sum).sum::<f64>()
        });
        let rest = rest.map(|x| x * x).sum::<f64>().sqrt();
        let want = s.iter().skip(found.len()).map(|s| s * s).sum::<f64>().sqrt();
        assert!((rest - want).abs() < 1e-6 * top, "{rest} {want}");
    }
    #[test]
    fn largest_triplets_of_known_matrices() {
        let slow: Vec<f64> = (0..60).map(|i| 3.0 * 0.99f64.powi(i)).collect();
        for (shape, s, r) in [
            ((1, 1), vec![2.0], 1),
            ((7, 3), vec![3.0, 2.0, 1.0], 2),
            ((3, 7), vec![3.0, 2.0, 1.0], 3),
            ((90, 70), slow.clone(), 8),
            ((60, 130), slow, 20),
            // equal ones, and a matrix of a low rank
            ((80, 90), vec![3.0, 3.0, 3.0, 1.0, 1.0, 0.5, 0.5], 4),
            ((90, 80), vec![1.0; 50], 30),
            ((40, 40), vec![5.0, 1e-3], 2),
        ] {
            let w = made(shape, &s, 7);
            let found = largest(&w, shape, r);
            assert_eq!(found.len(), r);
            check(&w, shape, &s, &found);
        }
    }
    #[test]
    fn a_matrix_has_no_more_than_its_rank() {
        assert_eq!(largest(&[0.0; 12], (3, 4), 2), []);
        assert_eq!(iterated(&[0.0; 12], (3, 4), 2, 3), []);
        let ones = largest(&[1.0; 12], (3, 4), 2);
        assert!((ones[0].value - 12f64.sqrt()).abs() < 1e-12);
        assert!(ones.iter().skip(1).all(|t| t.value < 1e-12));
        let mut unit = vec![0.0; 50 * 50];
        unit.iter_mut().step_by(51).for_each(|x| *x = 1.0);
        let found = largest(&unit, (50, 50), 5);
        assert!(found.len() == 5 && found.iter().all(|t| (t.value - 1.0).abs() < 1e-12));
    }
    #[test]
    fn iterations_come_near() {
        let s: Vec<f64> = (0..50).map(|i| 0.8f64.powi(i)).collect();
        let w = made((60, 70), &s, 3);
        let gap = |n: usize| {
            let found = iterated(&w, (60, 70), 4, n);
            found.iter().zip(&s).map(|(t, s)| (t.value - s).abs()).fold(0.0, f64::max)
        };
        assert!(gap(0) < 0.1 && gap(4) < 1e-5 && gap(4) < gap(0));
        check(&w, (60, 70), &s, &iterated(&w, (60, 70), 4, 30));
    }
}
