//! Class-conditional Gaussians with one covariance: linear discriminant analysis with equal priors.
//!
//! With N vectors h, n_t of them of task t, whose mean is m_t,
//!
//! ```text
//! S   = 1/N sum_t sum_i (h_i - m_t)(h_i - m_t)'  +  l I       l = 0.01 trace / H
//! d_t = (h - m_t)' S^-1 (h - m_t)
//! ```
//! and a text is of the task with the least d_t, the squared distance of Mahalanobis (Lee et al. 2018,
//! arXiv 1807.03888; for sentences Podolskiy et al. 2021, arXiv 2101.03778).
use crate::{Error, Result};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

/// The share of the mean variance that is added to every variance.
const SHRINKAGE: f64 = 1e-2;

/// Sums over the vectors of several tasks, from which Gaussians are made: vectors are added part by
/// part, and not kept.
#[derive(Clone, Debug)]
pub struct Moments {
    /// Vectors of each task.
    counts: Vec<usize>,
    /// Their sums, (tasks, channels).
    sums: Array2<f64>,
    /// The sum of all h h', (channels, channels).
    products: Array2<f64>,
}

impl Moments {
    /// Of so many tasks, of vectors of so many channels; none is there yet.
    pub fn new(tasks: usize, channels: usize) -> Moments {
        Moments {
            counts: vec![0; tasks],
            sums: Array2::zeros((tasks, channels)),
            products: Array2::zeros((channels, channels)),
        }
    }
    /// Adds vectors of a task, (vectors, channels).
    pub fn add(&mut self, task: usize, h: ArrayView2<'_, f32>) {
        if h.nrows() == 0 {
            return;
        }
        let h = h.mapv(f64::from);
        self.counts[task] += h.nrows();
        self.sums.row_mut(task).scaled_add(1.0, &h.sum_axis(Axis(0)));
        self.products += &h.t().dot(&h);
    }
    /// The Gaussians. An error where a task has no vector, or vectors hold what are no numbers.
    pub fn gaussians(&self) -> Result<Gaussians> {
        if let Some(task) = self.counts.iter().position(|n| *n == 0) {
            return Err(Error::Model(format!("task {task} has no text to learn from")));
        }
        let n = self.counts.iter().sum::<usize>() as f64;
        let counts: Array1<f64> = self.counts.iter().map(|n| *n as f64).collect();
        let mean = &self.sums / &counts.view().insert_axis(Axis(1));
        // sum over tasks of (h - m)(h - m)' = products - sum_t n_t m_t m_t'
        let mut covariance = (&self.products - &self.sums.t().dot(&mean)) / n;
        let mean_of = |squares: f64| squares / covariance.nrows().max(1) as f64;
        let (variance, square) = (mean_of(covariance.diag().sum()), mean_of(self.products.diag().sum() / n));
        // what is left of equal vectors is rounding
        if !(variance.is_finite() && variance > 1e-12 * square) {
            return Err(Error::Model("the vectors of the texts do not differ, or are no numbers".into()));
        }
        covariance.diag_mut().mapv_inplace(|x| x + SHRINKAGE * variance);
        let factor = inverse(&cholesky(&covariance)?);
        Ok(Gaussians { mean: mean.mapv(|x| x as f32), precision: factor.t().mapv(|x| x as f32) })
    }
}

/// A mean for each task, and one covariance.
#[derive(Clone, Debug, PartialEq)]
pub struct Gaussians {
    /// (tasks, channels).
    pub mean: Array2<f32>,
    /// P with S^-1 = P P', above the diagonal: scikit-learn's `precision_cholesky`, (channels,
    /// channels).
    pub precision: Array2<f32>,
}

impl Gaussians {
    /// The squared distance of each vector from each task, (vectors, tasks).
    pub fn distances(&self, h: ArrayView2<'_, f32>) -> Array2<f64> {
        let precision = self.precision.mapv(f64::from);
        // |P'(h - m)|^2 = |h P - m P|^2
        let (h, mean) = (h.mapv(f64::from).dot(&precision), self.mean.mapv(f64::from).dot(&precision));
        Array2::from_shape_fn((h.nrows(), mean.nrows()), |(i, t)| {
            h.row(i).iter().zip(mean.row(t)).map(|(a, b)| (a - b).powi(2)).sum()
        })
    }
    /// The baseline: the cosine of the angle between each vector and the mean of each task.
    pub fn cosines(&self, h: ArrayView2<'_, f32>) -> Array2<f64> {
        let (h, mean) = (h.mapv(f64::from), self.mean.mapv(f64::from));
        let norm = |v: ArrayView1<'_, f64>| v.dot(&v).sqrt().max(1e-30);
        let products = h.dot(&mean.t());
        Array2::from_shape_fn(products.raw_dim(), |(i, t)| {
            products[(i, t)] / (norm(h.row(i)) * norm(mean.row(t)))
        })
    }
}

/// L below the diagonal with L L' = A. An error where A is not positive definite.
fn cholesky(a: &Array2<f64>) -> Result<Array2<f64>> {
    let n = a.nrows();
    let mut l = Array2::<f64>::zeros((n, n));
    for j in 0..n {
        let row = l.row(j).to_owned();
        let pivot = a[(j, j)] - row.dot(&row);
        if !(pivot.is_finite() && pivot > 0.0) {
            return Err(Error::Model("the covariance of the texts' vectors is not positive definite".into()));
        }
        l[(j, j)] = pivot.sqrt();
        for i in j + 1..n {
            let rest = a[(i, j)] - l.row(i).dot(&row);
            l[(i, j)] = rest / l[(j, j)];
        }
    }
    Ok(l)
}

/// The inverse of what stands below the diagonal.
fn inverse(l: &Array2<f64>) -> Array2<f64> {
    let n = l.nrows();
    let mut x = Array2::<f64>::zeros((n, n));
    for i in 0..n {
        // row i of L X = I: L[i, i] X[i] = I[i] - sum_{k < i} L[i, k] X[k]
        let mut row = Array1::<f64>::zeros(n);
        row[i] = 1.0;
        for k in 0..i {
            row.scaled_add(-l[(i, k)], &x.row(k));
        }
        x.row_mut(i).assign(&(row / l[(i, i)]));
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;
    use proptest::prelude::*;

    fn numbers(seed: u64, rows: usize, cols: usize) -> Array2<f64> {
        let mut s = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Array2::from_shape_simple_fn((rows, cols), || {
            s = s.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (s >> 40) as f64 / (1u64 << 24) as f64 - 0.5
        })
    }
    fn largest(a: &Array2<f64>) -> f64 {
        a.iter().fold(0.0, |m, x| m.max(x.abs()))
    }

    proptest! {
        #[test]
        fn a_factor_gives_its_matrix_and_its_inverse_one(n in 0usize..12, seed in 1u64..99) {
            let x = numbers(seed, n, n);
            let a = x.dot(&x.t()) + Array2::<f64>::eye(n) * 0.1;
            let l = cholesky(&a).unwrap();
            prop_assert!(largest(&(l.dot(&l.t()) - &a)) < 1e-12);
            prop_assert!(largest(&(inverse(&l).dot(&l) - Array2::<f64>::eye(n))) < 1e-9);
            prop_assert!(l.indexed_iter().all(|((i, j), x)| j <= i || *x == 0.0));
        }

        #[test]
        fn distances_are_those_of_the_formula(
            counts in prop::collection::vec(1usize..9, 1..4), channels in 1usize..6, seed in 1u64..99,
        ) {
            let all: Vec<Array2<f32>> = counts.iter().enumerate()
                .map(|(t, n)| numbers(seed + t as u64, *n, channels).mapv(|x| x as f32 + t as f32)).collect();
            let mut moments = Moments::new(counts.len(), channels);
            for (t, h) in all.iter().enumerate() {
                // in parts, as files are read
                let (a, b) = h.view().split_at(Axis(0), h.nrows() / 2);
                moments.add(t, a);
                moments.add(t, b);
            }
            let n: usize = counts.iter().sum();
            let mut s = Array2::<f64>::zeros((channels, channels));
            let means: Vec<Array1<f64>> =
                all.iter().map(|h| h.mapv(f64::from).mean_axis(Axis(0)).unwrap()).collect();
            for (h, m) in all.iter().zip(&means) {
                let d = h.mapv(f64::from) - m;
                s += &(d.t().dot(&d) / n as f64);
            }
            let trace = s.diag().sum();
            if trace == 0.0 {
                prop_assert!(moments.gaussians().is_err(), "every text is a mean of its own");
                return Ok(());
            }
            s += &(Array2::<f64>::eye(channels) * (0.01 * trace / channels as f64));
            let g = moments.gaussians().unwrap();
            let h = numbers(seed + 100, 3, channels).mapv(|x| x as f32);
            let (found, solved) = (g.distances(h.view()), inverse(&cholesky(&s).unwrap()));
            for (i, h) in h.rows().into_iter().enumerate() {
                for (t, m) in means.iter().enumerate() {
                    let x = solved.dot(&(h.mapv(f64::from) - m));
                    let expected = x.dot(&x);
                    prop_assert!((found[(i, t)] - expected).abs() < 1e-3 * (1.0 + expected), "{} {expected}", found[(i, t)]);
                }
            }
        }
    }

    #[test]
    fn golden_numbers() {
        let mut moments = Moments::new(2, 2);
        moments.add(0, array![[1.0f32, 0.0], [3.0, 0.0], [2.0, 3.0]].view());
        moments.add(1, array![[-1.0f32, 1.0], [-3.0, 1.0]].view());
        let g = moments.gaussians().unwrap();
        assert_eq!(g.mean, array![[2.0, 1.0], [-2.0, 1.0]]);
        // S = [[4, 0], [0, 6]] / 5 + 0.01 = diag(0.81, 1.21)
        assert!(
            (g.precision[(0, 0)] - 1.0 / 0.9).abs() < 1e-6 && (g.precision[(1, 1)] - 1.0 / 1.1).abs() < 1e-6
        );
        let d = g.distances(array![[0.0f32, 1.0], [2.0, 2.1]].view());
        assert!((d[(0, 0)] - 4.0 / 0.81).abs() < 1e-5 && (d[(0, 1)] - 4.0 / 0.81).abs() < 1e-5);
        assert!((d[(1, 0)] - 1.0).abs() < 1e-5 && (d[(1, 1)] - (16.0 / 0.81 + 1.0)).abs() < 1e-4);
        let c = g.cosines(array![[4.0f32, 2.0]].view());
        assert!((c[(0, 0)] - 1.0).abs() < 1e-7 && (c[(0, 1)] + 6.0 / 10.0).abs() < 1e-7);
    }

    #[test]
    fn what_is_no_gaussian_is_refused() {
        assert!(Moments::new(1, 2).gaussians().unwrap_err().to_string().contains("no text"));
        let same = |x: f32| {
            let mut moments = Moments::new(1, 2);
            moments.add(0, array![[x, x], [x, x]].view());
            moments.gaussians().unwrap_err().to_string()
        };
        assert!(same(1.0).contains("do not differ") && same(f32::NAN).contains("no numbers"));
    }
}
