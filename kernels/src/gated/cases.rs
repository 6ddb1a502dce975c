//! The shapes on which gated products are checked and timed; a and b are the halves of one matrix,
//! as a fused projection gives them, or matrices of their own.
use super::*;
use crate::{
    Case, Class, PreparedCase,
    case::{noise, wide},
};

pub(super) fn cases() -> Vec<Case> {
    let mut v = vec![];
    for back in [false, true] {
        for (rows, cols) in [(0, 4), (3, 0), (1, 1), (5, 7), (33, 65), (9, 2500)] {
            for f in [Activation::Silu, Activation::Gelu, Activation::Sigmoid] {
                v.extend([false, true].map(|fused| case(f, rows, cols, fused, back, false)));
            }
        }
        v.push(case(Activation::Silu, 2048, 2048, true, back, true));
        v.push(case(Activation::GeluTanh, 2048, 2048, false, back, true));
    }
    v
}
/// (a, b, dy): a and b beside each other if they are fused.
fn inputs(rows: usize, cols: usize) -> [Vec<f32>; 3] {
    [1, 2, 3].map(|seed| noise(seed, rows * cols).iter().map(|x| 2.0 * x).collect())
}
fn case(f: Activation, rows: usize, cols: usize, fused: bool, back: bool, timed: bool) -> Case {
    let n = rows * cols;
    let cost = cost(n, back);
    let direction = if back { "backward" } else { "forward" };
    Case {
        label: format!("{f:?} {direction} {rows}x{cols}{}", if fused { ", fused" } else { "" }),
        tolerance: 5e-7,
        flops: cost.flops,
        bytes: cost.bytes,
        timed,
        cuda: true,
        prepare: Box::new(move |d| {
            let [a, b, dy] = inputs(rows, cols);
            let both: Vec<f32> = if fused {
                (0..rows).flat_map(|i| [&a[i * cols..][..cols], &b[i * cols..][..cols]].concat()).collect()
            } else {
                [a, b].concat()
            };
            let (both, dy) = (d.upload(Class::Scratch, &both)?, d.upload(Class::Scratch, &dy)?);
            let outputs = (0..if back { 2 } else { 1 }).map(|_| d.alloc::<f32>(Class::Scratch, n));
            let (outputs, d) = (outputs.collect::<Result<_>>()?, d.clone());
            Ok(PreparedCase::new(outputs, move |y| {
                let (a, b) = if fused {
                    let both = View::of(&both, rows, 2 * cols)?;
                    (both.cols_of(0..cols)?, both.cols_of(cols..2 * cols)?)
                } else {
                    let both = View::of(&both, 2 * rows, cols)?;
                    (both.rows_of(0..rows)?, both.rows_of(rows..2 * rows)?)
                };
                match y {
                    [y] => forward(&d, f, a, b, ViewMut::of(y, rows, cols)?),
                    [da, db] => {
                        let (da, db) = (ViewMut::of(da, rows, cols)?, ViewMut::of(db, rows, cols)?);
                        backward(&d, f, View::of(&dy, rows, cols)?, a, b, da, db)
                    }
                    _ => unreachable!("one output or two"),
                }
            }))
        }),
        reference: Box::new(move || {
            let [a, b, dy] = inputs(rows, cols).map(|v| wide(&v));
            if back { reference_backward(f, &dy, &a, &b).concat() } else { reference(f, &a, &b) }
        }),
    }
}
