use super::*;
use crate::{
    Class,
    case::{noise, wide},
    simd::check,
};

#[test]
fn every_case_on_every_level() {
    check::cases(KERNEL);
}

#[test]
fn the_gradient_is_the_slope() {
    let (z, labels) = (wide(&noise(1, 12)), [2, 0, 3]);
    let dz = reference_backward(0.7, &reference(&z, &labels, 4).1, &labels, 4);
    check::differences(&z, &dz, |z| 0.7 * reference(z, &labels, 4).0);
}

fn loss(z: &[f32], labels: &[u32], classes: usize) -> Result<f32> {
    let d = Device::cpu(1)?;
    let mut probs = d.alloc::<f32>(Class::Scratch, z.len())?;
    let mut loss = d.alloc::<f32>(Class::Scratch, 1)?;
    forward(&d, &check::up(&d, z), &check::indices(&d, labels), classes, &mut probs, &mut loss)?;
    Ok(loss.read::<f32>()?[0])
}

#[test]
fn far_logits_and_no_rows() {
    check::levels(|_| {
        assert_eq!(loss(&[1e30, 0.0], &[0], 2).unwrap(), 0.0);
        assert_eq!(loss(&[0.0, 200.0], &[0], 2).unwrap(), 200.0);
        assert!(loss(&[], &[], 2).unwrap().is_nan());
        assert!(loss(&[0.0, f32::NAN], &[0], 2).unwrap().is_nan());
    });
}

#[test]
fn refusals() {
    let e = loss(&[0.0; 4], &[1, 2], 2).unwrap_err();
    assert!(matches!(e, Error::Length { argument: "classes", expected: 3, got: 2, .. }));
    assert!(matches!(loss(&[0.0; 3], &[1, 0], 2), Err(Error::Length { argument: "z", .. })));
    let d = Device::cpu(1).unwrap();
    let (x, labels) = (check::up(&d, &[0.5; 4]), check::indices(&d, &[0, 9]));
    let mut dz = check::up(&d, &[0.0; 4]);
    assert!(matches!(backward(&d, &x, &x, &labels, 2, &mut dz), Err(Error::Length { expected: 10, .. })));
    assert!(matches!(backward(&d, &x, &x, &x, 2, &mut dz), Err(Error::DType { argument: "labels", .. })));
}
