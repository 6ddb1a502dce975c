use super::*;
use crate::Error;
use crate::{
    case::{noise, wide},
    simd::check,
};

#[test]
fn every_case_on_every_level() {
    check::cases(KERNEL);
}

#[test]
fn the_gradients_are_the_slopes() {
    let [a, b, dy] = [1, 2, 3].map(|seed| wide(&noise(seed, 20)));
    for f in [Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Sigmoid] {
        let [da, db] = reference_backward(f, &dy, &a, &b);
        let dot = |y: Vec<f64>| y.iter().zip(&dy).map(|(y, d)| y * d).sum();
        check::differences(&a, &da, |a| dot(reference(f, a, &b)));
        check::differences(&b, &db, |b| dot(reference(f, &a, b)));
    }
}

#[test]
fn gradients_may_be_halves_of_one_matrix_each() {
    let d = Device::cpu(2).unwrap();
    let (rows, cols, f) = (5, 9, Activation::Silu);
    let [a, b, dy] = [1, 2, 3].map(|seed| noise(seed, rows * cols));
    let [up_a, up_b, up_dy] = [&a, &b, &dy].map(|v| check::up(&d, v));
    let view = |b| View::of(b, rows, cols).unwrap();
    let (mut da, mut db) =
        (check::up(&d, &vec![7.0; 3 * rows * cols]), check::up(&d, &vec![7.0; 2 * rows * cols]));
    let to_a = ViewMut::of(&mut da, rows, 3 * cols).unwrap().cols_of(cols..2 * cols).unwrap();
    let to_b = ViewMut::of(&mut db, rows, 2 * cols).unwrap().cols_of(cols..2 * cols).unwrap();
    backward(&d, f, view(&up_dy), view(&up_a), view(&up_b), to_a, to_b).unwrap();
    let want = reference_backward(f, &wide(&dy), &wide(&a), &wide(&b));
    for (got, want, width) in [(da, &want[0], 3), (db, &want[1], 2)] {
        for (i, row) in got.read::<f32>().unwrap().chunks(width * cols).enumerate() {
            assert!(check::distance(&row[cols..2 * cols], &want[i * cols..][..cols]) < 1e-5);
            assert!(row[..cols].iter().chain(&row[2 * cols..]).all(|x| *x == 7.0));
        }
    }
}

#[test]
fn refusals() {
    let d = Device::cpu(1).unwrap();
    let (x, mut y) = (check::up(&d, &[1.0; 6]), check::up(&d, &[1.0; 6]));
    let (a, b) = (View::of(&x, 2, 3).unwrap(), View::of(&x, 3, 2).unwrap());
    let e = forward(&d, Activation::Silu, a, b, ViewMut::of(&mut y, 2, 3).unwrap()).unwrap_err();
    assert!(matches!(e, Error::Shape { argument: "b", expected: (2, 3), got: (3, 2), .. }));
    let e = forward(&d, Activation::Silu, a, a, ViewMut::of(&mut y, 3, 2).unwrap()).unwrap_err();
    assert!(matches!(e, Error::Shape { argument: "y", .. }));
}
