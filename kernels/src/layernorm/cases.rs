//! The shapes on which the normalisation is checked and timed.
use super::*;
use crate::{
    Case, Class, Run,
    case::{noise, wide},
    dropout,
};

const EPS: f32 = 1e-5;

pub(super) fn cases() -> Vec<Case> {
    let mut v = vec![];
    for (rows, cols) in [(0, 5), (1, 1), (1, 2), (3, 7), (2, 16), (5, 33), (130, 384), (7, 1001)] {
        for drop in [false, true] {
            v.push(forward_case(rows, cols, drop, true, true, false));
            v.push(forward_case(rows, cols, drop, false, false, false));
            v.push(backward_case(rows, cols, drop, false));
        }
    }
    v.push(forward_case(2048, 768, false, true, false, true));
    for drop in [false, true] {
        v.push(forward_case(2048, 768, drop, true, true, true));
        v.push(backward_case(2048, 768, drop, true));
    }
    v
}
fn drops(on: bool) -> Option<Dropout> {
    on.then(|| Dropout::new(0.3, 7, 8, 9))
}

/// (x, r, γ, β), the rows with means of their own.
fn inputs(rows: usize, cols: usize) -> [Vec<f32>; 4] {
    let mut x = noise(1, rows * cols);
    x.chunks_mut(cols).enumerate().for_each(|(i, row)| row.iter_mut().for_each(|x| *x += (i % 5) as f32));
    let gamma = noise(3, cols).iter().map(|g| 1.0 + 0.1 * g).collect();
    [x, noise(2, rows * cols), gamma, noise(4, cols)]
}
fn sum(x: &[f32], r: Option<&[f32]>, drop: bool, cols: usize) -> Vec<f64> {
    let x = match drops(drop) {
        Some(d) => dropout::reference(d, cols, &wide(x)),
        None => wide(x),
    };
    let Some(r) = r else { return x };
    x.iter().zip(wide(r)).map(|(x, r)| x + r).collect()
}

fn forward_case(rows: usize, cols: usize, drop: bool, residual: bool, keep: bool, timed: bool) -> Case {
    let len = rows * cols;
    let cost = cost(len, drop, residual, keep);
    let of = |b: bool, name: &'static str| if b { name } else { "" };
    Case {
        label: format!(
            "forward{}{}{} {rows}x{cols}",
            of(drop, ", dropped out"),
            of(residual, " + residual"),
            of(keep, ", kept")
        ),
        tolerance: if cols < 3 { 2e-5 } else { 1e-6 },
        flops: cost.flops,
        bytes: cost.bytes,
        timed,
        cuda: !drop,
        prepare: Box::new(move |d| {
            let [x, r, g, b] = inputs(rows, cols);
            let up = |v: &[f32]| d.upload(Class::Scratch, v);
            let (x, r, gamma, beta) = (up(&x)?, up(&r)?, up(&g)?, up(&b)?);
            let kept = if keep { len } else { 0 };
            let mut outputs =
                vec![d.alloc::<f32>(Class::Scratch, len)?, d.alloc::<f32>(Class::Scratch, kept)?];
            outputs.push(d.alloc::<f32>(Class::Scratch, if keep { rows } else { 0 })?);
            let d = d.clone();
            Ok(Run::new(outputs, move |y| {
                let [y, normed, rstd] = y else { unreachable!() };
                let dropout = drops(drop);
                let n = Norm { gamma: &gamma, beta: &beta, eps: EPS, rows, cols, dropout };
                forward(&d, &x, residual.then_some(&r), n, y, keep.then_some(Kept { normed, rstd }))
            }))
        }),
        reference: Box::new(move || {
            let [x, r, g, b] = inputs(rows, cols);
            let s = sum(&x, residual.then_some(&r), drop, cols);
            let (mut y, hat, inv) = reference(&s, &wide(&g), &wide(&b), f64::from(EPS));
            if keep {
                y.extend(hat);
                y.extend(inv);
            }
            y
        }),
    }
}

fn backward_case(rows: usize, cols: usize, drop: bool, timed: bool) -> Case {
    let len = rows * cols;
    // x̂ and rstd as the forward pass gives them
    let kept = move || {
        let [x, _, g, b] = inputs(rows, cols);
        let (_, hat, inv) = reference(&wide(&x), &wide(&g), &wide(&b), f64::from(EPS));
        let narrow = |v: Vec<f64>| v.into_iter().map(|x| x as f32).collect::<Vec<f32>>();
        (narrow(hat), narrow(inv), g)
    };
    Case {
        label: format!("backward{} {rows}x{cols}", if drop { ", dropped out" } else { "" }),
        // of one or two channels, next to nothing is left of the gradient
        tolerance: if cols < 3 { 1e-3 } else { 2e-6 },
        flops: cost_backward(len, drop).flops,
        bytes: cost_backward(len, drop).bytes,
        timed,
        cuda: !drop,
        prepare: Box::new(move |d| {
            let (hat, inv, g) = kept();
            let up = |v: &[f32]| d.upload(Class::Scratch, v);
            let (dy, hat, inv, gamma) = (up(&noise(5, len))?, up(&hat)?, up(&inv)?, up(&g)?);
            let outputs = (0..1 + usize::from(drop)).map(|_| d.alloc::<f32>(Class::Scratch, len));
            let (outputs, d) = (outputs.collect::<Result<_>>()?, d.clone());
            Ok(Run::new(outputs, move |y| {
                let dropout = drops(drop);
                let n = Norm { gamma: &gamma, beta: &gamma, eps: EPS, rows, cols, dropout };
                let [ds, dx @ ..] = y else { unreachable!() };
                backward(&d, &dy, &hat, &inv, n, ds, dx.first_mut())
            }))
        }),
        reference: Box::new(move || {
            let (hat, inv, g) = kept();
            let mut ds = reference_backward(&wide(&noise(5, len)), &wide(&hat), &wide(&inv), &wide(&g));
            if let Some(d) = drops(drop) {
                ds.extend(dropout::reference(d, cols, &ds));
            }
            ds
        }),
    }
}
