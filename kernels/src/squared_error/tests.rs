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
fn the_gradient_is_the_slope() {
    let [z, targets] = [1, 2].map(|seed| wide(&noise(seed, 9)));
    check::differences(&z, &reference_backward(0.3, &z, &targets), |z| 0.3 * reference(z, &targets));
}

#[test]
fn refusals() {
    let d = Device::cpu(1).unwrap();
    let (x, mut loss) = (check::up(&d, &[1.0; 6]), check::up(&d, &[1.0]));
    let (z, targets) = (View::of(&x, 2, 3).unwrap(), View::of(&x, 3, 2).unwrap());
    let e = forward(&d, z, targets, &mut loss).unwrap_err();
    assert!(matches!(e, Error::Shape { argument: "targets", expected: (2, 3), got: (3, 2), .. }));
    let mut none = check::up(&d, &[]);
    assert!(matches!(forward(&d, z, z, &mut none), Err(Error::Length { argument: "loss", .. })));
    let e = backward(&d, &none, z, z, ViewMut::of(&mut loss, 1, 1).unwrap()).unwrap_err();
    assert!(matches!(e, Error::Length { argument: "dloss", .. }));
}
