use super::*;
use crate::Error;
use crate::simd::check;
use proptest::prelude::*;

#[test]
fn every_case_on_every_level() {
    check::cases(KERNEL);
}

proptest! {
    #[test]
    fn nothing_else_is_written(rows in 0usize..9, cols in 0usize..9, at in 0usize..9, below in 0usize..3, threads in 1usize..4) {
        let d = Device::cpu(threads).unwrap();
        let (width, all) = (at + cols + 1, rows + 2 * below);
        let (x, mut y) = (check::up(&d, &vec![1.0; rows * cols]), check::up(&d, &vec![0.0; all * width]));
        let to = ViewMut::of(&mut y, all, width).unwrap();
        let to = to.rows_of(below..below + rows).unwrap().cols_of(at..at + cols).unwrap();
        copy(&d, View::of(&x, rows, cols).unwrap(), to).unwrap();
        for (i, y) in y.read::<f32>().unwrap().into_iter().enumerate() {
            let (i, j) = (i / width, i % width);
            let inside = (below..below + rows).contains(&i) && (at..at + cols).contains(&j);
            prop_assert_eq!(y, if inside { 1.0 } else { 0.0 });
        }
    }
}

#[test]
fn refusals() {
    let (d, other) = (Device::cpu(1).unwrap(), Device::cpu(1).unwrap());
    let (x, mut y) = (check::up(&d, &[1.0; 5]), check::up(&d, &[1.0; 6]));
    let x = View::row(&x);
    let shape = |r: Result<()>, name: &str| {
        assert!(
            matches!(r, Err(Error::Shape { argument, expected: (1, 6), got: (1, 5), .. }) if argument == name)
        );
    };
    shape(add(&d, x, x, ViewMut::row(&mut y)), "a");
    shape(axpy(&d, 1.0, x, ViewMut::row(&mut y)), "x");
    shape(copy(&d, x, ViewMut::row(&mut y)), "x");
    assert!(matches!(scale(&other, 1.0, ViewMut::row(&mut y)), Err(Error::Elsewhere { .. })));
    let (z, v) = (check::up(&d, &[1.0; 6]), check::up(&d, &[1.0; 5]));
    let e = mul_row(&d, View::row(&z), &v, ViewMut::row(&mut y)).unwrap_err();
    assert!(matches!(e, Error::Length { argument: "v", .. }));
    assert!(matches!(scale(&d, 1.0, ViewMut::row(&mut check::indices(&d, &[1]))), Err(Error::DType { .. })));
}
