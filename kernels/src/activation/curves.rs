//! The formulas, a vector at a time.
use crate::simd::{
    F32s,
    math::{self, Tail},
};

/// A non-linearity on vectors.
pub(super) trait Curve {
    /// f(x).
    fn value<V: F32s>(x: V) -> V;
    /// f'(x).
    fn derivative<V: F32s>(x: V) -> V;
}

macro_rules! curves { ($($name:ident: |$x:ident| $value:block, $derivative:block)*) => { $(
    pub(super) struct $name;
    impl Curve for $name {
        #[inline(always)]
        fn value<V: F32s>($x: V) -> V $value
        #[inline(always)]
        fn derivative<V: F32s>($x: V) -> V $derivative
    }
)* } }

/// 1 / √(2π): the density of the normal distribution at 0.
const DENSITY: f32 = 0.398_942_3;
/// 2 √(2/π): twice the slope of the tanh in GELU's approximation. 0.5 (1 + tanh u) is σ(2u),
/// without cancellation.
const SLOPE: f32 = 1.595_769;
const CUBIC: f32 = 0.044_715;

curves! {
    Gelu: |x| {
        // with t = |x|: max(x, 0) - t Φ(-t)
        let Tail { t, gaussian, ratio } = math::tail(x);
        (-t).fma(gaussian * ratio, x.all(0.0).max(x))
    }, {
        // of -t; that of t is what is left to 1
        let Tail { t, gaussian, ratio } = math::tail(x);
        let d = (-t).fma(x.all(DENSITY), ratio) * gaussian;
        x.if_less(0.0, d, x.all(1.0) - d)
    }
    GeluTanh: |x| {
        let u = (x * x).fma(x.all(SLOPE * CUBIC), x.all(SLOPE)) * x;
        x * math::sigmoid(u).0
    }, {
        let x = x.clamp(-30.0, 30.0); // beyond, the tanh is ±1
        let square = x * x;
        let (s, not) = math::sigmoid(square.fma(x.all(SLOPE * CUBIC), x.all(SLOPE)) * x);
        let slope = square.fma(x.all(3.0 * SLOPE * CUBIC), x.all(SLOPE));
        (x * s * not).fma(slope, s)
    }
    Gelu10: |x| { Gelu::value(x).clamp(-10.0, 10.0) }, {
        // of all x, only those from 10 on have values of 10 and more
        x.if_less(10.0, Gelu::derivative(x), x.all(0.0))
    }
    QuickGelu: |x| { x * math::sigmoid(x * 1.702).0 }, {
        let (s, not) = math::sigmoid(x * 1.702);
        (x * s * 1.702).fma(not, s)
    }
    Relu: |x| { x.if_less(0.0, x.all(0.0), x) }, { (-x).if_less(0.0, x.all(1.0), x.all(0.0)) }
    Relu6: |x| { x.clamp(0.0, 6.0) }, {
        x.if_less(6.0, Relu::derivative(x), x.all(0.0))
    }
    Relu2: |x| { Relu::value(x) * Relu::value(x) }, { Relu::value(x) * 2.0 }
    LeakyRelu: |x| { (-x).if_less(0.0, x, x * 0.01) }, { (-x).if_less(0.0, x.all(1.0), x.all(0.01)) }
    Silu: |x| { x * math::sigmoid(x).0 }, {
        let (s, not) = math::sigmoid(x);
        (x * s).fma(not, s)
    }
    Mish: |x| { x * mish(x).0 }, {
        let (t, not, sigma) = mish(x);
        (x.clamp(-104.0, 20.0) * sigma).fma(not, t)
    }
    Sigmoid: |x| { math::sigmoid(x).0 }, {
        let (s, not) = math::sigmoid(x);
        s * not
    }
    Tanh: |x| { math::tanh(x).0 }, { math::tanh(x).1 }
    Laplace: |x| { math::normal((x + -super::LAPLACE_MU) * (1.0 / super::LAPLACE_SIGMA)).0 }, {
        let gaussian = math::normal((x + -super::LAPLACE_MU) * (1.0 / super::LAPLACE_SIGMA)).1;
        gaussian * (DENSITY / super::LAPLACE_SIGMA)
    }
    SoftExp: |x| { soft_exp(x).0 }, {
        let (y, slope) = soft_exp(x);
        y * slope
    }
    Linear: |x| { x }, { x.all(1.0) }
}

/// (f(x), f'(x) / f(x)) of `SoftExp`.
#[inline(always)]
fn soft_exp<V: F32s>(x: V) -> (V, V) {
    let [bound, rate] = super::SOFT_EXP;
    let u = x * (1.0 / bound);
    let y = math::exp(math::atan(u) * (bound * rate));
    let t = u.clamp(-1e18, 1e18); // whose square is a number
    (y, t.fma(t, x.all(1.0)).recip() * rate)
}

/// With e = eˣ and n = e (e + 2): tanh(log(1 + e)) = n / (n + 2), one minus its square,
/// and e / (1 + e).
#[inline(always)]
fn mish<V: F32s>(x: V) -> (V, V, V) {
    let e = math::exp(x.clamp(-104.0, 20.0)); // beyond 20, tanh gives 1
    let n = e * (e + 2.0);
    let r = (n + 2.0).recip();
    let t = n * r;
    (t, (t + 1.0) * r * 2.0, e * (e + 1.0).recip())
}
