//! The functions against double precision, over all floats.
use super::{F32s, Level, check, math, simd};
use std::f32::consts::FRAC_PI_2;

/// Which function of `math`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum F {
    Exp,
    Phi,
    Bell,
    Sigmoid,
    NotSigmoid,
    Tanh,
    NotTanh2,
    Atan,
}
simd! {
    fn apply<S>(s, f: F, x: &[f32], y: &mut [f32]) {
        for (x, y) in x.chunks(S::V::LANES).zip(y.chunks_mut(S::V::LANES)) {
            let x = s.load_part(x);
            let v = match f {
                F::Exp => math::exp(x),
                F::Phi => math::normal(x).0,
                F::Bell => math::normal(x).1,
                F::Sigmoid => math::sigmoid(x).0,
                F::NotSigmoid => math::sigmoid(x).1,
                F::Tanh => math::tanh(x).0,
                F::NotTanh2 => math::tanh(x).1,
                F::Atan => math::atan(x),
            };
            v.store_part(y);
        }
    }
}
fn truth(f: F, x: f64) -> f64 {
    match f {
        F::Exp => x.exp(),
        F::Phi => 0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2),
        F::Bell => (-0.5 * x * x).exp(),
        F::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        F::NotSigmoid => 1.0 / (1.0 + x.exp()),
        F::Tanh => x.tanh(),
        F::NotTanh2 => 1.0 / (x.cosh() * x.cosh()),
        F::Atan => x.atan(),
    }
}
/// Floats of every exponent and sign, and densely those around which the functions change.
fn floats() -> Vec<f32> {
    let mut v: Vec<f32> = (0..u32::MAX / 8191).map(|i| f32::from_bits(i * 8191)).collect();
    v.extend((-40_000..40_000).map(|i| i as f32 * 0.003_017));
    v.extend([0.0, -0.0, f32::MIN_POSITIVE, -1e-45, 1e-45, f32::MAX, f32::MIN]);
    v
}

#[test]
fn functions_keep_their_stated_errors() {
    let x = floats();
    let limits = [
        (F::Exp, 1.2e-7),
        (F::Phi, 4e-7),
        (F::Bell, 4e-7),
        (F::Sigmoid, 3e-7),
        (F::NotSigmoid, 3e-7),
        (F::Tanh, 3e-7),
        (F::NotTanh2, 5e-7),
        (F::Atan, 3e-7),
    ];
    check::levels(|level| {
        for (f, limit) in limits {
            let mut y = vec![0.0; x.len()];
            apply(level, f, &x, &mut y);
            let mut worst = (0.0, 0.0, 0.0);
            for (x, y) in x.iter().zip(&y) {
                if x.is_nan() {
                    assert!(y.is_nan(), "{f:?}({x}) = {y}");
                    continue;
                }
                let t = truth(f, f64::from(*x));
                if t > f64::from(f32::MAX) {
                    assert_eq!(*y, f32::INFINITY, "{f:?}({x})");
                    continue;
                }
                // close to the smallest normal number and below it, results may be 0
                let odd = [F::Tanh, F::Atan].contains(&f);
                if t.abs() < 8.0 * f64::from(f32::MIN_POSITIVE) && !odd {
                    assert!((0.0..=1.01 * t + 1e-45).contains(&f64::from(*y)), "{level:?} {f:?}({x}) = {y}");
                    continue;
                }
                let floor = if odd { f64::from(f32::MIN_POSITIVE) } else { 0.0 };
                let error = (f64::from(*y) - t).abs() / t.abs().max(floor);
                if error > worst.0 || error.is_nan() {
                    worst = (error, *x, *y);
                }
            }
            assert!(
                worst.0 <= limit,
                "{level:?} {f:?}({}) = {}: relative error {:e}",
                worst.1,
                worst.2,
                worst.0
            );
        }
    });
}

#[test]
fn ends_and_not_a_number() {
    let x = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 0.0, -0.0];
    let expect = [
        (F::Exp, [f32::INFINITY, 0.0, f32::NAN, 1.0, 1.0]),
        (F::Phi, [1.0, 0.0, f32::NAN, 0.5, 0.5]),
        (F::Bell, [0.0, 0.0, f32::NAN, 1.0, 1.0]),
        (F::Sigmoid, [1.0, 0.0, f32::NAN, 0.5, 0.5]),
        (F::NotSigmoid, [0.0, 1.0, f32::NAN, 0.5, 0.5]),
        (F::Tanh, [1.0, -1.0, f32::NAN, 0.0, -0.0]),
        (F::NotTanh2, [0.0, 0.0, f32::NAN, 1.0, 1.0]),
        (F::Atan, [FRAC_PI_2, -FRAC_PI_2, f32::NAN, 0.0, -0.0]),
    ];
    check::levels(|level| {
        for (f, want) in expect {
            let mut y = [0.0; 5];
            apply(level, f, &x, &mut y);
            for (y, w) in y.iter().zip(want) {
                let near = *y == w || (y - w).abs() <= 6e-8;
                assert!(
                    near && y.is_sign_negative() == w.is_sign_negative() || y.is_nan() && w.is_nan(),
                    "{level:?} {f:?} {y} {w}"
                );
            }
        }
    });
}

simd! {
    fn transpose<S>(s, x: &[f32], rows: usize, cols: usize, y: &mut [f32]) {
        s.transpose(x, cols, rows, cols, y, S::V::LANES + 1);
    }
}
simd! {
    fn sums<S>(s, x: &[f32]) -> [f32; 2] {
        [s.load_part(x).sum(), s.load(&[3.0; 16]).max(s.load_or(x, -1.0)).largest()]
    }
}
simd! {
    fn factors<S>(s, key: [u32; 2], col: u32, threshold: u32, y: &mut [f32]) {
        for (i, y) in y.chunks_mut(S::V::LANES).enumerate() {
            s.factors(key, col.wrapping_add((i * S::V::LANES) as u32), threshold, 1.25).store_part(y);
        }
    }
}

#[test]
fn blocks_are_transposed() {
    check::levels(|level: Level| {
        let n = level.lanes();
        for rows in 1..=n {
            for cols in 1..=n {
                let x: Vec<f32> = (0..rows * cols).map(|i| i as f32).collect();
                let mut y = vec![-1.0; n * (n + 1)];
                transpose(level, &x, rows, cols, &mut y);
                for c in 0..n {
                    for r in 0..n {
                        let want = match (r < rows, c < cols) {
                            (true, true) => x[r * cols + c],
                            (false, true) => 0.0,
                            _ => -1.0,
                        };
                        assert_eq!(y[c * (n + 1) + r], want);
                    }
                }
            }
        }
    });
}

#[test]
fn lanes_are_summed_compared_and_hashed() {
    check::levels(|level| {
        for n in 1..=level.lanes() {
            let x: Vec<f32> = (0..n).map(|i| i as f32).collect();
            assert_eq!(sums(level, &x), [(n * (n - 1) / 2) as f32, 3f32.max(n as f32 - 1.0)]);
        }
        for threshold in [0, 1, 1 << 31, u32::MAX - 3] {
            let (key, col, mut y) = ([0x1234_5678, 0x9abc_def0], u32::MAX - 20, [0.0; 75]);
            factors(level, key, col, threshold, &mut y);
            for (i, y) in y.iter().enumerate() {
                let drop = crate::dropout::hash(key, col.wrapping_add(i as u32)) < threshold;
                assert_eq!(*y, if drop { 0.0 } else { 1.25 });
            }
        }
    });
}

simd! {
    /// The numbers of each storage type, one vector after the other.
    fn decode<S>(s, bf16s: &[half::bf16], f16s: &[half::f16], bytes: &[i8], codes: &[u8], levels: &[f32; 16], y: &mut [[f32; 16]; 4]) {
        for i in (0..16).step_by(S::V::LANES) {
            // SAFETY: the vectors lie in 16 numbers, and their codes in 8 bytes.
            let v = unsafe {
                [
                    s.load_bf16(bf16s[i..16].as_ptr()),
                    s.load_f16(f16s[i..16].as_ptr()),
                    s.load_i8(bytes[i..16].as_ptr(), 0.5),
                    s.load_codes(codes[i / 2..8].as_ptr(), levels, 3.0),
                ]
            };
            y.iter_mut().zip(v).for_each(|(y, v)| v.store(&mut y[i..]));
        }
    }
}
simd! {
    fn first<S>(s, x: &[f32], n: usize, y: &mut [f32; 16]) {
        // SAFETY: x has `n` numbers.
        unsafe { s.load_first(x.as_ptr(), n) }.store_part(y);
    }
}
#[test]
fn stored_numbers_are_decoded_on_every_level() {
    let x: Vec<f32> = (0..16).map(|i| (i as f32 - 7.3) * 1.7).collect();
    let bf16s: Vec<_> = x.iter().map(|x| half::bf16::from_f32(*x)).collect();
    let f16s: Vec<_> = x.iter().map(|x| half::f16::from_f32(*x)).collect();
    let bytes: Vec<i8> = (0..16).map(|i| (i * 17 - 128) as i8).collect();
    let codes: Vec<u8> = (0..8).map(|i| 0xf0 - 0x1f * i).collect();
    let levels = std::array::from_fn(|i| (i * i) as f32 - 9.0);
    let code = |i: usize| codes[i / 2] >> (4 * (i % 2)) & 15;
    let want: [[f32; 16]; 4] = [
        std::array::from_fn(|i| bf16s[i].to_f32()),
        std::array::from_fn(|i| f16s[i].to_f32()),
        std::array::from_fn(|i| f32::from(bytes[i]) * 0.5),
        std::array::from_fn(|i| levels[usize::from(code(i))] * 3.0),
    ];
    check::levels(|level| {
        let mut y = [[0.0; 16]; 4];
        decode(level, &bf16s, &f16s, &bytes, &codes, &levels, &mut y);
        assert_eq!(y, want, "{level:?}");
        for n in 1..=level.lanes() {
            let mut y = [7.0; 16];
            first(level, &x[..n], n, &mut y);
            let zeros = y[n..level.lanes()].iter().all(|y| *y == 0.0);
            assert!(y[..n] == x[..n] && zeros, "{level:?} {n}");
        }
    });
}
