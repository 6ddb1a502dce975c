use super::*;
use crate::Error;
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
    let (z, labels) = (wide(&noise(1, 16)), [2, 0, IGNORED, 3]);
    let dz = reference_backward(0.7, &reference(&z, &labels, 4).1, &labels, 4);
    check::differences(&z, &dz, |z| 0.7 * reference(z, &labels, 4).0);
}

fn loss(z: &[f32], labels: &[u32], classes: usize) -> Result<f32> {
    let d = Device::cpu(1)?;
    let mut probs = d.alloc::<f32>(Class::Scratch, z.len())?;
    let mut loss = d.alloc::<f32>(Class::Scratch, 1)?;
    let (z, to) = (check::up(&d, z), ViewMut::of(&mut probs, z.len() / classes, classes)?);
    forward(&d, View::of(&z, z.len() / classes, classes)?, &check::indices(&d, labels), to, &mut loss)?;
    Ok(loss.read::<f32>()?[0])
}

#[test]
fn far_logits_and_no_rows() {
    check::levels(|_| {
        assert_eq!(loss(&[1e30, 0.0], &[0], 2).unwrap(), 0.0);
        assert_eq!(loss(&[0.0, 200.0], &[0], 2).unwrap(), 200.0);
        assert_eq!(loss(&[], &[], 2).unwrap(), 0.0);
        assert_eq!(loss(&[f32::NAN, 1.0, 0.0, 200.0], &[IGNORED, 0], 2).unwrap(), 200.0);
        assert_eq!(loss(&[5.0, 1.0], &[IGNORED], 2).unwrap(), 0.0);
        assert!(loss(&[0.0, f32::NAN], &[0], 2).unwrap().is_nan());
    });
}

#[test]
fn refusals() {
    let e = loss(&[0.0; 4], &[1, 2], 2).unwrap_err();
    assert!(matches!(e, Error::Range { got: 2, below: 2, .. }));
    assert!(matches!(loss(&[0.0; 2], &[1, 0], 2), Err(Error::Shape { argument: "z", .. })));
    let d = Device::cpu(1).unwrap();
    let (x, labels) = (check::up(&d, &[0.5; 4]), check::indices(&d, &[0, 9]));
    let mut dz = check::up(&d, &[0.0; 4]);
    let probs = View::of(&x, 2, 2).unwrap();
    let mut go =
        |labels: &Buffer| backward(&d, &x, probs, labels, ViewMut::of(&mut dz, 2, 2).unwrap()).unwrap_err();
    assert!(matches!(go(&labels), Error::Range { got: 9, .. }));
    assert!(matches!(go(&x), Error::DType { argument: "labels", .. }));
}
