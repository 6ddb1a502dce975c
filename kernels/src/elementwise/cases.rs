//! The shapes on which the element-wise kernels are checked and timed: of matrices of their own,
//! and of columns of wider ones.
use super::*;
use crate::{Case, Class, PreparedCase, case::noise};

#[derive(Clone, Copy, Debug)]
enum Op {
    Copy,
    Add,
    Axpy,
    Scale,
    MulRow,
    MulOne,
}

pub(super) fn cases() -> Vec<Case> {
    let mut v = vec![];
    for op in [Op::Copy, Op::Add, Op::Axpy, Op::Scale, Op::MulRow, Op::MulOne] {
        for (rows, cols) in [(0, 4), (3, 0), (1, 1), (3, 7), (50, 1001)] {
            v.extend([0, 5].map(|gap| case(op, [rows, cols, gap], false)));
        }
        v.push(case(op, [2048, 768, 0], true));
    }
    v.push(case(Op::Copy, [2048, 768, 1536], true));
    v
}

/// Rows and columns of matrices whose rows are `gap` elements apart.
fn case(op: Op, [rows, cols, gap]: [usize; 3], timed: bool) -> Case {
    let (n, wide) = (rows * cols, cols + gap);
    // repeated launches must not end in tiny numbers
    let s = if timed { -1.0 } else { -0.75f32 };
    let row = noise(3, if matches!(op, Op::MulOne) { 1 } else { cols });
    let v = row.clone();
    let cost = match op {
        Op::Copy => cost(n, 2, 0),
        Op::Add | Op::Axpy => cost(n, 3, 1),
        Op::Scale | Op::MulRow | Op::MulOne => cost(n, 2, 1),
    };
    Case {
        label: format!("{op:?} {rows}x{cols}{}", if gap > 0 { " of wider rows" } else { "" }),
        tolerance: 1e-7,
        flops: cost.flops,
        bytes: cost.bytes,
        timed,
        cuda: true,
        prepare: Box::new(move |d| {
            let up = |v: &[f32]| d.upload(Class::Scratch, v);
            let [a, b, y] = [1, 2, 4].map(|seed| up(&noise(seed, rows * wide)));
            let (a, b, y, v, d) = (a?, b?, y?, up(&row)?, d.clone());
            Ok(PreparedCase::new(vec![y], move |y| {
                let part = |b| View::of(b, rows, wide)?.cols_of(gap..wide);
                let (a, b, y) =
                    (part(&a)?, part(&b)?, ViewMut::of(&mut y[0], rows, wide)?.cols_of(gap..wide)?);
                match op {
                    Op::Copy => copy(&d, a, y),
                    Op::Add => add(&d, a, b, y),
                    Op::Axpy => axpy(&d, s, a, y),
                    Op::Scale => scale(&d, s, y),
                    Op::MulRow | Op::MulOne => mul_row(&d, a, &v, y),
                }
            }))
        }),
        reference: Box::new(move || {
            let [a, b, y] = [1, 2, 4].map(|seed| noise(seed, rows * wide));
            let of = |i: usize| {
                let [a, b, y] = [a[i], b[i], y[i]].map(f64::from);
                if i % wide < gap {
                    return y;
                }
                match op {
                    Op::Copy => a,
                    Op::Add => a + b,
                    Op::Axpy => y + f64::from(s) * a,
                    Op::Scale => y * f64::from(s),
                    Op::MulRow => a * f64::from(v[i % wide - gap]),
                    Op::MulOne => a * f64::from(v[0]),
                }
            };
            (0..rows * wide).map(of).collect()
        }),
    }
}
