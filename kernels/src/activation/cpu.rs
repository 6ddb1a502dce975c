//! Pieces in parallel, each a loop over vectors.
use super::{curves::Curve, *};
use crate::{
    Cpu,
    matmul_int8::{self, RowsMut},
    simd::{F32s, Level, Simd, parts, simd},
};

/// Values of a piece.
const PIECE: usize = 16 * 1024;
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
            Activation::Linear => $go::<curves::Linear, S>($($arg),*),
        }
    };
}

pub(super) fn forward(d: &Cpu, f: Activation, x: &Buffer, y: &mut Buffer) -> Result<()> {
    let (level, x) = (Level::current()?, x.host::<f32>()?);
    d.rows(&mut y.host_mut::<f32>()?[..x.len()], 1, PIECE, |at, y| values(level, f, &x[at..], y));
    Ok(())
}
pub(super) fn forward_quantized(
    d: &Cpu,
    f: Activation,
    x: &Buffer,
    y: &mut Buffer,
    q: &mut Rows,
) -> Result<()> {
    let (level, cols, len) = (Level::current()?, q.cols(), q.rows() * q.cols());
    let (x, y) = (&x.host::<f32>()?[..len], &mut y.host_mut::<f32>()?[..len]);
    let rows = (PIECE / cols.max(1)).max(1);
    let each = (rows * cols).max(1);
    let q = matmul_int8::pieces(Some(q), rows)?;
    parts(d, y.chunks_mut(each).zip(q), |i, (y, q)| rows_of_values(level, f, &x[i * each..], cols, y, q));
    Ok(())
}
pub(super) fn backward(c: &Cpu, f: Activation, x: &Buffer, d: &mut Buffer) -> Result<()> {
    let (level, x) = (Level::current()?, x.host::<f32>()?);
    c.rows(&mut d.host_mut::<f32>()?[..x.len()], 1, PIECE, |at, d| derivatives(level, f, &x[at..], d));
    Ok(())
}

simd! {
    /// y = f(x).
    pub(crate) fn values<S>(s, f: Activation, x: &[f32], y: &mut [f32]) {
        with_curve!(f, map(s, x, y))
    }
}
simd! {
    /// y = f(x), row by row, and the rows in 8 bits.
    fn rows_of_values<S>(s, f: Activation, x: &[f32], cols: usize, y: &mut [f32], q: Option<RowsMut<'_>>) {
        let mut q = q;
        for (i, y) in y.chunks_exact_mut(cols).enumerate() {
            with_curve!(f, map(s, &x[i * cols..], y));
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
        s.soon(x, AHEAD);
        s.soon_mut(y, AHEAD);
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
        s.soon(x, AHEAD);
        s.soon_mut(d, AHEAD);
        (s.load(d) * C::derivative(s.load(x))).store(d);
    }
    let (x, d) = (&x[whole..d.len()], &mut d[whole..]);
    (s.load_part(d) * C::derivative(s.load_part(x))).store_part(d);
}
