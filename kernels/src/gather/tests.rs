use super::*;
use crate::simd::check;

#[test]
fn every_case_on_every_level() {
    check::cases(KERNEL);
}

#[test]
fn a_row_named_twice_receives_both() {
    let d = Device::cpu(2).unwrap();
    let mut table = check::up(&d, &[0.0; 4]);
    let dy = check::up(&d, &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0]);
    scatter(&d, &dy, &check::indices(&d, &[1, 0, 1]), 2, &mut table).unwrap();
    assert_eq!(table.read::<f32>().unwrap(), [4.0, 8.0, 17.0, 34.0]);
}

#[test]
fn refusals() {
    let (d, other) = (Device::cpu(1).unwrap(), Device::cpu(1).unwrap());
    let (data, mut y) = (check::up(&d, &[1.0; 6]), check::up(&d, &[7.0; 4]));
    let table = Matrix::plain(&data, 3, 2);
    let bad = check::indices(&d, &[1, 3]);
    assert!(matches!(rows(&d, table, &bad, &mut y, false), Err(Error::Length { expected: 4, got: 3, .. })));
    assert_eq!(y.read::<f32>().unwrap(), [7.0; 4], "nothing is written before the indices are checked");
    let dy = check::up(&d, &[1.0; 4]);
    let mut sums = check::up(&d, &[0.0; 6]);
    assert!(matches!(scatter(&d, &dy, &bad, 2, &mut sums), Err(Error::Length { expected: 4, got: 3, .. })));
    assert!(matches!(rows(&d, table, &dy, &mut y, false), Err(Error::DType { argument: "index", .. })));
    let good = check::indices(&d, &[1, 2, 0]);
    assert!(matches!(rows(&d, table, &good, &mut y, false), Err(Error::Length { argument: "y", .. })));
    assert!(matches!(rows(&other, table, &good, &mut y, false), Err(Error::Elsewhere { .. })));
}
