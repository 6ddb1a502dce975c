use super::*;
use crate::Error;
use crate::{
    case::{noise, wide},
    simd::check,
};
use proptest::prelude::*;

#[test]
fn every_case_on_every_level() {
    check::cases(KERNEL);
}

#[test]
fn dots_are_exact_to_double_precision_and_the_same_for_any_number_of_threads() {
    let sizes: [&[usize]; 8] = [&[], &[0], &[1], &[7], &[8], &[9], &[100_003], &[5, 0, 40_000, 1, 16 * 1024]];
    for sizes in sizes {
        let of = |k: u64| sizes.iter().enumerate().map(move |(i, n)| noise(2 * i as u64 + k, *n));
        let inputs: Vec<_> = of(1).zip(of(2)).collect();
        let each = inputs.iter().map(|(a, b)| wide(a).iter().zip(wide(b)).map(|(a, b)| a * b).sum::<f64>());
        let want: f64 = each.sum();
        check::levels(|_| {
            let of = |threads| {
                let d = Device::cpu(threads).unwrap();
                let up: Vec<_> = inputs.iter().map(|(a, b)| (check::up(&d, a), check::up(&d, b))).collect();
                let pairs: Vec<_> = up.iter().map(|(a, b)| (a, b)).collect();
                let alone = pairs.iter().map(|p| dots(&d, &[*p]).unwrap()).sum::<f64>();
                let all = dots(&d, &pairs).unwrap();
                assert_eq!(all, alone, "one launch or many");
                all
            };
            assert!((of(1) - want).abs() <= 1e-9 * (1.0 + want.abs()));
            assert_eq!(of(1).to_bits(), of(3).to_bits());
        });
    }
    let d = Device::null(1);
    let one = check::up(&d, &[1.0]);
    assert_eq!(dots(&d, &[(&one, &one)]).unwrap(), 0.0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_shape(rows in 0usize..150, cols in 1usize..150, threads in 1usize..4) {
        let (a, b) = (noise(1, rows * cols), noise(2, rows * cols));
        let (wide_a, wide_b) = (wide(&a), wide(&b));
        let want = reference(&wide_a, &wide_b, cols);
        // what rounding can do is in proportion to the terms, not to their sum
        let abs = |v: Vec<f64>| v.into_iter().map(f64::abs).collect::<Vec<_>>();
        let terms = reference(&abs(wide_a), &abs(wide_b), cols);
        // a product and a sum for each row, in whatever order
        let most = (rows + 1) as f64 * f64::from(f32::EPSILON) / 2.0;
        check::levels(|_| {
            let d = Device::cpu(threads).unwrap();
            let mut y = check::up(&d, &vec![f32::NAN; cols]);
            let (a, b) = (check::up(&d, &a), check::up(&d, &b));
            let view = |x| View::of(x, rows, cols).unwrap();
            column_dots(&d, view(&a), view(&b), ViewMut::row(&mut y), false).unwrap();
            for ((y, want), terms) in y.read::<f32>().unwrap().into_iter().zip(&want).zip(&terms) {
                assert!((f64::from(y) - want).abs() <= most * terms, "{y} {want} {terms}");
            }
        });
    }
}

#[test]
fn long_sums_keep_their_digits() {
    let (d, n) = (Device::cpu(2).unwrap(), 200_000);
    let mut y = check::up(&d, &[0.0]);
    let x = check::up(&d, &vec![0.1; n]);
    column_sums(&d, View::of(&x, n, 1).unwrap(), ViewMut::row(&mut y), false).unwrap();
    let got = f64::from(y.read::<f32>().unwrap()[0]);
    assert!((got / (f64::from(0.1f32) * n as f64) - 1.0).abs() < 1e-5, "{got}");
}

#[test]
fn refusals() {
    let (d, other) = (Device::cpu(1).unwrap(), Device::cpu(1).unwrap());
    let (x, mut y) = (check::up(&d, &[1.0; 5]), check::up(&d, &[1.0; 3]));
    let (one, short) = (View::row(&x), View::row(&y).cols_of(0..2).unwrap());
    let e = column_dots(&d, one, short, ViewMut::row(&mut check::up(&d, &[1.0; 5])), true).unwrap_err();
    assert!(matches!(e, Error::Shape { argument: "b", expected: (1, 5), got: (1, 2), .. }));
    let e = column_sums(&d, one, ViewMut::row(&mut y), false).unwrap_err();
    assert!(matches!(e, Error::Shape { argument: "y", expected: (1, 5), got: (1, 3), .. }));
    assert!(matches!(dots(&other, &[(&x, &x)]), Err(Error::Elsewhere { .. })));
    let ids = check::indices(&d, &[1; 5]);
    assert!(matches!(dots(&d, &[(&x, &x), (&x, &ids)]), Err(Error::DType { .. })));
    assert!(matches!(dots(&d, &[(&x, &y)]), Err(Error::Length { argument: "b", expected: 5, got: 3, .. })));
}
