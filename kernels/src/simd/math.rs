//! exp, the normal distribution, tanh, the logistic function and atan, by polynomials. NaN gives NaN. The
//! errors stated are relative, against double precision over all floats, and tested.
use super::{F32s, Simd};
use std::f32::consts::LOG2_E;

/// The logarithm of the smallest normal number.
const LOWEST: f32 = -87.336_54;
/// ln 2 in two parts; a whole number below 2⁸ times the first is exact.
const LN_2: [f32; 2] = [6.931_457_5e-1, 1.428_606_8e-6];

/// The whole number nearest to x · by, for results below 2²².
#[inline(always)]
fn whole<V: F32s>(x: V, by: f32) -> V {
    const NO_FRACTION: f32 = 12_582_912.0; // 1.5 · 2²³: what is added to it is rounded
    x.fma(x.all(by), x.all(NO_FRACTION)) + -NO_FRACTION
}

/// eˣ to 1.2e-7, and 0 below the normal numbers (on those the processor is a hundred times
/// slower): 2ⁿ eʳ with
/// |r| ≤ ln 2 / 2.
#[inline(always)]
pub(crate) fn exp<V: F32s>(x: V) -> V {
    let raw = x;
    let x = x.clamp(LOWEST, 89.0); // from 88.73 on: infinity
    let n = whole(x, LOG2_E);
    let r = n.fma(x.all(-LN_2[0]), x);
    let r = n.fma(x.all(-LN_2[1]), r);
    let p = r.polynomial([
        1.378_059_4e-3,
        8.373_124_5e-3,
        4.166_953_6e-2,
        1.666_647_2e-1,
        4.999_998_5e-1,
        1.0,
        1.0,
    ]);
    p.scale2(n).unless_less(raw, LOWEST)
}

/// e⁻ˣ to 1.2e-7 for x ≥ 0, and 0 below the normal numbers: [`exp`] where it never overflows.
#[inline(always)]
fn decay<V: F32s>(x: V) -> V {
    let x = x.all(-LOWEST).min(x);
    let n = whole(x, -LOG2_E);
    let r = n.fma(x.all(LN_2[0]), x);
    let r = n.fma(x.all(LN_2[1]), r);
    let p = r.polynomial([
        1.378_059_4e-3,
        -8.373_124_5e-3,
        4.166_953_6e-2,
        -1.666_647_2e-1,
        4.999_998_5e-1,
        -1.0,
        1.0,
    ]);
    p.scale2(n).unless_less(n, -125.5)
}

/// What the normal distribution Φ is made of, on either side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tail<V> {
    /// |x|, at most 13.2.
    pub t: V,
    /// exp(-t²/2), 0 below the normal numbers.
    pub gaussian: V,
    /// Φ(-t) / exp(-t²/2).
    pub ratio: V,
}

/// The bell is 2ⁿ e⁻ʳᐟ² with r = t² + 2n ln 2, in which t² is not rounded: that would count, as the
/// exponent is large where Φ is small. The ratio is a polynomial in 1 / (1 + 0.34 t), to 4e-8. So
/// both tails of Φ keep their relative accuracy.
#[inline(always)]
pub(crate) fn tail<V: F32s>(x: V) -> Tail<V> {
    let t = x.all(13.2).min(x.abs());
    let n = whole(t * t, -0.5 * LOG2_E);
    let r = t.square_plus(n * (2.0 * LN_2[0]));
    let r = n.fma(x.all(2.0 * LN_2[1]), r);
    // that of `decay`, of r / 2
    let p = r.polynomial([
        1.378_059_4e-3 / 64.0,
        -8.373_124_5e-3 / 32.0,
        4.166_953_6e-2 / 16.0,
        -1.666_647_2e-1 / 8.0,
        4.999_998_5e-1 / 4.0,
        -0.5,
        1.0,
    ]);
    let gaussian = p.scale2(n).unless_less(n, -125.5);
    let w = t.fma(x.all(0.34), x.all(1.0)).recip();
    let q = w.polynomial([
        -2.649_759e-2,
        1.412_710_1e-1,
        -2.766_550_2e-1,
        2.060_422_6e-1,
        -4.725_947_6e-2,
        1.163_850_7e-1,
        1.149_503_74e-1,
        1.361_446_5e-1,
        1.356_187_3e-1,
    ]);
    Tail { t, gaussian, ratio: w * q }
}

/// (Φ(x), exp(-x²/2)), Φ the normal distribution, each to 4e-7 where the result is a normal number.
#[inline(always)]
pub(crate) fn normal<V: F32s>(x: V) -> (V, V) {
    let Tail { gaussian, ratio, .. } = tail(x);
    let tail = gaussian * ratio;
    (x.if_less(0.0, tail, x.all(1.0) - tail), gaussian)
}

/// (σ(x), 1 - σ(x)), σ(x) = 1 / (1 + e⁻ˣ), each to 3e-7.
#[inline(always)]
pub(crate) fn sigmoid<V: F32s>(x: V) -> (V, V) {
    let e = decay(x.abs());
    let large = (e + 1.0).recip();
    let small = e * large;
    (x.if_less(0.0, small, large), x.if_less(0.0, large, small))
}

/// (tanh x, 1 - tanh² x), to 3e-7 and 5e-7; the second is 0 below 5e-38.
#[inline(always)]
pub(crate) fn tanh<V: F32s>(x: V) -> (V, V) {
    let a = x.abs();
    let e = decay(a + a);
    let r = (e + 1.0).recip();
    let square = x * x;
    let p =
        square.polynomial([-5.704_988_7e-3, 2.063_908_8e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1]);
    let near = (p * square).fma(x, x);
    let far = (x.all(1.0) - e) * r;
    (a.if_less(0.625, near, far).copysign(x), e * r * r * 4.0)
}

/// atan x to 3e-7: of |x|, or what its reciprocal's leaves to π/2.
#[inline(always)]
pub(crate) fn atan<V: F32s>(x: V) -> V {
    let (a, one) = (x.abs(), x.all(1.0));
    let u = one.min(a) / one.max(a);
    let square = u * u;
    let p = square.polynomial([
        -2.386_997_3e-3,
        1.350_777_1e-2,
        -3.587_154e-2,
        0.06250169,
        -0.0865688,
        1.103_376_4e-1,
        -1.427_856_9e-1,
        0.1999974,
        -0.3333333,
    ]);
    let p = (p * square).fma(u, u);
    a.if_less(1.0, p, x.all(std::f32::consts::FRAC_PI_2) - p).copysign(x)
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
