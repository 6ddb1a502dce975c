//! The shapes on which mixtures are checked and timed: few and many groups, of equal
//! and of odd widths.
use super::*;
use crate::{
    Case, Class, PreparedCase,
    case::{noise, wide},
};

pub(super) fn cases() -> Vec<Case> {
    let mut v = vec![];
    for launch in LAUNCHES {
        for (rows, widths, stride) in [
            (0, &[3, 2][..], 1),
            (1, &[1], 1),
            (5, &[7, 0, 3], 3),
            (33, &[65, 33, 1, 31], 2),
            (4, &[300, 17, 32], 1),
        ] {
            v.push(case(launch, rows, widths, stride, false));
        }
        v.push(case(launch, 2048, &[65, 65, 65], 1, true));
    }
    v
}
#[derive(Clone, Copy, Debug)]
enum Launch {
    Dots,
    Spread,
    Softmax,
    SoftmaxBackward,
}
const LAUNCHES: [Launch; 4] = [Launch::Dots, Launch::Spread, Launch::Softmax, Launch::SoftmaxBackward];

/// (two matrices of all columns, two of a number for each group)
fn inputs(rows: usize, widths: &[usize]) -> [Vec<f32>; 4] {
    let (cols, groups) = (columns(widths), widths.len());
    [(1, cols), (2, cols), (3, groups), (4, groups)].map(|(seed, n)| noise(seed, rows * n))
}
fn case(launch: Launch, rows: usize, widths: &'static [usize], stride: usize, timed: bool) -> Case {
    let (cols, groups) = (columns(widths), widths.len());
    let cost = match launch {
        Launch::Dots => cost(2 * rows * cols, rows * groups, 1),
        Launch::Spread => cost(rows * cols, rows * cols, 1),
        Launch::Softmax => cost(rows * groups, rows * groups, 10),
        Launch::SoftmaxBackward => cost(2 * rows * groups, rows * groups, 2),
    };
    let out = if matches!(launch, Launch::Spread) { cols } else { groups };
    Case {
        label: format!("{launch:?} {rows}x{widths:?} stride {stride}"),
        tolerance: 1e-6,
        flops: cost.flops,
        bytes: cost.bytes,
        timed,
        cuda: true,
        prepare: Box::new(move |d| {
            let [a, b, s, t] = inputs(rows, widths);
            let up = |v: &[f32]| d.upload(Class::Scratch, v);
            let (a, b, s, t) = (up(&a)?, up(&b)?, up(&s)?, up(&t)?);
            let (y, d) = (d.alloc::<f32>(Class::Scratch, rows * out)?, d.clone());
            Ok(PreparedCase::new(vec![y], move |y| {
                let (a, b) = (View::of(&a, rows, cols)?, View::of(&b, rows, cols)?);
                let (s, t) = (View::of(&s, rows, groups)?, View::of(&t, rows, groups)?);
                let y = ViewMut::of(&mut y[0], rows, out)?;
                match launch {
                    Launch::Dots => dots(&d, a, b, widths, y),
                    Launch::Spread => spread(&d, a, s, widths, y),
                    Launch::Softmax => softmax(&d, s, stride, y),
                    Launch::SoftmaxBackward => softmax_backward(&d, s, t, stride, y),
                }
            }))
        }),
        reference: Box::new(move || {
            let [a, b, s, t] = inputs(rows, widths).map(|v| wide(&v));
            match launch {
                Launch::Dots => reference_dots(&a, &b, widths),
                Launch::Spread => reference_spread(&a, &s, widths),
                Launch::Softmax => reference_softmax(&s, groups, stride),
                Launch::SoftmaxBackward => reference_softmax_backward(&s, &t, groups, stride),
            }
        }),
    }
}
