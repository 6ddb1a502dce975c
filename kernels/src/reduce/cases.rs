//! The shapes on which the sums are checked and timed.
use super::*;
use crate::{
    Case, Class, Run,
    case::{noise, wide},
};

pub(super) fn cases() -> Vec<Case> {
    let mut v = vec![];
    for (rows, cols) in [(0, 3), (1, 1), (5, 2), (33, 7), (31, 64), (100, 65), (77, 200)] {
        v.extend([case(rows, cols, false, true, false), case(rows, cols, true, false, false)]);
    }
    for (rows, cols) in [(2048, 768), (2048, 3072), (2048, 48)] {
        v.extend([case(rows, cols, false, false, true), case(rows, cols, true, false, true)]);
    }
    v
}
fn case(rows: usize, cols: usize, dots: bool, accumulate: bool, timed: bool) -> Case {
    let n = rows * cols;
    Case {
        label: format!("column_{} {rows}x{cols}", if dots { "dots" } else { "sums" }),
        tolerance: 1e-6,
        flops: cost(n, dots).flops,
        bytes: cost(n, dots).bytes,
        timed,
        cuda: false,
        prepare: Box::new(move |d| {
            let up = |v: &[f32]| d.upload(Class::Scratch, v);
            let (a, b, y) = (up(&noise(1, n))?, up(&noise(2, n))?, up(&noise(3, cols))?);
            let d = d.clone();
            Ok(Run::new(vec![y], move |y| {
                if dots {
                    return column_dots(&d, &a, &b, rows, cols, &mut y[0], accumulate);
                }
                column_sums(&d, &a, rows, cols, &mut y[0], accumulate)
            }))
        }),
        reference: Box::new(move || {
            let b = if dots { noise(2, n) } else { vec![1.0; n] };
            let mut y = reference(&wide(&noise(1, n)), &wide(&b), cols);
            if accumulate {
                y.iter_mut().zip(noise(3, cols)).for_each(|(y, x)| *y += f64::from(x));
            }
            y
        }),
    }
}
