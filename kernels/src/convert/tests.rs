use super::*;
use crate::Error;
use crate::{Class, simd::check};

#[test]
fn every_case_on_every_level() {
    check::cases(KERNEL);
}

/// The bits of `x` in bf16.
fn rounded(d: &Device, x: &[f32]) -> Vec<u16> {
    let (from, mut to) = (check::up(d, x), d.alloc::<bf16>(Class::Scratch, x.len()).unwrap());
    narrow(d, View::row(&from), ViewMut::row(&mut to)).unwrap();
    to.read::<bf16>().unwrap().iter().map(|b| b.to_bits()).collect()
}

#[test]
fn every_bf16_its_neighbours_and_the_ties_between() {
    // all upper halves, each with the lower halves around a step, a tie and the next step
    let lower = [0u32, 1, 0x7fff, 0x8000, 0x8001, 0xffff];
    let all: Vec<f32> = (0..=0xffffu32).flat_map(|u| lower.map(|l| f32::from_bits(u << 16 | l))).collect();
    let d = Device::cpu(2).unwrap();
    check::levels(|level| {
        for (x, got) in all.iter().zip(rounded(&d, &all)) {
            let (got, want) = (bf16::from_bits(got), reference(*x));
            let same = got.to_bits() == want.to_bits() || (x.is_nan() && got.is_nan());
            assert!(same, "{level:?}: {x:e} {:x} gives {:x}", x.to_bits(), got.to_bits());
            assert!(x.is_nan() || got.to_bits() == bf16::from_f32(*x).to_bits(), "the crate `half` agrees");
        }
    });
}

#[test]
fn the_way_back_is_exact() {
    let all: Vec<bf16> = (0..=0xffff).map(bf16::from_bits).collect();
    let d = Device::cpu(1).unwrap();
    let (x, mut y) = (d.upload(Class::Scratch, &all).unwrap(), check::up(&d, &vec![1.0; all.len()]));
    check::levels(|level| {
        widen(&d, View::row(&x), ViewMut::row(&mut y)).unwrap();
        for (got, x) in y.read::<f32>().unwrap().iter().zip(&all) {
            assert_eq!(got.to_bits(), u32::from(x.to_bits()) << 16, "{level:?}");
        }
    });
}

#[test]
fn parts_of_matrices() {
    let (d, x) = (Device::cpu(2).unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    let (from, mut half) = (check::up(&d, &x), d.zeros::<bf16>(Class::Scratch, 10).unwrap());
    let part = View::of(&from, 2, 4).unwrap().cols_of(1..3).unwrap();
    narrow(&d, part, ViewMut::of(&mut half, 2, 5).unwrap().cols_of(3..5).unwrap()).unwrap();
    let mut y = check::up(&d, &[0.0; 10]);
    widen(&d, View::row(&half), ViewMut::row(&mut y)).unwrap();
    assert_eq!(y.read::<f32>().unwrap(), [0.0, 0.0, 0.0, 2.0, 3.0, 0.0, 0.0, 0.0, 6.0, 7.0]);
}

#[test]
fn refusals() {
    let (d, other) = (Device::cpu(1).unwrap(), Device::null(1));
    let (x, mut half) = (check::up(&d, &[1.0; 5]), d.alloc::<bf16>(Class::Scratch, 6).unwrap());
    let e = narrow(&d, View::row(&x), ViewMut::row(&mut half)).unwrap_err();
    assert!(matches!(e, Error::Shape { argument: "y", expected: (1, 5), got: (1, 6), .. }));
    let e = narrow(&other, View::row(&x), ViewMut::row(&mut half)).unwrap_err();
    assert!(matches!(e, Error::Elsewhere { .. }));
    let mut y = check::up(&d, &[1.0; 5]);
    let e = narrow(&d, View::row(&x), ViewMut::row(&mut y)).unwrap_err();
    assert!(matches!(e, Error::DType { argument: "y", .. }));
    let e = widen(&d, View::row(&x), ViewMut::row(&mut y)).unwrap_err();
    assert!(matches!(e, Error::DType { argument: "x", .. }));
}
