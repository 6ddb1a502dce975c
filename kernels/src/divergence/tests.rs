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
    let [z, q] = cases::inputs(5, 4).map(|v| wide(&v));
    let dz = reference_backward(0.7, &reference(&z, &q, 0.4, 4).1, &q, 0.4, 4);
    check::differences(&z, &dz, |z| 0.7 * reference(z, &q, 0.4, 4).0);
}

fn loss(z: &[f32], q: &[f32], s: f32) -> Result<f32> {
    let d = Device::cpu(1)?;
    let (mut p, mut loss) = (d.alloc::<f32>(Class::Scratch, z.len())?, d.alloc::<f32>(Class::Scratch, 1)?);
    let (z, q) = (check::up(&d, z), check::up(&d, q));
    let (rows, to) = (z.len() / 2, ViewMut::of(&mut p, z.len() / 2, 2)?);
    forward(&d, View::of(&z, rows, 2)?, View::of(&q, q.len() / 2, 2)?, s, to, &mut loss)?;
    Ok(loss.read::<f32>()?[0])
}

#[test]
fn far_logits_certain_targets_and_no_rows() {
    check::levels(|_| {
        assert_eq!(loss(&[1e30, 0.0], &[1.0, 0.0], 1.0).unwrap(), 0.0);
        assert_eq!(loss(&[0.0, 200.0], &[1.0, 0.0], 0.5).unwrap(), 100.0);
        assert_eq!(loss(&[0.3, 0.3], &[0.5, 0.5], 1.0).unwrap(), 0.0, "it is what it should be");
        assert_eq!(loss(&[f32::NAN, 1.0, 0.0, 200.0], &[0.0, 0.0, 1.0, 0.0], 1.0).unwrap(), 200.0);
        assert_eq!(loss(&[], &[], 1.0).unwrap(), 0.0);
        assert!(loss(&[0.0, f32::NAN], &[0.5, 0.5], 1.0).unwrap().is_nan());
    });
}

#[test]
fn a_certain_target_is_a_label() {
    let (z, labels) = (wide(&noise(3, 12)), [2, 0, 1]);
    let q: Vec<f64> = labels.iter().flat_map(|l| (0..4).map(move |k| f64::from(u8::from(k == *l)))).collect();
    let of_labels = crate::cross_entropy::reference(&z, &labels.map(|l: i32| l as u32), 4).0;
    assert!((reference(&z, &q, 1.0, 4).0 - of_labels).abs() < 1e-12);
}

#[test]
fn refusals() {
    let e = loss(&[0.0; 4], &[0.5; 2], 1.0).unwrap_err();
    assert!(matches!(e, Error::Shape { argument: "q", expected: (2, 2), got: (1, 2), .. }));
    let d = Device::cpu(1).unwrap();
    let (x, none, mut dz) = (check::up(&d, &[0.5; 4]), check::up(&d, &[]), check::up(&d, &[0.0; 4]));
    let p = View::of(&x, 2, 2).unwrap();
    let e = backward(&d, &none, p, p, 1.0, ViewMut::of(&mut dz, 2, 2).unwrap()).unwrap_err();
    assert!(matches!(e, Error::Length { argument: "dloss", .. }));
}
