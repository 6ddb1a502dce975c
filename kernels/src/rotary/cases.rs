//! The shapes on which the rotation is checked and timed.
use super::*;
use crate::{
    Case, PreparedCase,
    case::{noise, wide},
};

/// Rows, heads, channels of a head, frequencies.
type Shape = [usize; 4];

pub(super) fn cases() -> Vec<Case> {
    let mut v = vec![];
    for shape in [
        [0, 1, 2, 1],
        [1, 1, 1, 0],
        [1, 1, 2, 1],
        [5, 3, 7, 2],
        [9, 2, 34, 17],
        [300, 4, 64, 32],
        [70, 2, 80, 16],
    ] {
        for pairs in [Pairs::Halves, Pairs::Neighbours] {
            v.extend([false, true].map(|back| case(shape, pairs, back, false)));
        }
    }
    for pairs in [Pairs::Halves, Pairs::Neighbours] {
        v.push(case([2048, 12, 64, 32], pairs, false, true));
    }
    v
}
/// Frequencies as models have them, and the position of each row.
pub(super) fn inputs([rows, _, _, frequencies]: Shape) -> (Vec<f32>, Vec<u32>) {
    let frequency = |i: usize| 10_000f32.powf(-(i as f32) / frequencies as f32);
    ((0..frequencies).map(frequency).collect(), (0..rows).map(|i| (i * 37 % 500) as u32).collect())
}
/// The angles of rows as [`Angles::new`] rounds them.
pub(super) fn angles(frequencies: &[f32], positions: &[u32]) -> Vec<f64> {
    positions.iter().flat_map(|p| frequencies.iter().map(|f| f64::from(*p as f32 * f))).collect()
}
fn case(shape: Shape, pairs: Pairs, back: bool, timed: bool) -> Case {
    let [rows, heads, head_dim, n] = shape;
    let len = rows * heads * head_dim;
    // each launch first writes its input
    let cost = cost(rows * heads * 2 * n) + Cost::copy(4 * len);
    Case {
        label: format!("{pairs:?}{} {rows}x{heads}x{head_dim}, {n}", if back { " back" } else { "" }),
        tolerance: 3e-7,
        flops: cost.flops,
        bytes: cost.bytes,
        timed,
        cuda: true,
        prepare: Box::new(move |d| {
            let (frequencies, positions) = inputs(shape);
            let angles = Angles::new(d, Class::Scratch, &frequencies, 500, 1.0)?;
            let positions = d.upload(Class::Scratch, &positions)?;
            let (x, y, d) = (noise(1, len), d.alloc::<f32>(Class::Scratch, len)?, d.clone());
            Ok(PreparedCase::new(vec![y], move |y| {
                y[0].write(&x)?;
                let x = ViewMut::of(&mut y[0], rows, heads * head_dim)?;
                rotate(&d, Rotary { angles: &angles, pairs, head_dim, back }, &positions, x)
            }))
        }),
        reference: Box::new(move || {
            let (frequencies, positions) = inputs(shape);
            let sign = if back { -1.0 } else { 1.0 };
            let angles: Vec<f64> = angles(&frequencies, &positions).iter().map(|a| a * sign).collect();
            reference(&wide(&noise(1, len)), heads, pairs, &angles, n)
        }),
    }
}
