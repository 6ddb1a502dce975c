//! How new weights start.
use crate::{Result, Tensor, tensor::upload};
use engraft_kernels::{Class, Device};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal, StandardUniform};

/// A distribution of initial values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Every value the same.
    Constant(f32),
    /// A matrix with one value on its diagonal and another elsewhere.
    Diagonal {
        /// On the diagonal.
        diagonal: f32,
        /// Elsewhere.
        elsewhere: f32,
    },
    /// N(0, deviation²).
    Normal(f32),
    /// U(-bound, bound).
    Uniform(f32),
    /// A square matrix, orthogonal: a product of so many reflections in random directions.
    Reflections(usize),
    /// N(0, deviation²), drawn again where it falls beyond ± bound.
    TruncatedNormal {
        /// Standard deviation.
        deviation: f32,
        /// Largest magnitude.
        bound: f32,
    },
    /// U(-b, b), b = 1 / √inputs: `kaiming_uniform_(a = √5)` of an (out, in) matrix (He et al.
    /// 2015), PyTorch's default.
    KaimingUniform,
}

impl Init {
    /// A new tensor. The same generator state gives the same values on every machine.
    pub fn tensor(
        self,
        device: &Device,
        class: Class,
        shape: &[usize],
        rng: &mut ChaCha8Rng,
    ) -> Result<Tensor> {
        let n = shape.iter().product::<usize>();
        let inputs = shape.last().copied().unwrap_or(1).max(1);
        let normal = |d: f32| {
            Normal::new(0.0f64, f64::from(d))
                .unwrap_or_else(|_| unreachable!("deviations are finite constants"))
        };
        let v: Vec<f32> = match self {
            Init::Constant(c) => vec![c; n],
            Init::Diagonal { diagonal, elsewhere } => {
                let at = |i: usize| if i / inputs == i % inputs { diagonal } else { elsewhere };
                (0..n).map(at).collect()
            }
            Init::Normal(d) => normal(d).sample_iter(rng).take(n).map(|x| x as f32).collect(),
            Init::TruncatedNormal { deviation, bound } => normal(deviation)
                .sample_iter(rng)
                .map(|x| x as f32)
                .filter(|x| x.abs() <= bound)
                .take(n)
                .collect(),
            Init::KaimingUniform => uniform(1.0 / (inputs as f64).sqrt(), n, rng),
            Init::Uniform(bound) => uniform(f64::from(bound), n, rng),
            Init::Reflections(count) => reflections(count, inputs, rng),
        };
        upload(device, class, &v, shape)
    }
}
/// Values of U(-bound, bound).
fn uniform(bound: f64, n: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let unit = |x: f64| ((2.0 * x - 1.0) * bound) as f32;
    Distribution::<f64>::sample_iter(StandardUniform, rng).take(n).map(unit).collect()
}
/// H₁ H₂ .. with H = I - 2 v vᵀ / |v|², v ~ N(0, 1): (n, n).
fn reflections(count: usize, n: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let mut q: Vec<f64> = (0..n * n).map(|i| f64::from(u8::from(i / n == i % n))).collect();
    for _ in 0..count {
        let v: Vec<f64> = rand_distr::StandardNormal.sample_iter(&mut *rng).take(n).collect();
        let scale = 2.0 / v.iter().map(|x| x * x).sum::<f64>();
        for row in q.chunks_exact_mut(n) {
            let along = scale * row.iter().zip(&v).map(|(q, v)| q * v).sum::<f64>();
            row.iter_mut().zip(&v).for_each(|(q, v)| *q -= along * v);
        }
    }
    q.into_iter().map(|x| x as f32).collect()
}
