//! The shapes on which the divergence is checked and timed.
use super::*;
use crate::{
    Case, Class, PreparedCase,
    case::{noise, wide},
};

const SCALE: f32 = 0.5;

pub(super) fn cases() -> Vec<Case> {
    let mut v = vec![];
    for back in [false, true] {
        for (rows, classes) in [(0, 3), (1, 1), (1, 2), (7, 3), (300, 200), (63, 65)] {
            v.push(case(rows, classes, back, false));
        }
        v.push(case(512, 1024, back, true));
    }
    v
}
/// Logits, and a distribution for each row; every fifth has none.
pub(super) fn inputs(rows: usize, classes: usize) -> [Vec<f32>; 2] {
    let z = noise(1, rows * classes).iter().map(|z| 3.0 * z).collect();
    let mut q = reference(&noise(2, rows * classes), &vec![1.0; rows * classes], 2.0, classes).1;
    q.chunks_mut(classes).enumerate().filter(|(i, _)| i % 5 == 3).for_each(|(_, q)| q.fill(0.0));
    [z, q]
}
fn case(rows: usize, classes: usize, back: bool, timed: bool) -> Case {
    let n = rows * classes;
    let (cost, dloss) = (cost(n, back), 0.7f32);
    Case {
        label: format!("{} {rows}x{classes}", if back { "backward" } else { "forward" }),
        tolerance: 5e-7,
        flops: cost.flops,
        bytes: cost.bytes,
        timed,
        cuda: false,
        prepare: Box::new(move |d| {
            let up = |v: &[f32]| d.upload(Class::Scratch, v);
            let [z, q] = inputs(rows, classes);
            let p = up(&reference(&z, &q, SCALE, classes).1)?;
            let (z, q, dloss) = (up(&z)?, up(&q)?, up(&[dloss])?);
            let mut outputs = vec![d.alloc::<f32>(Class::Scratch, n)?];
            if !back {
                outputs.insert(0, d.alloc::<f32>(Class::Scratch, 1)?);
            }
            let d = d.clone();
            Ok(PreparedCase::new(outputs, move |y| {
                let q = View::of(&q, rows, classes)?;
                match y {
                    [dz] => {
                        let (p, dz) = (View::of(&p, rows, classes)?, ViewMut::of(dz, rows, classes)?);
                        backward(&d, &dloss, p, q, SCALE, dz)
                    }
                    [loss, p] => {
                        let (z, p) = (View::of(&z, rows, classes)?, ViewMut::of(p, rows, classes)?);
                        forward(&d, z, q, SCALE, p, loss)
                    }
                    _ => unreachable!("one output or two"),
                }
            }))
        }),
        reference: Box::new(move || {
            let [z, q] = inputs(rows, classes);
            let (loss, p) = reference(&wide(&z), &wide(&q), f64::from(SCALE), classes);
            match back {
                true => reference_backward(f64::from(dloss), &p, &wide(&q), f64::from(SCALE), classes),
                false => std::iter::once(loss).chain(p).collect(),
            }
        }),
    }
}
