use super::*;
use crate::simd::check;

#[test]
fn every_case_on_every_level() {
    check::cases(KERNEL);
}

#[test]
fn refusals() {
    let (d, other) = (Device::cpu(1).unwrap(), Device::cpu(1).unwrap());
    let (x, mut y) = (check::up(&d, &[1.0; 5]), check::up(&d, &[1.0; 6]));
    assert!(matches!(add(&d, &x, &x, &mut y), Err(Error::Length { argument: "a", .. })));
    assert!(matches!(axpy(&d, 1.0, &x, &mut y), Err(Error::Length { argument: "x", .. })));
    assert!(matches!(scale(&other, 1.0, &mut y), Err(Error::Elsewhere { .. })));
    let z = check::up(&d, &[1.0; 6]);
    assert!(matches!(mul_row(&d, &z, &x, 6, &mut y), Err(Error::Length { argument: "v", .. })));
    assert!(matches!(scale(&d, 1.0, &mut check::indices(&d, &[1])), Err(Error::DType { .. })));
}
