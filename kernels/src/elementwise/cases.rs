//! The shapes on which the element-wise kernels are checked and timed.
use super::*;
use crate::{Case, Class, Run, case::noise};

#[derive(Clone, Copy, Debug)]
enum Op {
    Add,
    Axpy,
    Scale,
    MulRow,
    MulOne,
}

pub(super) fn cases() -> Vec<Case> {
    let mut v = vec![];
    for op in [Op::Add, Op::Axpy, Op::Scale, Op::MulRow, Op::MulOne] {
        for (rows, cols) in [(0, 4), (1, 1), (3, 7), (50, 1001)] {
            v.push(case(op, rows, cols, false));
        }
        v.push(case(op, 2048, 768, true));
    }
    v
}

fn case(op: Op, rows: usize, cols: usize, timed: bool) -> Case {
    let n = rows * cols;
    // repeated launches must not end in tiny numbers
    let s = if timed { -1.0 } else { -0.75f32 };
    let row = noise(3, if matches!(op, Op::MulOne) { 1 } else { cols });
    let v = row.clone();
    let cost = cost(n, if matches!(op, Op::Add | Op::Axpy) { 3 } else { 2 });
    Case {
        label: format!("{op:?} {rows}x{cols}"),
        tolerance: 1e-7,
        flops: cost.flops,
        bytes: cost.bytes,
        timed,
        cuda: false,
        prepare: Box::new(move |d| {
            let up = |v: &[f32]| d.upload(Class::Scratch, v);
            let (a, b, v, y) = (up(&noise(1, n))?, up(&noise(2, n))?, up(&row)?, up(&noise(4, n))?);
            let d = d.clone();
            Ok(Run::new(vec![y], move |y| match op {
                Op::Add => add(&d, &a, &b, &mut y[0]),
                Op::Axpy => axpy(&d, s, &a, &mut y[0]),
                Op::Scale => scale(&d, s, &mut y[0]),
                Op::MulRow | Op::MulOne => mul_row(&d, &a, &v, cols, &mut y[0]),
            }))
        }),
        reference: Box::new(move || {
            let (a, b, y) = (noise(1, n), noise(2, n), noise(4, n));
            let of = |i: usize| {
                let [a, b, y] = [a[i], b[i], y[i]].map(f64::from);
                match op {
                    Op::Add => a + b,
                    Op::Axpy => y + f64::from(s) * a,
                    Op::Scale => y * f64::from(s),
                    Op::MulRow => a * f64::from(v[i % cols]),
                    Op::MulOne => a * f64::from(v[0]),
                }
            };
            (0..n).map(of).collect()
        }),
    }
}
