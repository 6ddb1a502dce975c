//! The shapes on which the normalisation is checked and timed.
use super::*;
use crate::{
    Case, Class, PreparedCase,
    case::{noise, wide},
    dropout,
};

const EPS: f32 = 1e-5;

/// Which norm: about the mean or not, with a bias or without.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Layer,
    Biasless,
    Rms,
}
impl Kind {
    fn centred(self) -> bool {
        self != Kind::Rms
    }
    fn has_bias(self) -> bool {
        self == Kind::Layer
    }
    fn name(self) -> &'static str {
        match self {
            Kind::Layer => "",
            Kind::Biasless => " without bias",
            Kind::Rms => " about zero",
        }
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut v = vec![];
    for (rows, cols) in [(0, 5), (1, 1), (1, 2), (3, 7), (2, 16), (5, 33), (130, 384), (7, 1001), (4100, 3)] {
        for drop in [false, true] {
            v.push(forward_case(Kind::Layer, [rows, cols], drop, true, true, false));
            v.push(forward_case(Kind::Layer, [rows, cols], drop, false, false, false));
            v.push(backward_case(Kind::Layer, [rows, cols], drop, false));
        }
        for kind in [Kind::Biasless, Kind::Rms] {
            v.push(forward_case(kind, [rows, cols], false, cols > 2, true, false));
            v.push(backward_case(kind, [rows, cols], false, false));
        }
    }
    v.push(forward_case(Kind::Layer, [2048, 768], false, true, false, true));
    for drop in [false, true] {
        v.push(forward_case(Kind::Layer, [2048, 768], drop, true, true, true));
        v.push(backward_case(Kind::Layer, [2048, 768], drop, true));
    }
    v.push(forward_case(Kind::Rms, [2048, 768], false, false, true, true));
    v.push(backward_case(Kind::Rms, [2048, 768], false, true));
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

fn forward_case(
    kind: Kind,
    [rows, cols]: [usize; 2],
    drop: bool,
    residual: bool,
    keep: bool,
    timed: bool,
) -> Case {
    let len = rows * cols;
    let cost = cost(len, drop, residual, keep);
    let of = |b: bool, name: &'static str| if b { name } else { "" };
    Case {
        label: format!(
            "forward{}{}{}{} {rows}x{cols}",
            kind.name(),
            of(drop, ", dropped out"),
            of(residual, " + residual"),
            of(keep, ", kept")
        ),
        tolerance: if cols < 4 { 2e-5 } else { 1e-6 },
        flops: cost.flops,
        bytes: cost.bytes,
        timed,
        cuda: true,
        prepare: Box::new(move |d| {
            let [x, r, g, b] = inputs(rows, cols);
            let up = |v: &[f32]| d.upload(Class::Scratch, v);
            let (x, r, gamma, beta) = (up(&x)?, up(&r)?, up(&g)?, up(&b)?);
            let kept = if keep { len } else { 0 };
            let mut outputs =
                vec![d.alloc::<f32>(Class::Scratch, len)?, d.alloc::<f32>(Class::Scratch, kept)?];
            outputs.push(d.alloc::<f32>(Class::Scratch, if keep { rows } else { 0 })?);
            let d = d.clone();
            Ok(PreparedCase::new(outputs, move |y| {
                let [y, normed, rstd] = y else { unreachable!() };
                let dropout = drops(drop);
                let (beta, centred) = (kind.has_bias().then_some(&beta), kind.centred());
                let n = Norm { gamma: &gamma, beta, eps: EPS, centred, dropout };
                let (x, r) = (View::of(&x, rows, cols)?, View::of(&r, rows, cols)?);
                let y = ViewMut::of(y, rows, cols)?;
                let keep = match keep {
                    true => Some(SavedNorm { normed: ViewMut::of(normed, rows, cols)?, rstd }),
                    false => None,
                };
                forward(&d, x, residual.then_some(r), n, y, keep)
            }))
        }),
        reference: Box::new(move || {
            let [x, r, g, b] = inputs(rows, cols);
            let s = sum(&x, residual.then_some(&r), drop, cols);
            let (b, eps) = (wide(&b), f64::from(EPS));
            let b = kind.has_bias().then_some(&b[..]);
            let (mut y, hat, inv) = reference(&s, &wide(&g), b, eps, kind.centred());
            if keep {
                y.extend(hat);
                y.extend(inv);
            }
            y
        }),
    }
}

fn backward_case(kind: Kind, [rows, cols]: [usize; 2], drop: bool, timed: bool) -> Case {
    let len = rows * cols;
    // x̂ and rstd as the forward pass gives them
    let kept = move || {
        let [x, _, g, _] = inputs(rows, cols);
        let (_, hat, inv) = reference(&wide(&x), &wide(&g), None, f64::from(EPS), kind.centred());
        let narrow = |v: Vec<f64>| v.into_iter().map(|x| x as f32).collect::<Vec<f32>>();
        (narrow(hat), narrow(inv), g)
    };
    Case {
        label: format!("backward{}{} {rows}x{cols}", kind.name(), if drop { ", dropped out" } else { "" }),
        // of one or two channels, next to nothing is left of the gradient
        tolerance: if cols < 3 { 1e-3 } else { 2e-6 },
        flops: cost_backward(len, drop).flops,
        bytes: cost_backward(len, drop).bytes,
        timed,
        cuda: true,
        prepare: Box::new(move |d| {
            let (hat, inv, g) = kept();
            let up = |v: &[f32]| d.upload(Class::Scratch, v);
            let (dy, hat, inv, gamma) = (up(&noise(5, len))?, up(&hat)?, up(&inv)?, up(&g)?);
            let outputs = (0..1 + usize::from(drop)).map(|_| d.alloc::<f32>(Class::Scratch, len));
            let (outputs, d) = (outputs.collect::<Result<_>>()?, d.clone());
            Ok(PreparedCase::new(outputs, move |y| {
                let dropout = drops(drop);
                let (beta, centred) = (kind.has_bias().then_some(&gamma), kind.centred());
                let n = Norm { gamma: &gamma, beta, eps: EPS, centred, dropout };
                let [ds, dx @ ..] = y else { unreachable!() };
                let dx = dx.first_mut().map(|dx| ViewMut::of(dx, rows, cols)).transpose()?;
                let (dy, hat) = (View::of(&dy, rows, cols)?, View::of(&hat, rows, cols)?);
                backward(&d, dy, hat, &inv, n, ViewMut::of(ds, rows, cols)?, dx)
            }))
        }),
        reference: Box::new(move || {
            let (hat, inv, g) = kept();
            let mut ds = reference_backward(
                &wide(&noise(5, len)),
                &wide(&hat),
                &wide(&inv),
                &wide(&g),
                kind.centred(),
            );
            if let Some(d) = drops(drop) {
                ds.extend(dropout::reference(d, cols, &ds));
            }
            ds
        }),
    }
}
