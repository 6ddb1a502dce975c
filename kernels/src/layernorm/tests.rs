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
    for centred in [true, false] {
        let y = |s: &[f64]| reference(s, &g, Some(&b), 1e-5, centred);
        let (_, hat, inv) = y(&s);
        let dx = reference_backward(&dy, &hat, &inv, &g, centred);
        check::differences(&s, &dx, |s| y(s).0.iter().zip(&dy).map(|(y, d)| y * d).sum());
    }
}

fn plain(gamma: &Buffer) -> Norm<'_> {
    Norm { gamma, beta: None, eps: 1e-5, centred: true, dropout: None }
}
fn of(b: &Buffer, rows: usize, cols: usize) -> View<'_> {
    View::of(b, rows, cols).unwrap()
}
fn to(b: &mut Buffer, rows: usize, cols: usize) -> ViewMut<'_> {
    ViewMut::of(b, rows, cols).unwrap()
}

/// y, x̂ and rstd of x + r on a device.
fn run(d: &Device, x: &[f32], r: &[f32], g: &[f32], b: &[f32]) -> [Vec<f32>; 3] {
    let up = |v: &[f32]| check::up(d, v);
    let (gamma, beta, cols) = (&up(g), &up(b), g.len());
    let rows = x.len() / cols;
    let n = Norm { beta: Some(beta), ..plain(gamma) };
    let alloc = |n: usize| d.alloc::<f32>(Class::Scratch, n).unwrap();
    let (mut y, mut normed, mut rstd) = (alloc(x.len()), alloc(x.len()), alloc(rows));
    let keep = SavedNorm { normed: to(&mut normed, rows, cols), rstd: &mut rstd };
    let (x, r) = (up(x), up(r));
    forward(d, of(&x, rows, cols), Some(of(&r, rows, cols)), n, to(&mut y, rows, cols), Some(keep)).unwrap();
    [y, normed, rstd].map(|b| b.read().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    #[test]
    fn any_shape(rows in 0usize..40, cols in 3usize..300, seed in 0u64..1000, threads in 1usize..4) {
        let n = rows * cols;
        let [x, r, g, b] = [n, n, cols, cols].map(|n| noise(seed + n as u64, n));
        let s: Vec<f64> = wide(&x).iter().zip(wide(&r)).map(|(x, r)| x + r).collect();
        let (y, hat, inv) = reference(&s, &wide(&g), Some(&wide(&b)), 1e-5, true);
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
    let want = reference(&wide(&x), &wide(&one), None, 1e-5, true).0;
    check::levels(|_| {
        let got = run(&Device::cpu(1).unwrap(), &x, &zero, &one, &zero);
        assert!(check::distance(&got[0], &want) < 1e-6);
    });
}

#[test]
fn refusals() {
    let (d, other) = (Device::cpu(1).unwrap(), Device::cpu(1).unwrap());
    let (x, g) = (check::up(&d, &[1.0; 6]), check::up(&d, &[1.0; 3]));
    let (n, two) = (plain(&g), of(&x, 2, 3));
    let mut y = check::up(&d, &[0.0; 6]);
    let e = forward(&d, of(&x, 3, 2), None, n, to(&mut y, 2, 3), None).unwrap_err();
    assert!(matches!(e, Error::Shape { argument: "y", .. }));
    let e = forward(&d, View::row(&x), None, n, ViewMut::row(&mut y), None).unwrap_err();
    assert!(matches!(e, Error::Length { argument: "gamma", expected: 6, got: 3, .. }));
    let e = forward(&d, two, None, Norm { beta: Some(&g), ..n }, to(&mut y, 2, 3), None);
    assert!(e.is_ok());
    let e = forward(&other, two, None, n, to(&mut y, 2, 3), None).unwrap_err();
    assert!(matches!(e, Error::Elsewhere { .. }));
    let ids = check::indices(&d, &[0; 6]);
    let e = forward(&d, of(&ids, 2, 3), None, n, to(&mut y, 2, 3), None).unwrap_err();
    assert!(matches!(e, Error::DType { .. }));
    let e = backward(&d, two, two, &ids, n, to(&mut y, 2, 3), None).unwrap_err();
    assert!(matches!(e, Error::DType { argument: "rstd", .. }));
    let mut short = check::up(&d, &[0.0; 5]);
    let e = backward(&d, two, two, &x, n, to(&mut y, 2, 3), Some(ViewMut::row(&mut short))).unwrap_err();
    assert!(matches!(e, Error::Shape { argument: "dx", expected: (2, 3), got: (1, 5), .. }));
}

#[test]
fn parts_of_matrices() {
    let (rows, cols, wide_cols) = (9, 37, 90);
    let [x, r, dy] = [1, 2, 3].map(|i| noise(i, rows * wide_cols));
    let g = noise(4, cols);
    check::levels(|_| {
        let d = Device::cpu(2).unwrap();
        let [x, r, dy, gamma] = [&x, &r, &dy, &g].map(|v| check::up(&d, v));
        let n = Norm { dropout: Some(Dropout::new(0.3, 1, 2, 3)), ..plain(&gamma) };
        let alloc = |n: usize| check::up(&d, &vec![7.0; n]);
        // once of columns of wider matrices, once of copies of those columns
        let run = |width: usize, at: [usize; 3], x: &Buffer, r: &Buffer, dy: &Buffer| {
            let part = |b, at: usize| of(b, rows, width).cols_of(at..at + cols).unwrap();
            fn part_to(b: &mut Buffer, [rows, width, at, cols]: [usize; 4]) -> ViewMut<'_> {
                to(b, rows, width).cols_of(at..at + cols).unwrap()
            }
            let [mut y, mut normed, mut ds, mut dx] = [0; 4].map(|_| alloc(rows * width));
            let mut rstd = alloc(rows);
            let place = [rows, width, at[2], cols];
            let keep = SavedNorm { normed: part_to(&mut normed, place), rstd: &mut rstd };
            let r = Some(part(r, at[1]));
            forward(&d, part(x, at[0]), r, n, part_to(&mut y, place), Some(keep)).unwrap();
            let (ds_part, dx_part) = (part_to(&mut ds, place), part_to(&mut dx, place));
            backward(&d, part(dy, at[1]), part(&normed, at[2]), &rstd, n, ds_part, Some(dx_part)).unwrap();
            [y, normed, ds, dx].map(|b| b.read::<f32>().unwrap())
        };
        let columns = |v: &[f32], at: usize| -> Vec<f32> {
            v.chunks(wide_cols).flat_map(|row| row[at..at + cols].to_vec()).collect()
        };
        let narrow = |b: &Buffer, at: usize| check::up(&d, &columns(&b.read::<f32>().unwrap(), at));
        let got = run(wide_cols, [5, 50, 20], &x, &r, &dy);
        let want = run(cols, [0; 3], &narrow(&x, 5), &narrow(&r, 50), &narrow(&dy, 50));
        for (got, want) in got.iter().zip(&want) {
            assert!(check::same(&columns(got, 20), want));
            let around = |row: &[f32]| row[..20].iter().chain(&row[20 + cols..]).all(|x| *x == 7.0);
            assert!(got.chunks(wide_cols).all(around), "nothing else is written");
        }
    });
}

#[test]
fn quantised_rows_are_those_of_the_output() {
    for (rows, cols) in [(0, 5), (1, 1), (3, 7), (40, 1001), (5, 384)] {
        let [x, g, b] = [(1, rows * cols), (2, cols), (3, cols)].map(|(i, n)| noise(i, n));
        check::levels(|level| {
            let d = Device::cpu(2).unwrap();
            let (gamma, beta) = (check::up(&d, &g), check::up(&d, &b));
            let n = Norm { beta: Some(&beta), ..plain(&gamma) };
            let x = check::up(&d, &x);
            let x = of(&x, rows, cols);
            for keep in [false, true] {
                let mut y = [0, 1, 2].map(|_| d.alloc::<f32>(Class::Scratch, rows * cols).unwrap());
                let mut q = [0, 1].map(|_| QuantizedRows::alloc(&d, Class::Scratch, rows, cols).unwrap());
                let [plain, normed, rstd] = &mut y;
                forward(&d, x, None, n, to(plain, rows, cols), None).unwrap();
                let view = crate::View::of(plain, rows, cols).unwrap();
                matmul_int8::quantize_rows(&d, view, None, &mut q[0]).unwrap();
                let mut y = d.alloc::<f32>(Class::Scratch, rows * cols).unwrap();
                let keep = keep.then_some(SavedNorm { normed: to(normed, rows, cols), rstd });
                forward_quantized(&d, x, None, n, to(&mut y, rows, cols), keep, Some(&mut q[1])).unwrap();
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
            let plain = Norm { beta: Some(&beta), ..plain(&gamma) };
            let fused = Norm { dropout: Some(drop), ..plain };
            let alloc = |n: usize| d.alloc::<f32>(Class::Scratch, n).unwrap();
            let run = |x: &Buffer, r: Option<&Buffer>, n: Norm<'_>| {
                let [mut y, mut normed, mut ds, mut dx] = [0; 4].map(|_| alloc(rows * cols));
                let mut rstd = alloc(rows);
                let mut q = QuantizedRows::alloc(&d, Class::Scratch, rows, cols).unwrap();
                let keep = SavedNorm { normed: to(&mut normed, rows, cols), rstd: &mut rstd };
                let (x, r) = (of(x, rows, cols), r.map(|r| of(r, rows, cols)));
                forward_quantized(&d, x, r, n, to(&mut y, rows, cols), Some(keep), Some(&mut q)).unwrap();
                let (dy, hat) = (of(&dy, rows, cols), of(&normed, rows, cols));
                backward(&d, dy, hat, &rstd, n, to(&mut ds, rows, cols), Some(to(&mut dx, rows, cols)))
                    .unwrap();
                let mut alone = alloc(rows * cols);
                backward(&d, dy, hat, &rstd, n, to(&mut alone, rows, cols), None).unwrap();
                ([y, normed, rstd, ds, alone, dx].map(|b| b.read::<f32>().unwrap()), q.read().unwrap())
            };
            for r in [None, Some(&r)] {
                let ours = run(&check::up(&d, &x), r, fused);
                let mut dropped = check::up(&d, &x);
                crate::dropout::apply(&d, drop, to(&mut dropped, rows, cols)).unwrap();
                let (mut want, q) = run(&dropped, r, plain);
                assert!(check::same(&want[3], &want[5]), "without dropout both gradients are one");
                let mut dx = check::up(&d, &want[5]);
                crate::dropout::apply(&d, drop, to(&mut dx, rows, cols)).unwrap();
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
