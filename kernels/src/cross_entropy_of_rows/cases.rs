//! The shapes on which the loss is checked and timed: z is a part of a wider matrix, or a matrix of
//! its own.
use super::*;
use crate::{
    Case, Class, PreparedCase,
    case::{noise, wide},
};

pub(super) fn cases() -> Vec<Case> {
    let mut v = vec![];
    for back in [false, true] {
        for (lengths, columns, width) in [
            (&[][..], 2, 2),
            (&[0], 2, 3),
            (&[1], 1, 1),
            (&[4, 0, 2, 5], 1, 1),
            (&[3, 17, 1, 9], 2, 5),
            (&[9, 40], 3, 3),
            (&[5, 2], 0, 2),
            (&[9000, 1, 12_000, 63], 2, 2),
        ] {
            v.push(case(lengths.to_vec(), columns, width, back, false));
        }
        v.push(case(vec![384; 32], 2, 2, back, true));
    }
    v
}
/// z, lengths and targets; every fifth column has none, as an example without rows has none.
fn inputs(lengths: &[u32], columns: usize, width: usize) -> (Vec<f32>, Vec<u32>) {
    let rows: u32 = lengths.iter().sum();
    let z = noise(1, rows as usize * width).iter().map(|z| 3.0 * z).collect();
    let target = |(i, rows): (usize, u32)| match (rows, i % 5) {
        (0, _) | (_, 3) => IGNORED,
        (rows, _) => (i as u32 * 7) % rows,
    };
    let each = lengths.iter().flat_map(|rows| (0..columns).map(move |_| *rows));
    (z, each.enumerate().map(target).collect())
}
fn case(lengths: Vec<u32>, columns: usize, width: usize, back: bool, timed: bool) -> Case {
    let rows = lengths.iter().sum::<u32>() as usize;
    let n = rows * columns;
    let (cost, of) = (cost(n, back), lengths.clone());
    let own = move |z: &[f32]| -> Vec<f32> {
        z.chunks(width).flat_map(|row| row[width - columns..].to_vec()).collect()
    };
    Case {
        label: format!(
            "{} {rows}x{columns} of {width} in {}",
            if back { "backward" } else { "forward" },
            lengths.len()
        ),
        tolerance: 5e-7,
        flops: cost.flops,
        bytes: cost.bytes,
        timed,
        cuda: true,
        prepare: Box::new(move |d| {
            let (z, targets) = inputs(&lengths, columns, width);
            let probs = reference(&own(&z), &lengths, &targets, columns).1;
            let up = |v: &[u32]| d.upload(Class::Scratch, v);
            let (lengths, targets) = (up(&lengths)?, up(&targets)?);
            let up = |v: &[f32]| d.upload(Class::Scratch, v);
            let (z, probs, dloss) = (up(&z)?, up(&probs)?, up(&[0.7])?);
            let outputs = match back {
                true => vec![d.alloc::<f32>(Class::Scratch, n)?],
                false => vec![d.alloc::<f32>(Class::Scratch, 1)?, d.alloc::<f32>(Class::Scratch, n)?],
            };
            let d = d.clone();
            Ok(PreparedCase::new(outputs, move |y| match y {
                [loss, probs] => {
                    let z = View::of(&z, rows, width)?.cols_of(width - columns..width)?;
                    forward(&d, z, &lengths, &targets, ViewMut::of(probs, rows, columns)?, loss)
                }
                [dz] => {
                    let (probs, dz) = (View::of(&probs, rows, columns)?, ViewMut::of(dz, rows, columns)?);
                    backward(&d, &dloss, probs, &lengths, &targets, dz)
                }
                _ => unreachable!(),
            }))
        }),
        reference: Box::new(move || {
            let (z, targets) = inputs(&of, columns, width);
            let z = own(&z);
            if back {
                let probs = reference(&z, &of, &targets, columns).1;
                return reference_backward(f64::from(0.7f32), &wide(&probs), &of, &targets, columns);
            }
            let (loss, probs) = reference(&wide(&z), &of, &targets, columns);
            [vec![loss], probs].concat()
        }),
    }
}
