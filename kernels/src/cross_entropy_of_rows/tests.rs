use super::*;
use crate::{
    Class,
    case::{noise, wide},
    cross_entropy,
    simd::check,
};

#[test]
fn every_case_on_every_level() {
    check::cases(KERNEL);
}

#[test]
fn the_gradient_is_the_slope() {
    let (z, lengths, targets) = (wide(&noise(1, 16)), [3, 0, 5], [2, 0, IGNORED, IGNORED, 4, IGNORED]);
    let dz = reference_backward(0.7, &reference(&z, &lengths, &targets, 2).1, &lengths, &targets, 2);
    check::differences(&z, &dz, |z| 0.7 * reference(z, &lengths, &targets, 2).0);
}

fn loss(z: &[f32], lengths: &[u32], targets: &[u32], columns: usize) -> Result<(f32, Vec<f32>)> {
    let (d, rows) = (Device::cpu(1)?, z.len() / columns);
    let mut probs = check::up(&d, &vec![f32::NAN; 3 * z.len()]);
    let mut loss = d.alloc::<f32>(Class::Scratch, 1)?;
    let (z, lengths, targets) = (check::up(&d, z), check::indices(&d, lengths), check::indices(&d, targets));
    // in the middle of a wider matrix
    let to = ViewMut::of(&mut probs, rows, 3 * columns)?.cols_of(columns..2 * columns)?;
    forward(&d, View::of(&z, rows, columns)?, &lengths, &targets, to, &mut loss)?;
    let probs = probs.read::<f32>()?;
    let own = probs.chunks(3 * columns).flat_map(|row| row[columns..2 * columns].to_vec()).collect();
    assert!(probs.chunks(3 * columns).all(|row| row[2 * columns..].iter().all(|p| p.is_nan())));
    Ok((loss.read::<f32>()?[0], own))
}

#[test]
fn far_logits_and_no_rows() {
    check::levels(|_| {
        assert_eq!(loss(&[1e30, 0.0], &[2], &[0], 1).unwrap(), (0.0, vec![1.0, 0.0]));
        assert_eq!(loss(&[0.0, 200.0, 5.0], &[2, 1], &[0, 0], 1).unwrap().0, 200.0);
        assert_eq!(loss(&[], &[0, 0], &[IGNORED; 4], 2).unwrap().0, 0.0);
        assert_eq!(loss(&[f32::NAN, 1.0], &[1], &[IGNORED, 0], 2).unwrap(), (0.0, vec![0.0, 1.0]));
        assert!(loss(&[0.0, f32::NAN], &[2], &[0], 1).unwrap().0.is_nan());
    });
}

#[test]
fn rows_of_one_example_are_classes_of_one_row() {
    check::levels(|_| {
        let z = noise(4, 70);
        let d = Device::cpu(1).unwrap();
        let (mut probs, mut sum) = (check::up(&d, &[0.0; 70]), check::up(&d, &[0.0]));
        let (of, labels) = (check::up(&d, &z), check::indices(&d, &[9]));
        let to = ViewMut::of(&mut probs, 1, 70).unwrap();
        cross_entropy::forward(&d, View::of(&of, 1, 70).unwrap(), &labels, to, &mut sum).unwrap();
        let (ours, own) = loss(&z, &[70], &[9], 1).unwrap();
        assert!((ours - sum.read::<f32>().unwrap()[0]).abs() < 1e-6);
        assert!(own.iter().zip(probs.read::<f32>().unwrap()).all(|(a, b)| (a - b).abs() < 1e-7));
    });
}

#[test]
fn refusals() {
    let e = loss(&[0.0; 4], &[1, 3], &[0, 3], 1).unwrap_err();
    assert!(matches!(e, Error::Range { what: "row", got: 3, below: 3, .. }));
    let e = loss(&[0.0; 4], &[1, 2], &[0, 0], 1).unwrap_err();
    assert!(matches!(e, Error::Length { argument: "lengths", expected: 4, got: 3, .. }));
    let e = loss(&[0.0; 4], &[0, 4], &[0, 0], 1).unwrap_err();
    assert!(matches!(e, Error::Range { got: 0, below: 0, .. }));
    let e = loss(&[0.0; 4], &[1, 1], &[0, 0, 0], 2).unwrap_err();
    assert!(matches!(e, Error::Length { argument: "targets", expected: 4, got: 3, .. }));
    let d = Device::cpu(1).unwrap();
    let (x, lengths) = (check::up(&d, &[0.5; 4]), check::indices(&d, &[2, 2]));
    let (mut dz, probs) = (check::up(&d, &[0.0; 4]), View::of(&x, 4, 1).unwrap());
    let mut go = |targets: &Buffer| {
        backward(&d, &x, probs, &lengths, targets, ViewMut::of(&mut dz, 4, 1).unwrap()).unwrap_err()
    };
    assert!(matches!(go(&check::indices(&d, &[0, 2])), Error::Range { got: 2, .. }));
    assert!(matches!(go(&x), Error::DType { argument: "targets", .. }));
}
