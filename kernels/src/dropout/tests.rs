use super::*;
use crate::Error;
use crate::simd::check;

#[test]
fn every_case_on_every_level() {
    check::cases(KERNEL);
}

/// Who is dropped, as 0 or 1.
fn dropped(d: Dropout, rows: usize, cols: usize) -> Vec<f64> {
    let one = |i: usize| if d.factor(i / cols, i % cols) == 0.0 { 1.0 } else { 0.0 };
    (0..rows * cols).map(one).collect()
}
fn mean(v: &[f64]) -> f64 {
    v.iter().sum::<f64>() / v.len() as f64
}
/// The correlation of who is dropped here and there; both have mean p.
fn correlation(a: &[f64], b: &[f64], p: f64) -> f64 {
    let products: Vec<f64> = a.iter().zip(b).map(|(a, b)| (a - p) * (b - p)).collect();
    mean(&products) / (p * (1.0 - p))
}

const ROWS: usize = 256;
const COLS: usize = 1024;
/// Five deviations of a mean over all of them, of numbers of deviation 1.
const FAR: f64 = 5.0 / 512.0;

#[test]
fn the_rate_is_right_everywhere() {
    for p in [0.01, 0.1, 0.5, 0.9f32] {
        let v = dropped(Dropout::new(p, 1, 2, 3), ROWS, COLS);
        let (p, deviation) = (f64::from(p), f64::from(p * (1.0 - p)).sqrt());
        assert!((mean(&v) - p).abs() < FAR * deviation, "{p}: {}", mean(&v));
        for row in v.chunks(COLS) {
            assert!((mean(row) - p).abs() < 5.5 * deviation / 32.0, "a row at {p}");
        }
        for j in 0..COLS {
            let col: Vec<f64> = v.iter().skip(j).step_by(COLS).copied().collect();
            assert!((mean(&col) - p).abs() < 5.5 * deviation / 16.0, "a column at {p}");
        }
    }
}

#[test]
fn the_expectation_is_preserved() {
    for p in [0.0f32, 0.1, 0.5] {
        let d = Dropout::new(p, 4, 5, 6);
        let factors: Vec<f64> = (0..ROWS * COLS).map(|i| f64::from(d.factor(i / COLS, i % COLS))).collect();
        assert!((mean(&factors) - 1.0).abs() < FAR * f64::from(p / (1.0 - p)).sqrt() + 1e-7);
    }
}

#[test]
fn neighbours_rows_passes_and_places_are_independent() {
    for p in [0.1f32, 0.5] {
        let of = |seed, pass, place| dropped(Dropout::new(p, seed, pass, place), ROWS, COLS);
        let (v, p) = (of(1, 2, 3), f64::from(p));
        for lag in [1, 2, 3, 4, 8, 16, 64, COLS, 2 * COLS, 3 * COLS + 1] {
            let c = correlation(&v[lag..], &v, p);
            assert!(c.abs() < FAR, "{lag} further: {c}");
        }
        for other in [of(1, 3, 3), of(1, 2, 4), of(2, 2, 3), of(1, 3, 2), of(2, 1, 3)] {
            let c = correlation(&v, &other, p);
            assert!(c.abs() < FAR, "another key: {c}");
        }
    }
}

#[test]
fn the_same_key_gives_the_same_numbers() {
    let d = Dropout::new(0.3, 1, 2, 3);
    assert_eq!(dropped(d, 9, 9), dropped(Dropout::new(0.3, 1, 2, 3), 9, 9));
    assert_eq!((d.p(), d), (0.3, Dropout::new(0.3, 1, 2, 3)));
}

#[test]
fn refusals() {
    let (d, drop) = (Device::cpu(1).unwrap(), Dropout::new(0.3, 1, 2, 3));
    let mut y = check::up(&d, &[1.0; 5]);
    assert!(matches!(apply(&Device::null(1), drop, ViewMut::row(&mut y)), Err(Error::Elsewhere { .. })));
    let mut ids = check::indices(&d, &[1; 5]);
    assert!(matches!(apply(&d, drop, ViewMut::row(&mut ids)), Err(Error::DType { .. })));
}

#[test]
fn columns_are_counted_from_where_a_view_begins() {
    let (d, drop) = (Device::cpu(2).unwrap(), Dropout::new(0.4, 1, 2, 3));
    check::levels(|_| {
        let mut y = check::up(&d, &[1.0; 7 * 50]);
        apply(&d, drop, ViewMut::of(&mut y, 7, 50).unwrap().cols_of(9..46).unwrap()).unwrap();
        for (i, y) in y.read::<f32>().unwrap().into_iter().enumerate() {
            let (row, col) = (i / 50, i % 50);
            let want = if (9..46).contains(&col) { drop.factor(row, col - 9) } else { 1.0 };
            assert_eq!(y, want, "{row} {col}");
        }
    });
}
