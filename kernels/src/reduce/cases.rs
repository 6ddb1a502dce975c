//! The shapes on which the sums are checked and timed.
use super::*;
use crate::{
    Case, Class, PreparedCase,
    case::{noise, wide as double},
};

pub(super) fn cases() -> Vec<Case> {
    let mut v = vec![];
    for (rows, cols) in [(0, 3), (1, 1), (5, 2), (33, 7), (31, 64), (100, 65), (77, 200)] {
        for gap in [0, 9] {
            v.extend([false, true].map(|dots| case([rows, cols, gap], dots, !dots, false)));
        }
    }
    for (rows, cols) in [(2048, 768), (2048, 3072), (2048, 48)] {
        v.extend([false, true].map(|dots| case([rows, cols, 0], dots, false, true)));
    }
    v
}
/// Rows and columns of matrices whose rows are `gap` elements apart.
fn case([rows, cols, gap]: [usize; 3], dots: bool, accumulate: bool, timed: bool) -> Case {
    let (n, wide) = (rows * cols, cols + gap);
    let operation = if dots { "dots" } else { "sums" };
    Case {
        label: format!("column_{operation} {rows}x{cols}{}", if gap > 0 { " of wider rows" } else { "" }),
        tolerance: 1e-6,
        flops: cost(n, dots).flops,
        bytes: cost(n, dots).bytes,
        timed,
        cuda: true,
        prepare: Box::new(move |d| {
            let up = |v: &[f32]| d.upload(Class::Scratch, v);
            let (a, b) = (up(&noise(1, rows * wide))?, up(&noise(2, rows * wide))?);
            let y = up(&noise(3, cols))?;
            let d = d.clone();
            Ok(PreparedCase::new(vec![y], move |y| {
                let part = |x| View::of(x, rows, wide)?.cols_of(gap..wide);
                if dots {
                    return column_dots(&d, part(&a)?, part(&b)?, ViewMut::row(&mut y[0]), accumulate);
                }
                column_sums(&d, part(&a)?, ViewMut::row(&mut y[0]), accumulate)
            }))
        }),
        reference: Box::new(move || {
            let part = |seed| -> Vec<f64> {
                let all = double(&noise(seed, rows * wide));
                all.chunks(wide).flat_map(|row| row[gap..].to_vec()).collect()
            };
            let b = if dots { part(2) } else { vec![1.0; n] };
            let mut y = reference(&part(1), &b, cols);
            if accumulate {
                y.iter_mut().zip(noise(3, cols)).for_each(|(y, x)| *y += f64::from(x));
            }
            y
        }),
    }
}
