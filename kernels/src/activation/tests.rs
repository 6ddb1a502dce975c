use super::*;
use crate::{Buffer, Class, Error, case::noise, matmul_int8, simd::check};
use Activation::*;

#[test]
fn every_case_on_every_level() {
    check::cases(KERNEL);
}

/// Where differences across do not give the slope.
fn kinks(f: Activation) -> &'static [f64] {
    match f {
        Relu | Relu2 | LeakyRelu => &[0.0],
        Relu6 => &[0.0, 6.0],
        Gelu10 => &[10.0],
        _ => &[],
    }
}

#[test]
fn derivatives_are_slopes() {
    for f in Activation::ALL {
        for i in -1500..1500 {
            let (x, h) = (f64::from(i) * 0.01, 1e-5);
            if kinks(f).iter().any(|k| (x - k).abs() < 1e-4) {
                continue;
            }
            let slope = (value(f, x + h) - value(f, x - h)) / (2.0 * h);
            assert!((slope - derivative(f, x)).abs() < 1e-7, "{f:?}'({x}): {slope} and {}", derivative(f, x));
        }
    }
}

/// From PyTorch 2 and transformers: (x, f(x), f'(x)).
#[test]
fn values_of_the_reference_libraries() {
    for (name, x, y, slope) in [
        ("gelu_10", -2.0, -0.045_500_263_896_358_42, -0.085_231_801_078_196_92),
        ("gelu_10", 10.0, 10.0, 0.0),
        ("gelu_10", 11.0, 10.0, 0.0),
        ("relu", 0.0, 0.0, 0.0),
        ("relu6", 0.0, 0.0, 0.0),
        ("relu6", 6.0, 6.0, 0.0),
        ("relu2", 6.0, 36.0, 12.0),
        ("leaky_relu", -2.0, -0.02, 0.01),
        ("leaky_relu", 0.0, 0.0, 0.01),
        ("leakyrelu", 7.0, 7.0, 1.0),
        ("laplace", 0.0, 0.006_094_459_617_935_588, 0.061_113_828_794_725_88),
        ("mish", -2.0, -0.252_501_482_695_708_9, -0.108_355_092_420_393_9),
        ("mish", 6.0, 5.999_926_634_065_252, 1.000_134_140_506_21),
    ] {
        let f = Activation::from_name(name).unwrap();
        assert!((value(f, x) - y).abs() < 1e-7, "{name}({x}) = {}", value(f, x));
        assert!((derivative(f, x) - slope).abs() < 1e-6, "{name}'({x}) = {}", derivative(f, x));
    }
}

/// What becomes of one number, forward and backward.
fn one(f: Activation, x: f32) -> (f32, f32) {
    let d = Device::cpu(1).unwrap();
    let (x, mut y) = (check::up(&d, &[x]), d.alloc::<f32>(Class::Scratch, 1).unwrap());
    forward(&d, f, View::row(&x), ViewMut::row(&mut y)).unwrap();
    let mut g = check::up(&d, &[1.0]);
    backward(&d, f, View::row(&x), ViewMut::row(&mut g)).unwrap();
    (y.read::<f32>().unwrap()[0], g.read::<f32>().unwrap()[0])
}

#[test]
fn kinks_and_far_values() {
    check::levels(|level| {
        for f in Activation::ALL {
            for x in [-1e30, -300.0, -88.0, -20.0, -0.0, 0.0, 6.0, 10.0, 20.0, 88.0, 300.0, 1e15] {
                let (y, slope) = one(f, x);
                let (wide, want) = (value(f, f64::from(x)), derivative(f, f64::from(x)));
                let near = |got: f32, want: f64| (f64::from(got) - want).abs() <= 1e-6 * want.abs().max(1.0);
                assert!(near(y, wide), "{level:?} {f:?}({x}) = {y}, not {wide}");
                assert!(near(slope, want), "{level:?} {f:?}'({x}) = {slope}, not {want}");
            }
            assert!(one(f, f32::NAN).0.is_nan(), "{level:?} {f:?}");
        }
    });
}

#[test]
fn names() {
    for (name, f) in [("gelu", Gelu), ("gelu_new", GeluTanh), ("swish", Silu), ("leakyrelu", LeakyRelu)] {
        assert_eq!(Activation::from_name(name), Some(f));
    }
    for name in ["prelu", "xielu", "GELU", ""] {
        assert_eq!(Activation::from_name(name), None);
    }
}

#[test]
fn refusals() {
    let (a, b) = (Device::cpu(1).unwrap(), Device::cpu(1).unwrap());
    let (x, mut short) = (check::up(&a, &[1.0; 3]), check::up(&a, &[1.0; 2]));
    let e = forward(&a, Gelu, View::row(&x), ViewMut::row(&mut short)).unwrap_err();
    assert!(matches!(e, Error::Shape { argument: "y", expected: (1, 3), got: (1, 2), .. }));
    let e = backward(&b, Gelu, View::row(&x), ViewMut::row(&mut check::up(&b, &[1.0; 3]))).unwrap_err();
    assert!(matches!(e, Error::Elsewhere { .. }));
    let labels = check::indices(&a, &[1, 2, 3]);
    let e = forward(&a, Gelu, View::row(&labels), ViewMut::row(&mut check::up(&a, &[1.0; 3]))).unwrap_err();
    assert!(matches!(e, Error::DType { .. }));
}

#[test]
fn parts_of_matrices() {
    let (rows, cols, wide) = (9, 21, 40);
    fn at(b: &mut Buffer) -> ViewMut<'_> {
        ViewMut::of(b, 9, 40).unwrap().cols_of(3..24).unwrap()
    }
    let (x, dy) = (noise(1, rows * wide), noise(2, rows * wide));
    check::levels(|_| {
        let d = Device::cpu(2).unwrap();
        let (up, mut y, mut g) = (check::up(&d, &x), check::up(&d, &x), check::up(&d, &dy));
        let part = View::of(&up, rows, wide).unwrap().cols_of(7..7 + cols).unwrap();
        let mut q = QuantizedRows::alloc(&d, Class::Scratch, rows, cols).unwrap();
        forward_quantized(&d, Silu, part, at(&mut y), &mut q).unwrap();
        backward(&d, Silu, part, at(&mut g)).unwrap();
        let (with_q, g) = (y.read::<f32>().unwrap(), g.read::<f32>().unwrap());
        forward(&d, Silu, part, at(&mut y)).unwrap();
        assert_eq!(with_q, y.read::<f32>().unwrap());
        for i in 0..rows * wide {
            let (row, col) = (i / wide, i % wide);
            let (want, slope) = match (3..3 + cols).contains(&col) {
                true => {
                    let x = f64::from(x[row * wide + col + 4]);
                    (value(Silu, x), f64::from(dy[i]) * derivative(Silu, x))
                }
                false => (f64::from(x[i]), f64::from(dy[i])),
            };
            assert!((f64::from(with_q[i]) - want).abs() < 1e-5 && (f64::from(g[i]) - slope).abs() < 1e-5);
        }
    });
}

#[test]
fn quantised_rows_are_those_of_the_output() {
    for (rows, cols) in [(0, 5), (3, 0), (1, 1), (3, 7), (40, 1001)] {
        let x = noise(1, rows * cols);
        check::levels(|level| {
            let d = Device::cpu(2).unwrap();
            let x = check::up(&d, &x);
            for f in [Activation::Gelu, Activation::Relu] {
                let [mut plain, mut y] = [0, 1].map(|_| d.alloc::<f32>(Class::Scratch, rows * cols).unwrap());
                let mut q = [0, 1].map(|_| QuantizedRows::alloc(&d, Class::Scratch, rows, cols).unwrap());
                let x = View::of(&x, rows, cols).unwrap();
                forward(&d, f, x, ViewMut::of(&mut plain, rows, cols).unwrap()).unwrap();
                forward_quantized(&d, f, x, ViewMut::of(&mut y, rows, cols).unwrap(), &mut q[1]).unwrap();
                assert!(check::same(&plain.read().unwrap(), &y.read().unwrap()), "{level:?}");
                let view = crate::View::of(&y, rows, cols).unwrap();
                matmul_int8::quantize_rows(&d, view, None, &mut q[0]).unwrap();
                assert_eq!(q[0].read().unwrap(), q[1].read().unwrap(), "{f:?} {rows}x{cols} on {level:?}");
            }
        });
    }
}
