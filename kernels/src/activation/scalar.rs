//! The formulas, one number at a time, in double precision: the reference.
use super::{Activation, LAPLACE_MU, LAPLACE_SIGMA, SOFT_EXP};
use std::f64::consts::{FRAC_1_SQRT_2, PI};

fn phi(x: f64) -> f64 {
    0.5 * libm::erfc(-x * FRAC_1_SQRT_2)
}
fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}
fn inner(x: f64) -> f64 {
    (2.0 / PI).sqrt() * (x + 0.044715 * x * x * x)
}
fn normal(x: f64) -> f64 {
    (-0.5 * x * x).exp() / (2.0 * PI).sqrt()
}
/// What the normal distribution of `Laplace` is a function of.
fn laplace(x: f64) -> f64 {
    (x - f64::from(LAPLACE_MU)) / f64::from(LAPLACE_SIGMA)
}
/// What bounds the exponent of `SoftExp`, and its slope at 0.
fn soft_exp() -> [f64; 2] {
    SOFT_EXP.map(f64::from)
}

/// f(x).
pub fn value(f: Activation, x: f64) -> f64 {
    match f {
        Activation::Gelu => x * phi(x),
        Activation::GeluTanh => 0.5 * x * (1.0 + inner(x).tanh()),
        Activation::Gelu10 => (x * phi(x)).clamp(-10.0, 10.0),
        Activation::QuickGelu => x * sigmoid(1.702 * x),
        Activation::Relu => x.max(0.0),
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::Relu2 => x.max(0.0) * x.max(0.0),
        Activation::LeakyRelu => {
            if x > 0.0 {
                x
            } else {
                0.01 * x
            }
        }
        Activation::Silu => x * sigmoid(x),
        Activation::Mish => x * softplus(x).tanh(),
        Activation::Sigmoid => sigmoid(x),
        Activation::Tanh => x.tanh(),
        Activation::Laplace => phi(laplace(x)),
        Activation::SoftExp => {
            let [bound, rate] = soft_exp();
            (bound * rate * (x / bound).atan()).exp()
        }
        Activation::Linear => x,
    }
}

/// f'(x); at a kink the smaller of the two slopes, as PyTorch.
pub fn derivative(f: Activation, x: f64) -> f64 {
    match f {
        Activation::Gelu => phi(x) + x * normal(x),
        Activation::GeluTanh => {
            let t = inner(x).tanh();
            0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * (2.0 / PI).sqrt() * (1.0 + 3.0 * 0.044715 * x * x)
        }
        Activation::Gelu10 => {
            if x * phi(x) >= 10.0 {
                0.0
            } else {
                phi(x) + x * normal(x)
            }
        }
        Activation::QuickGelu => {
            let s = sigmoid(1.702 * x);
            s + 1.702 * x * s * (1.0 - s)
        }
        Activation::Relu => {
            if x > 0.0 {
                1.0
            } else {
                0.0
            }
        }
        Activation::Relu6 => {
            if x > 0.0 && x < 6.0 {
                1.0
            } else {
                0.0
            }
        }
        Activation::Relu2 => 2.0 * x.max(0.0),
        Activation::LeakyRelu => {
            if x > 0.0 {
                1.0
            } else {
                0.01
            }
        }
        Activation::Silu => {
            let s = sigmoid(x);
            s * (1.0 + x * (1.0 - s))
        }
        Activation::Mish => {
            let t = softplus(x).tanh();
            t + x * (1.0 - t * t) * sigmoid(x)
        }
        Activation::Sigmoid => sigmoid(x) * (1.0 - sigmoid(x)),
        Activation::Tanh => 1.0 - x.tanh() * x.tanh(),
        Activation::Laplace => normal(laplace(x)) / f64::from(LAPLACE_SIGMA),
        Activation::SoftExp => {
            let [bound, rate] = soft_exp();
            value(f, x) * rate / (1.0 + (x / bound) * (x / bound))
        }
        Activation::Linear => 1.0,
    }
}
