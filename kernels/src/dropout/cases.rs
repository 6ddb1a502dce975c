//! The shapes on which dropout is checked and timed.
use super::*;
use crate::{
    Case, Class, PreparedCase,
    case::{noise, wide},
};

pub(super) fn cases() -> Vec<Case> {
    let shapes = [(0, 3), (3, 0), (1, 1), (3, 5), (17, 33), (70, 500)];
    let mut v: Vec<Case> = shapes.into_iter().map(|(r, c)| case(r, c, 0.3, false)).collect();
    v.extend([case(4, 9, 0.0, false), case(2048, 768, 0.1, true), case(2048, 3072, 0.1, true)]);
    v
}
fn case(rows: usize, cols: usize, p: f32, timed: bool) -> Case {
    let (n, drop) = (rows * cols, Dropout::new(p, 7, 8, 9));
    // each launch first writes its input
    let cost = cost(n) + Cost::copy(4 * n);
    Case {
        label: format!("p = {p}, {rows}x{cols}"),
        tolerance: 1e-7,
        flops: cost.flops,
        bytes: cost.bytes,
        timed,
        cuda: true,
        prepare: Box::new(move |d| {
            let (x, outputs) = (noise(1, n), vec![d.alloc::<f32>(Class::Scratch, n)?]);
            let d = d.clone();
            Ok(PreparedCase::new(outputs, move |y| {
                y[0].write(&x)?;
                apply(&d, drop, ViewMut::of(&mut y[0], rows, cols)?)
            }))
        }),
        reference: Box::new(move || reference(drop, cols, &wide(&noise(1, n)))),
    }
}
