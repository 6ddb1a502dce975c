use super::*;
use crate::Error;
use crate::{Class, case::noise, simd::check};

#[test]
fn every_case_on_every_level() {
    check::cases(KERNEL);
}

const STEP: Step =
    Step { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, t: 1, weight_decay: 0.01, grad_scale: 1.0 };

/// A step of one weight.
fn one(d: &Device, s: Step, w: &mut Buffer, g: &Buffer, m: &mut Buffer, v: &mut Buffer) -> Result<()> {
    step(d, &mut [Part { w, g, m, v, step: s }])
}

/// Three steps of `torch.optim.AdamW(lr=1e-3, weight_decay=0.01)`, PyTorch 2 on a CPU.
#[test]
fn the_numbers_of_torch() {
    let gradients = [[0.1, -0.2, 3.0, 0.0], [-0.05, 0.4, 1e-4, 1e-6], [0.3, 0.3, -2.0, 5.0]];
    let want = [
        vec![0.498_048_16, -1.249_919_5, 2.998_163_5, -0.000_372_598_82],
        vec![0.033_600_003, 0.049_8, 0.043_008_99, 0.500_000_1],
        vec![0.000_102_477_52, 0.000_289_760_06, 0.012_982_009, 0.025_000_002],
    ];
    check::levels(|_| {
        let d = Device::cpu(1).unwrap();
        let mut w = check::up(&d, &[0.5, -1.25, 3.0, 1e-3]);
        let mut m = d.zeros::<f32>(Class::Optim, 4).unwrap();
        let mut v = d.zeros::<f32>(Class::Optim, 4).unwrap();
        for (i, g) in gradients.iter().enumerate() {
            // as if the gradient were the sum of two batches
            let g = check::up(&d, &g.map(|g: f32| 2.0 * g));
            let s = Step { t: i as u64 + 1, grad_scale: 0.5, ..STEP };
            one(&d, s, &mut w, &g, &mut m, &mut v).unwrap();
        }
        for (got, want) in [w, m, v].iter().zip(&want) {
            for (g, w) in got.read::<f32>().unwrap().iter().zip(want) {
                let w: f32 = *w;
                assert!((g - w).abs() <= 2.0 * f32::EPSILON * w.abs().max(1e-3), "{g} and {w}");
            }
        }
    });
}

#[test]
fn refusals() {
    let (d, other) = (Device::cpu(1).unwrap(), Device::cpu(1).unwrap());
    let up = |n: usize| check::up(&d, &vec![0.0; n]);
    let e = one(&d, STEP, &mut up(3), &up(2), &mut up(3), &mut up(3)).unwrap_err();
    assert!(matches!(e, Error::Length { argument: "g", .. }));
    let e = one(&other, STEP, &mut up(3), &up(3), &mut up(3), &mut up(3)).unwrap_err();
    assert!(matches!(e, Error::Elsewhere { argument: "w", .. }));
    let e = one(&d, STEP, &mut up(3), &up(3), &mut check::indices(&d, &[0; 3]), &mut up(3)).unwrap_err();
    assert!(matches!(e, Error::DType { argument: "m", .. }));
}

#[test]
fn a_weight_gets_the_same_bits_alone_and_among_others() {
    let sizes = [3, 0, 40_000, 1, 16 * 1024 + 1];
    check::levels(|level| {
        let d = Device::cpu(2).unwrap();
        let fresh = || -> Vec<[Buffer; 4]> {
            let up = |i: usize, n: usize| check::up(&d, &noise(i as u64, n));
            let of = |(i, n): (usize, &usize)| {
                [up(i, *n), up(i + 10, *n), up(i + 20, *n), check::up(&d, &vec![0.1; *n])]
            };
            sizes.iter().enumerate().map(of).collect()
        };
        let (mut alone, mut together) = (fresh(), fresh());
        for [w, g, m, v] in &mut alone {
            one(&d, STEP, w, g, m, v).unwrap();
        }
        let mut parts = vec![];
        for [w, g, m, v] in &mut together {
            parts.push(Part { w, g, m, v, step: STEP });
        }
        step(&d, &mut parts).unwrap();
        for (a, b) in alone.iter().flatten().zip(together.iter().flatten()) {
            assert!(check::same(&a.read().unwrap(), &b.read().unwrap()), "{level:?}");
        }
    });
}
