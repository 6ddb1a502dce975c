//! exp, the normal distribution, tanh and the logistic function, by polynomials. NaN gives NaN. The errors stated are
//! relative, against double precision over all floats, and tested.
use super::{F32s, Simd};
use std::f32::consts::LOG2_E;

/// The logarithm of the smallest normal number.
const LOWEST: f32 = -87.336_54;

/// eˣ to 1.2e-7, and 0 below the normal numbers (on those the processor is a hundred times slower): 2ⁿ eʳ with
/// |r| ≤ ln 2 / 2.
#[inline(always)]
pub(crate) fn exp<V: F32s>(x: V) -> V {
    let raw = x;
    let x = x.clamp(LOWEST, 89.0); // from 88.73 on: infinity
    let n = (x * LOG2_E).round();
    // ln 2 in two parts; n times the first is exact
    let r = n.fma(x.all(-6.931_457_5e-1), x);
    let r = n.fma(x.all(-1.428_606_8e-6), r);
    let p = r.polynomial([
        1.378_059_4e-3,
        8.373_124_5e-3,
        4.166_953_6e-2,
        1.666_647_2e-1,
        4.999_998_5e-1,
        1.0,
        1.0,
    ]);
    raw.if_less(LOWEST, x.all(0.0), p.scale2(n))
}

/// (Φ(x), exp(-x²/2)), Φ the normal distribution, each to 4e-7 where the result is a normal number.
///
/// With a = |x|/√2, (1 + 2a) exp(a²) erfc(a) is smooth, a polynomial in q = (a - 2) / (a + 2) (N. Juffa's fit); so both
/// tails keep their relative accuracy.
#[inline(always)]
pub(crate) fn normal<V: F32s>(x: V) -> (V, V) {
    let x = x.clamp(-15.0, 15.0); // beyond: 0 and 1
    let square = x * x;
    let e = exp(square * -0.5);
    // what rounding took from x² counts: the exponent is large where Φ is small
    let e = (e * -0.5).fma(x.square_rest(square), e);
    let a = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let (two, one) = (a + 2.0, a.fma(a.all(2.0), a.all(1.0)));
    let r = a.all(1.0) / (two * one);
    let q = (a + -2.0) * one * r;
    let p = q.polynomial([
        -4.011_392_6e-4,
        -1.230_752_1e-3,
        1.313_553_4e-3,
        8.632_274e-3,
        -8.059_92e-3,
        -5.420_466e-2,
        1.640_553_9e-1,
        -1.660_313_6e-1,
        -9.276_398e-2,
        2.769_784e-1,
    ]);
    let scaled = two * r * 0.5;
    let tail = p.fma(scaled, scaled) * e;
    (x.if_less(0.0, tail, x.all(1.0) - tail), e)
}

/// (σ(x), 1 - σ(x)), σ(x) = 1 / (1 + e⁻ˣ), each to 3e-7.
#[inline(always)]
pub(crate) fn sigmoid<V: F32s>(x: V) -> (V, V) {
    let e = exp(-x.abs());
    let large = x.all(1.0) / (e + 1.0);
    let small = e * large;
    (x.if_less(0.0, small, large), x.if_less(0.0, large, small))
}

/// (tanh x, 1 - tanh² x), to 3e-7 and 5e-7; the second is 0 below 5e-38.
#[inline(always)]
pub(crate) fn tanh<V: F32s>(x: V) -> (V, V) {
    let a = x.abs();
    let e = exp(a * -2.0);
    let r = a.all(1.0) / (e + 1.0);
    let square = x * x;
    let p =
        square.polynomial([-5.704_988_7e-3, 2.063_908_8e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1]);
    let near = (p * square).fma(x, x);
    let far = (x.all(1.0) - e) * r;
    (a.if_less(0.625, near, far).copysign(x), e * r * r * 4.0)
}

/// The largest of scale · x, -∞ for none; NaN may be passed over.
#[inline(always)]
pub(crate) fn largest<S: Simd>(s: S, x: &[f32], scale: f32) -> f32 {
    let l = S::V::LANES;
    let (scale, low) = (s.splat(scale), s.splat(f32::NEG_INFINITY));
    let mut top = [low; 2];
    let pairs = x.chunks_exact(2 * l);
    let end = pairs.remainder();
    for x in pairs {
        top[0] = (s.load(x) * scale).max(top[0]);
        top[1] = (s.load(&x[l..]) * scale).max(top[1]);
    }
    for x in end.chunks(l) {
        // lanes beyond the row repeat its first number
        top[0] = (s.load_or(x, x[0]) * scale).max(top[0]);
    }
    top[0].max(top[1]).largest()
}
