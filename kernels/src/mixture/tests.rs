use super::*;
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
    let widths = [3, 1, 2, 2];
    let [a, b] = [1, 2].map(|seed| wide(&noise(seed, 3 * 8)));
    let [s, ds] = [3, 4].map(|seed| wide(&noise(seed, 3 * 4)));
    let sum = |y: Vec<f64>, dy: &[f64]| y.iter().zip(dy).map(|(y, d)| y * d).sum();
    let da = reference_spread(&b, &ds, &widths);
    check::differences(&a, &da, |a| sum(reference_dots(a, &b, &widths), &ds));
    let dp = reference_dots(&b, &a, &widths);
    check::differences(&s, &dp, |p| sum(reference_spread(&a, p, &widths), &b));
    for stride in [1, 2, 4] {
        let p = reference_softmax(&s, 4, stride);
        let back = reference_softmax_backward(&ds, &p, 4, stride);
        check::differences(&s, &back, |s| sum(reference_softmax(s, 4, stride), &ds));
    }
}

#[test]
fn a_softmax_adds_up_to_one_whatever_its_scores() {
    let d = Device::cpu(2).unwrap();
    let s = [3e38f32, 3e38, -3e38, 0.0, -1e30, 80.0, f32::NEG_INFINITY, 1.0];
    let (x, mut p) = (check::up(&d, &s), check::up(&d, &[7.0; 8]));
    softmax(&d, View::of(&x, 2, 4).unwrap(), 2, ViewMut::of(&mut p, 2, 4).unwrap()).unwrap();
    let p = p.read::<f32>().unwrap();
    for row in p.chunks(4) {
        assert_eq!([row[0] + row[2], row[1] + row[3]], [1.0, 1.0], "{row:?}");
    }
}

#[test]
fn refusals() {
    let d = Device::cpu(1).unwrap();
    let (x, mut y) = (check::up(&d, &[1.0; 6]), check::up(&d, &[1.0; 6]));
    let a = View::of(&x, 2, 3).unwrap();
    let e = dots(&d, a, a, &[1, 1], ViewMut::of(&mut y, 2, 2).unwrap()).unwrap_err();
    assert!(matches!(e, Error::Shape { argument: "a", expected: (2, 2), got: (2, 3), .. }));
    let e = spread(&d, a, a, &[1, 2], ViewMut::of(&mut y, 2, 3).unwrap()).unwrap_err();
    assert!(matches!(e, Error::Shape { argument: "p", .. }));
    for stride in [0, 2] {
        let e = softmax(&d, a, stride, ViewMut::of(&mut y, 2, 3).unwrap()).unwrap_err();
        assert_eq!(e.to_string(), format!("mixture: 3 columns cannot be taken in turns of {stride}"));
    }
}
