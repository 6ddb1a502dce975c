//! The shapes on which the loss is checked and timed.
use super::*;
use crate::{
    Case, Class, PreparedCase,
    case::{noise, wide},
};

pub(super) fn cases() -> Vec<Case> {
    let mut v = vec![];
    for (rows, classes) in [(1, 1), (1, 2), (7, 3), (300, 200), (16, 2)] {
        v.extend([forward_case(rows, classes, false), backward_case(rows, classes, false)]);
    }
    v.extend([forward_case(512, 30_522, true), backward_case(512, 30_522, true)]);
    v
}
fn inputs(rows: usize, classes: usize) -> (Vec<f32>, Vec<u32>) {
    let z = noise(1, rows * classes).iter().map(|z| 3.0 * z).collect();
    let label = |i: usize| if i % 5 == 3 { IGNORED } else { (i * 7 % classes) as u32 };
    (z, (0..rows).map(label).collect())
}
fn forward_case(rows: usize, classes: usize, timed: bool) -> Case {
    let n = rows * classes;
    Case {
        label: format!("forward {rows}x{classes}"),
        tolerance: 5e-7,
        flops: cost(n, false).flops,
        bytes: cost(n, false).bytes,
        timed,
        cuda: true,
        prepare: Box::new(move |d| {
            let (z, labels) = inputs(rows, classes);
            let (z, labels) = (d.upload(Class::Scratch, &z)?, d.upload(Class::Scratch, &labels)?);
            let outputs = vec![d.alloc::<f32>(Class::Scratch, 1)?, d.alloc::<f32>(Class::Scratch, n)?];
            let d = d.clone();
            Ok(PreparedCase::new(outputs, move |y| {
                let [loss, probs] = y else { unreachable!() };
                let probs = ViewMut::of(probs, rows, classes)?;
                forward(&d, View::of(&z, rows, classes)?, &labels, probs, loss)
            }))
        }),
        reference: Box::new(move || {
            let (z, labels) = inputs(rows, classes);
            let (loss, mut probs) = reference(&wide(&z), &labels, classes);
            probs.insert(0, loss);
            probs
        }),
    }
}
fn backward_case(rows: usize, classes: usize, timed: bool) -> Case {
    let n = rows * classes;
    let dloss = 0.7f32;
    Case {
        label: format!("backward {rows}x{classes}"),
        tolerance: 5e-7,
        flops: cost(n, true).flops,
        bytes: cost(n, true).bytes,
        timed,
        cuda: true,
        prepare: Box::new(move |d| {
            let (z, labels) = inputs(rows, classes);
            let probs = reference(&z, &labels, classes).1;
            let (probs, labels) = (d.upload(Class::Scratch, &probs)?, d.upload(Class::Scratch, &labels)?);
            let (dloss, dz) = (d.upload(Class::Scratch, &[dloss])?, d.alloc::<f32>(Class::Scratch, n)?);
            let d = d.clone();
            Ok(PreparedCase::new(vec![dz], move |y| {
                let dz = ViewMut::of(&mut y[0], rows, classes)?;
                backward(&d, &dloss, View::of(&probs, rows, classes)?, &labels, dz)
            }))
        }),
        reference: Box::new(move || {
            let (z, labels) = inputs(rows, classes);
            let probs = reference(&z, &labels, classes).1;
            reference_backward(f64::from(dloss), &wide(&probs), &labels, classes)
        }),
    }
}
