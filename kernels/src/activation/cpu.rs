//! Pieces in parallel, each a loop over vectors.
use super::{curves::Curve, *};
use crate::{
    Cpu,
    lines::{Cut, Lines, PIECE, each_line},
    matmul_int8::{self, QuantizedRowsMut},
    simd::{F32s, Level, Simd, parts, simd},
};

/// Values ahead of those at work that the caches are told of.
const AHEAD: usize = 512;

/// Calls a function with the curve of an activation as its type argument.
macro_rules! with_curve {
    ($f:expr, $go:ident($($arg:expr),*)) => {
        match $f {
            Activation::Gelu => $go::<curves::Gelu, S>($($arg),*),
            Activation::GeluTanh => $go::<curves::GeluTanh, S>($($arg),*),
            Activation::Gelu10 => $go::<curves::Gelu10, S>($($arg),*),
            Activation::QuickGelu => $go::<curves::QuickGelu, S>($($arg),*),
            Activation::Relu => $go::<curves::Relu, S>($($arg),*),
            Activation::Relu6 => $go::<curves::Relu6, S>($($arg),*),
            Activation::Relu2 => $go::<curves::Relu2, S>($($arg),*),
            Activation::LeakyRelu => $go::<curves::LeakyRelu, S>($($arg),*),
            Activation::Silu => $go::<curves::Silu, S>($($arg),*),
            Activation::Mish => $go::<curves::Mish, S>($($arg),*),
            Activation::Sigmoid => $go::<curves::Sigmoid, S>($($arg),*),
            Activation::Tanh => $go::<curves::Tanh, S>($($arg),*),
            Activation::Laplace => $go::<curves::Laplace, S>($($arg),*),
            Activation::SoftExp => $go::<curves::SoftExp, S>($($arg),*),
            Activation::Linear => $go::<curves::Linear, S>($($arg),*),
        }
    };
}

pub(super) fn forward(d: &Cpu, f: Activation, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
    let (level, cut) = (Level::current()?, Cut::of([x.is_dense(), y.view().is_dense()]));
    let x = Lines::of(x, cut)?;
    each_line(d, y, cut, |i, y| values(level, f, x.at(i), y))
}
pub(super) fn forward_quantized(
    d: &Cpu,
    f: Activation,
    x: View<'_>,
    y: ViewMut<'_>,
    q: &mut QuantizedRows,
) -> Result<()> {
    let (level, x) = (Level::current()?, Lines::of(x, Cut::Rows)?);
    let (stride, cols) = (y.view().stride().max(1), y.view().cols());
    let rows = (PIECE / cols.max(1)).max(1);
    let q = matmul_int8::pieces(Some(q), rows)?;
    parts(d, y.host::<f32>()?.chunks_mut(rows * stride).zip(q), |i, (y, q)| {
        rows_of_values(level, f, x, i * rows, (stride, cols), y, q);
    });
    Ok(())
}
pub(super) fn backward(c: &Cpu, f: Activation, x: View<'_>, d: ViewMut<'_>) -> Result<()> {
    let (level, cut) = (Level::current()?, Cut::of([x.is_dense(), d.view().is_dense()]));
    let x = Lines::of(x, cut)?;
    each_line(c, d, cut, |i, d| derivatives(level, f, x.at(i), d))
}

simd! {
    /// y = f(x).
    pub(crate) fn values<S>(s, f: Activation, x: &[f32], y: &mut [f32]) {
        with_curve!(f, map(s, x, y))
    }
}
simd! {
    /// y = f(x) for the rows of y, which start `stride` apart, and the rows in 8 bits; `first` is
    /// the number of the first.
    fn rows_of_values<S>(s, f: Activation, x: Lines<'_, f32>, first: usize, shape: (usize, usize),
        y: &mut [f32], q: Option<QuantizedRowsMut<'_>>) {
        let (mut q, (stride, cols)) = (q, shape);
        for (i, y) in y.chunks_mut(stride).enumerate() {
            let y = &mut y[..cols];
            with_curve!(f, map(s, x.at(first + i), y));
            if let Some(q) = &mut q {
                q.write(s, i, y);
            }
        }
    }
}
simd! {
    /// d *= f'(x).
    pub(crate) fn derivatives<S>(s, f: Activation, x: &[f32], d: &mut [f32]) {
        with_curve!(f, chain(s, x, d))
    }
}
#[inline(always)]
fn map<C: Curve, S: Simd>(s: S, x: &[f32], y: &mut [f32]) {
    let l = S::V::LANES;
    let whole = y.len() / l * l;
    for (x, y) in x.chunks_exact(l).zip(y.chunks_exact_mut(l)) {
        s.prefetch_read(x, AHEAD);
        s.prefetch_write(y, AHEAD);
        C::value(s.load(x)).store(y);
    }
    let (x, y) = (&x[whole..y.len()], &mut y[whole..]);
    C::value(s.load_part(x)).store_part(y);
}
#[inline(always)]
fn chain<C: Curve, S: Simd>(s: S, x: &[f32], d: &mut [f32]) {
    let l = S::V::LANES;
    let whole = d.len() / l * l;
    for (x, d) in x.chunks_exact(l).zip(d.chunks_exact_mut(l)) {
        s.prefetch_read(x, AHEAD);
        s.prefetch_write(d, AHEAD);
        (s.load(d) * C::derivative(s.load(x))).store(d);
    }
    let (x, d) = (&x[whole..d.len()], &mut d[whole..]);
    (s.load_part(d) * C::derivative(s.load_part(x))).store_part(d);
}
