//! The sizes on which the non-linearities are checked and timed.
use super::*;
use crate::{Case, Class, PreparedCase, case::noise};

pub(super) fn cases() -> Vec<Case> {
    let mut v = vec![];
    for f in Activation::ALL {
        for n in [0, 1, 5, 17, 100, 40_003] {
            v.extend([case(f, n, false, false), case(f, n, true, false)]);
        }
    }
    for f in [Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Silu, Activation::Tanh] {
        v.extend([case(f, 2048 * 3072, false, true), case(f, 2048 * 3072, true, true)]);
    }
    v
}

/// Where a network's pre-activations lie, and for the shapes that are checked some far out.
fn inputs(n: usize, timed: bool) -> Vec<f32> {
    let far = |i: usize| !timed && i % 7 == 3;
    noise(1, n).iter().enumerate().map(|(i, x)| x * if far(i) { 8.0 } else { 2.0 }).collect()
}

fn case(f: Activation, n: usize, back: bool, timed: bool) -> Case {
    // backward overwrites its gradient, so that each launch first writes a new one
    let cost = cost(n, back) + Cost::copy(if back { 4 * n } else { 0 });
    Case {
        label: format!("{f:?} {} {n}", if back { "backward" } else { "forward" }),
        tolerance: match f {
            // its argument is rounded before its steepest part
            Activation::Laplace => 2e-6,
            // its exponent is rounded
            Activation::SoftExp => 1e-6,
            _ => 4e-7,
        },
        flops: cost.flops,
        bytes: cost.bytes,
        timed,
        cuda: true,
        prepare: Box::new(move |d| {
            let x = d.upload(Class::Scratch, &inputs(n, timed))?;
            let dy = noise(2, n);
            let outputs = vec![d.alloc::<f32>(Class::Scratch, n)?];
            let d = d.clone();
            Ok(PreparedCase::new(outputs, move |y| {
                if back {
                    y[0].write(&dy)?;
                    return backward(&d, f, View::row(&x), ViewMut::row(&mut y[0]));
                }
                forward(&d, f, View::row(&x), ViewMut::row(&mut y[0]))
            }))
        }),
        reference: Box::new(move || {
            let (x, dy) = (inputs(n, timed), noise(2, n));
            let of = |(x, dy): (&f32, &f32)| {
                let x = f64::from(*x);
                if back { derivative(f, x) * f64::from(*dy) } else { value(f, x) }
            };
            x.iter().zip(&dy).map(of).collect()
        }),
    }
}
