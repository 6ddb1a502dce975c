use super::*;
use crate::Error;
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
    let to = ViewMut::of(&mut table, 2, 2).unwrap();
    scatter(&d, View::of(&dy, 3, 2).unwrap(), &check::indices(&d, &[1, 0, 1]), to).unwrap();
    assert_eq!(table.read::<f32>().unwrap(), [4.0, 8.0, 17.0, 34.0]);
}

#[test]
fn parts_of_matrices() {
    let d = Device::cpu(2).unwrap();
    let (x, mut y) = (check::up(&d, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), check::up(&d, &[0.0; 8]));
    let index = check::indices(&d, &[2, 0]);
    fn to(b: &mut Buffer) -> ViewMut<'_> {
        ViewMut::of(b, 2, 4).unwrap().cols_of(1..3).unwrap()
    }
    rows(&d, Matrix::plain(&x, 3, 2), &index, to(&mut y), false).unwrap();
    assert_eq!(y.read::<f32>().unwrap(), [0.0, 5.0, 6.0, 0.0, 0.0, 1.0, 2.0, 0.0]);
    let from = View::of(&x, 2, 3).unwrap().cols_of(0..2).unwrap();
    scatter(&d, from, &check::indices(&d, &[1, 1]), to(&mut y)).unwrap();
    assert_eq!(y.read::<f32>().unwrap(), [0.0, 5.0, 6.0, 0.0, 0.0, 6.0, 9.0, 0.0]);
}

#[test]
fn refusals() {
    let (d, other) = (Device::cpu(1).unwrap(), Device::cpu(1).unwrap());
    let (data, mut y) = (check::up(&d, &[1.0; 6]), check::up(&d, &[7.0; 4]));
    let table = Matrix::plain(&data, 3, 2);
    let (good, bad) = (check::indices(&d, &[1, 2]), check::indices(&d, &[1, 3]));
    fn two(b: &mut Buffer) -> ViewMut<'_> {
        ViewMut::of(b, 2, 2).unwrap()
    }
    let e = rows(&d, table, &bad, two(&mut y), false).unwrap_err();
    assert!(matches!(e, Error::Range { got: 3, below: 3, .. }));
    assert_eq!(y.read::<f32>().unwrap(), [7.0; 4], "nothing is written before the indices are checked");
    let (dy, mut sums) = (check::up(&d, &[1.0; 4]), check::up(&d, &[0.0; 6]));
    let from = View::of(&dy, 2, 2).unwrap();
    let e = scatter(&d, from, &bad, ViewMut::of(&mut sums, 3, 2).unwrap()).unwrap_err();
    assert!(matches!(e, Error::Range { got: 3, below: 3, .. }));
    let e = scatter(&d, from, &good, ViewMut::of(&mut sums, 2, 3).unwrap()).unwrap_err();
    assert!(matches!(e, Error::Shape { argument: "table", expected: (2, 2), got: (2, 3), .. }));
    let e = rows(&d, table, &dy, two(&mut y), false).unwrap_err();
    assert!(matches!(e, Error::DType { argument: "index", .. }));
    let e = rows(&d, table, &check::indices(&d, &[1, 2, 0]), two(&mut y), false).unwrap_err();
    assert!(matches!(e, Error::Shape { argument: "y", expected: (3, 2), got: (2, 2), .. }));
    assert!(matches!(rows(&other, table, &good, two(&mut y), false), Err(Error::Elsewhere { .. })));
}
