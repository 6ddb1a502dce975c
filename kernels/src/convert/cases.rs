//! The shapes on which the conversions are checked and timed. The way back is exact, so one
//! case is both ways.
use super::*;
use crate::{Case, Class, PreparedCase, case::noise};

pub(super) fn cases() -> Vec<Case> {
    let mut v: Vec<Case> = [0, 1, 7, 33, 16 * 1024 + 5, 50_001].into_iter().map(|n| case(n, false)).collect();
    v.push(case(2048 * 768, true));
    v
}

/// Values of all sizes, among them those that are hard to round.
pub(super) fn values(n: usize) -> Vec<f32> {
    let hard = [0x3f80_8000, 0x3f81_8000, 0x3f80_8001, 0x3f80_7fff, 0x7f7f_ffff, 0xff7f_7fff, 0x7f80_0000, 1];
    let mut v = noise(1, n);
    v.iter_mut().enumerate().for_each(|(i, x)| *x *= [1.0, 1e-30, 1e30, -1e-3][i % 4]);
    v.iter_mut().skip(2).step_by(11).zip(hard).for_each(|(x, bits)| *x = f32::from_bits(bits));
    v
}

fn case(n: usize, timed: bool) -> Case {
    Case {
        label: format!("to bf16 and back, {n}"),
        tolerance: 0.0,
        flops: 0.0,
        bytes: (cost(n) + cost(n)).bytes,
        timed,
        cuda: true,
        prepare: Box::new(move |d| {
            let x = d.upload(Class::Scratch, &values(n))?;
            let (mut half, y) = (d.alloc::<bf16>(Class::Scratch, n)?, d.alloc::<f32>(Class::Scratch, n)?);
            let d = d.clone();
            Ok(PreparedCase::new(vec![y], move |y| {
                narrow(&d, View::row(&x), ViewMut::row(&mut half))?;
                widen(&d, View::row(&half), ViewMut::row(&mut y[0]))
            }))
        }),
        reference: Box::new(move || values(n).into_iter().map(|x| reference(x).to_f64()).collect()),
    }
}
