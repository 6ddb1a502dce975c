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
fn only_the_columns_of_a_view_turn_and_back_again() {
    let (d, rows, cols) = (Device::cpu(2).unwrap(), 7, 20);
    let (frequencies, positions) = cases::inputs([rows, 1, 4, 2]);
    let angles = Angles::new(&d, Class::Scratch, &frequencies, 500, 1.0).unwrap();
    let (x, positions_on) = (noise(1, rows * cols), check::indices(&d, &positions));
    let rows_angles = cases::angles(&frequencies, &positions);
    for pairs in [Pairs::Halves, Pairs::Neighbours] {
        check::levels(|_| {
            let mut y = check::up(&d, &x);
            let rotate_part = |back, y: &mut Buffer| {
                let part = ViewMut::of(y, rows, cols).unwrap().cols_of(4..16).unwrap();
                rotate(&d, Rotary { angles: &angles, pairs, head_dim: 6, back }, &positions_on, part)
                    .unwrap();
            };
            rotate_part(false, &mut y);
            let got = y.read::<f32>().unwrap();
            for (i, (got, x)) in got.chunks(cols).zip(x.chunks(cols)).enumerate() {
                assert_eq!((&got[..4], &got[16..]), (&x[..4], &x[16..]));
                let want = reference(&wide(&x[4..16]), 2, pairs, &rows_angles[2 * i..2 * i + 2], 2);
                assert!(check::distance(&got[4..16], &want) < 1e-6, "{pairs:?} {i}");
            }
            rotate_part(true, &mut y);
            assert!(check::distance(&y.read::<f32>().unwrap(), &wide(&x)) < 1e-6);
        });
    }
}

#[test]
fn a_scale_is_a_factor_in_both_directions() {
    let d = Device::cpu(1).unwrap();
    let turned = |scale, back| {
        let angles = Angles::new(&d, Class::Scratch, &[0.3], 4, scale).unwrap();
        let mut x = check::up(&d, &[1.0, 2.0]);
        let r = Rotary { angles: &angles, pairs: Pairs::Halves, head_dim: 2, back };
        rotate(&d, r, &check::indices(&d, &[3]), ViewMut::of(&mut x, 1, 2).unwrap()).unwrap();
        x.read::<f32>().unwrap()
    };
    for back in [false, true] {
        let want: Vec<f64> = turned(1.0, back).iter().map(|x| 1.5 * f64::from(*x)).collect();
        assert!(check::distance(&turned(1.5, back), &want) < 1e-6);
    }
}

#[test]
fn refusals() {
    let d = Device::cpu(1).unwrap();
    let angles = Angles::new(&d, Class::Scratch, &[1.0, 0.1], 3, 1.0).unwrap();
    let mut x = check::up(&d, &[0.0; 12]);
    let mut go = |head_dim, positions: &[u32], cols| {
        let r = Rotary { angles: &angles, pairs: Pairs::Halves, head_dim, back: false };
        rotate(&d, r, &check::indices(&d, positions), ViewMut::of(&mut x, 12 / cols, cols).unwrap())
    };
    let mut message = |head_dim| go(head_dim, &[0, 2], 6).unwrap_err().to_string();
    assert_eq!(message(4), "rotary: `x` has 6 columns, which are no whole heads of 4");
    assert_eq!(message(0), "rotary: `x` has 6 columns, which are no whole heads of 0");
    assert_eq!(message(3), "rotary: 4 values of a head are to be rotated, and it has 3");
    let beyond = go(6, &[0, 3], 6);
    assert!(matches!(beyond, Err(Error::Range { got: 3, below: 3, .. })));
    assert!(matches!(go(6, &[0], 6), Err(Error::Length { argument: "positions", .. })));
    assert!(go(6, &[0, 2], 6).is_ok());
}
