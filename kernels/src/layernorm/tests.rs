use super::*;
use crate::{
    Class, Error,
    case::{noise, wide},
    matmul_int8,
    simd::check,
};
use proptest::prelude::*;

#[test]
fn every_case_on_every_level() {
    check::cases(KERNEL);
}

#[test]
fn the_gradient_is_the_slope() {
    let (rows, cols) = (3, 5);
    let [s, g, b, dy] =
        [(1, rows * cols), (2, cols), (3, cols), (4, rows * cols)].map(|(i, n)| wide(&noise(i, n)));
    let (_, hat, inv) = reference(&s, &g, &b, 1e-5);
    let dx = reference_backward(&dy, &hat, &inv, &g);
    check::differences(&s, &dx, |s| reference(s, &g, &b, 1e-5).0.iter().zip(&dy).map(|(y, d)| y * d).sum());
}

/// y, x̂ and rstd of x + r on a device.
fn run(d: &Device, x: &[f32], r: &[f32], g: &[f32], b: &[f32]) -> [Vec<f32>; 3] {
    let up = |v: &[f32]| check::up(d, v);
    let (gamma, beta, cols) = (&up(g), &up(b), g.len());
    let n = Norm { gamma, beta, eps: 1e-5, rows: x.len() / cols, cols, dropout: None };
    let alloc = |n: usize| d.alloc::<f32>(Class::Scratch, n).unwrap();
    let (mut y, mut normed, mut rstd) = (alloc(x.len()), alloc(x.len()), alloc(n.rows));
    let keep = Kept { normed: &mut normed, rstd: &mut rstd };
    forward(d, &up(x), Some(&up(r)), n, &mut y, Some(keep)).unwrap();
    [y, normed, rstd].map(|b| b.read().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    #[test]
    fn any_shape(rows in 0usize..40, cols in 3usize..300, seed in 0u64..1000, threads in 1usize..4) {
        let n = rows * cols;
        let [x, r, g, b] = [n, n, cols, cols].map(|n| noise(seed + n as u64, n));
        let s: Vec<f64> = wide(&x).iter().zip(wide(&r)).map(|(x, r)| x + r).collect();
        let (y, hat, inv) = reference(&s, &wide(&g), &wide(&b), 1e-5);
        check::levels(|_| {
            let got = run(&Device::cpu(threads).unwrap(), &x, &r, &g, &b);
            for (got, want) in got.iter().zip([&y, &hat, &inv]) {
                assert!(check::distance(got, want) < 3e-6);
            }
        });
    }
}

#[test]
fn a_large_mean_costs_little() {
    let x: Vec<f32> = noise(1, 768).iter().map(|x| x + 1000.0).collect();
    let (zero, one) = (vec![0.0; 768], vec![1.0; 768]);
    let want = reference(&wide(&x), &wide(&one), &wide(&zero), 1e-5).0;
    check::levels(|_| {
        let got = run(&Device::cpu(1).unwrap(), &x, &zero, &one, &zero);
        assert!(check::distance(&got[0], &want) < 1e-6);
    });
}

#[test]
fn refusals() {
    let (d, other) = (Device::cpu(1).unwrap(), Device::cpu(1).unwrap());
    let (x, g) = (check::up(&d, &[1.0; 6]), check::up(&d, &[1.0; 3]));
    let n = Norm { gamma: &g, beta: &g, eps: 1e-5, rows: 2, cols: 3, dropout: None };
    let mut y = check::up(&d, &[0.0; 6]);
    assert!(matches!(forward(&d, &g, None, n, &mut y, None), Err(Error::Length { argument: "x", .. })));
    assert!(matches!(forward(&other, &x, None, n, &mut y, None), Err(Error::Elsewhere { .. })));
    let ids = check::indices(&d, &[0; 6]);
    assert!(matches!(forward(&d, &ids, None, n, &mut y, None), Err(Error::DType { .. })));
    assert!(matches!(
        backward(&d, &x, &x, &ids, n, &mut y, None),
        Err(Error::DType { argument: "rstd", .. })
    ));
    let mut short = check::up(&d, &[0.0; 5]);
    let e = backward(&d, &x, &x, &x, n, &mut y, Some(&mut short)).unwrap_err();
    assert!(matches!(e, Error::Length { argument: "dx", expected: 6, got: 5, .. }));
    let n = Norm { rows: usize::MAX, ..n };
    assert!(matches!(forward(&d, &x, None, n, &mut y, None), Err(Error::Length { .. })));
}

#[test]
fn quantised_rows_are_those_of_the_output() {
    for (rows, cols) in [(0, 5), (1, 1), (3, 7), (40, 1001), (5, 384)] {
        let [x, g, b] = [(1, rows * cols), (2, cols), (3, cols)].map(|(i, n)| noise(i, n));
        check::levels(|level| {
            let d = Device::cpu(2).unwrap();
            let (gamma, beta) = (check::up(&d, &g), check::up(&d, &b));
            let n = Norm { gamma: &gamma, beta: &beta, eps: 1e-5, rows, cols, dropout: None };
            let x = check::up(&d, &x);
            for keep in [false, true] {
                let mut y = [0, 1, 2].map(|_| d.alloc::<f32>(Class::Scratch, rows * cols).unwrap());
                let mut q = [0, 1].map(|_| Rows::alloc(&d, Class::Scratch, rows, cols).unwrap());
                let [plain, normed, rstd] = &mut y;
                forward(&d, &x, None, n, plain, None).unwrap();
                let view = crate::View::of(plain, rows, cols).unwrap();
                matmul_int8::quantize_rows(&d, view, None, &mut q[0]).unwrap();
                let mut y = d.alloc::<f32>(Class::Scratch, rows * cols).unwrap();
                let keep = keep.then_some(Kept { normed, rstd });
                forward_quantized(&d, &x, None, n, &mut y, keep, Some(&mut q[1])).unwrap();
                assert!(check::same(&plain.read().unwrap(), &y.read().unwrap()), "{level:?}");
                assert_eq!(q[0].read().unwrap(), q[1].read().unwrap(), "{rows}x{cols} on {level:?}");
            }
        });
    }
}

#[test]
fn dropout_gives_the_bits_of_a_pass_of_its_own() {
    for (rows, cols) in [(0, 5), (1, 1), (3, 7), (40, 1001), (50, 384)] {
        let [x, r, dy] = [1, 2, 3].map(|i| noise(i, rows * cols));
        let [g, b] = [4, 5].map(|i| noise(i, cols));
        check::levels(|level| {
            let d = Device::cpu(2).unwrap();
            let (gamma, beta) = (check::up(&d, &g), check::up(&d, &b));
            let (r, dy) = (check::up(&d, &r), check::up(&d, &dy));
            let drop = Dropout::new(0.4, 1, 2, 3);
            let plain = Norm { gamma: &gamma, beta: &beta, eps: 1e-5, rows, cols, dropout: None };
            let fused = Norm { dropout: Some(drop), ..plain };
            let alloc = |n: usize| d.alloc::<f32>(Class::Scratch, n).unwrap();
            let run = |x: &Buffer, r: Option<&Buffer>, n: Norm<'_>| {
                let [mut y, mut normed, mut ds, mut dx] = [0; 4].map(|_| alloc(rows * cols));
                let mut rstd = alloc(rows);
                let mut q = Rows::alloc(&d, Class::Scratch, rows, cols).unwrap();
                let keep = Kept { normed: &mut normed, rstd: &mut rstd };
                forward_quantized(&d, x, r, n, &mut y, Some(keep), Some(&mut q)).unwrap();
                backward(&d, &dy, &normed, &rstd, n, &mut ds, Some(&mut dx)).unwrap();
                let mut alone = alloc(rows * cols);
                backward(&d, &dy, &normed, &rstd, n, &mut alone, None).unwrap();
                ([y, normed, rstd, ds, alone, dx].map(|b| b.read::<f32>().unwrap()), q.read().unwrap())
            };
            for r in [None, Some(&r)] {
                let ours = run(&check::up(&d, &x), r, fused);
                let mut dropped = check::up(&d, &x);
                crate::dropout::apply(&d, drop, rows, cols, &mut dropped).unwrap();
                let (mut want, q) = run(&dropped, r, plain);
                assert!(check::same(&want[3], &want[5]), "without dropout both gradients are one");
                let mut dx = check::up(&d, &want[5]);
                crate::dropout::apply(&d, drop, rows, cols, &mut dx).unwrap();
                want[5] = dx.read().unwrap();
                assert_eq!(ours.1, q);
                for (a, b) in ours.0.iter().zip(&want) {
                    assert!(check::same(a, b), "{rows}x{cols} on {level:?}");
                }
                let n = |v: &[f32]| v.iter().filter(|x| **x == 0.0).count();
                assert!(rows < 40 || n(&want[5]) > rows * cols / 4, "something is dropped");
            }
        });
    }
}
