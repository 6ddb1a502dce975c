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
fn the_gradient_is_the_slope() {
    let [z, targets] = [1, 2].map(|seed| wide(&noise(seed, 9)));
    for loss in [Loss::SquaredError, Loss::BinaryCrossEntropy] {
        let gradient = reference_backward(loss, 0.3, &z, &targets, 3);
        check::differences(&z, &gradient, |z| 0.3 * reference(loss, z, &targets, 3));
    }
}

#[test]
fn far_logits_are_finite() {
    const LOSS: Loss = Loss::BinaryCrossEntropy;
    let d = Device::cpu(1).unwrap();
    let (z, y) = ([500.0, -500.0, 500.0, -500.0], [1.0, 0.0, 0.0, 1.0]);
    let (zs, targets, mut sum) = (check::up(&d, &z), check::up(&d, &y), check::up(&d, &[f32::NAN]));
    forward(&d, LOSS, View::of(&zs, 1, 4).unwrap(), View::of(&targets, 1, 4).unwrap(), &mut sum).unwrap();
    assert_eq!(sum.read::<f32>().unwrap(), [250.0]);
    let (one, mut dz) = (check::up(&d, &[1.0]), check::up(&d, &[f32::NAN; 4]));
    let to = ViewMut::of(&mut dz, 4, 1).unwrap();
    backward(&d, LOSS, &one, View::of(&zs, 4, 1).unwrap(), View::of(&targets, 4, 1).unwrap(), to).unwrap();
    assert_eq!(dz.read::<f32>().unwrap(), [0.0, 0.0, 1.0, -1.0]);
}

#[test]
fn refusals() {
    const LOSS: Loss = Loss::SquaredError;
    let d = Device::cpu(1).unwrap();
    let (x, mut sum) = (check::up(&d, &[1.0; 6]), check::up(&d, &[1.0]));
    let (z, targets) = (View::of(&x, 2, 3).unwrap(), View::of(&x, 3, 2).unwrap());
    let e = forward(&d, LOSS, z, targets, &mut sum).unwrap_err();
    assert!(matches!(e, Error::Shape { argument: "targets", expected: (2, 3), got: (3, 2), .. }));
    let mut none = check::up(&d, &[]);
    assert!(matches!(forward(&d, LOSS, z, z, &mut none), Err(Error::Length { argument: "loss", .. })));
    let e = backward(&d, LOSS, &none, z, z, ViewMut::of(&mut sum, 1, 1).unwrap()).unwrap_err();
    assert!(matches!(e, Error::Length { argument: "dloss", .. }));
}
