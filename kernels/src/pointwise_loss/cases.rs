//! The shapes on which the losses are checked and timed; z is a column of a wider matrix, or a
//! matrix of its own.
use super::*;
use crate::{
    Case, Class, PreparedCase,
    case::{noise, wide},
};

pub(super) fn cases() -> Vec<Case> {
    let mut v = vec![];
    for loss in [Loss::SquaredError, Loss::BinaryCrossEntropy] {
        for back in [false, true] {
            for (rows, cols, width) in
                [(0, 1, 1), (1, 1, 1), (16, 1, 3), (7, 5, 5), (9, 0, 2), (50, 700, 900), (50, 700, 700)]
            {
                v.push(case(loss, rows, cols, width, back, false));
            }
            v.push(case(loss, 2048, 768, 768, back, true));
        }
    }
    v
}
fn case(loss: Loss, rows: usize, cols: usize, width: usize, back: bool, timed: bool) -> Case {
    let n = rows * cols;
    let cost = loss.cost(n, back);
    Case {
        label: format!("{} {rows}x{cols} of {width}", if back { loss.backward_name() } else { loss.name() }),
        tolerance: 5e-7,
        flops: cost.flops,
        bytes: cost.bytes,
        timed,
        cuda: true,
        prepare: Box::new(move |d| {
            let up = |v: &[f32]| d.upload(Class::Scratch, v);
            let (z, targets, dloss) = (up(&noise(1, rows * width))?, up(&noise(2, n))?, up(&[-0.7])?);
            let outputs = vec![d.alloc::<f32>(Class::Scratch, if back { n } else { 1 })?];
            let d = d.clone();
            Ok(PreparedCase::new(outputs, move |y| {
                let z = View::of(&z, rows, width)?.cols_of(width - cols..width)?;
                let targets = View::of(&targets, rows, cols)?;
                if back {
                    return backward(&d, loss, &dloss, z, targets, ViewMut::of(&mut y[0], rows, cols)?);
                }
                forward(&d, loss, z, targets, &mut y[0])
            }))
        }),
        reference: Box::new(move || {
            let (all, targets) = (wide(&noise(1, rows * width)), wide(&noise(2, n)));
            let z: Vec<f64> = all.chunks(width).flat_map(|row| row[width - cols..].to_vec()).collect();
            match back {
                true => reference_backward(loss, f64::from(-0.7f32), &z, &targets, cols),
                false => vec![reference(loss, &z, &targets, cols)],
            }
        }),
    }
}
