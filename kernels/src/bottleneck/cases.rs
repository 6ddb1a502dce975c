//! The shapes on which the bottleneck is checked and timed.
use super::*;
use crate::{
    Case, Class, PreparedCase,
    case::{Added, noise, wide},
};

/// m, C, B: nothing that is a multiple of a vector, single rows and columns, sums of no terms,
/// matrices of no rows.
const AWKWARD: [[usize; 3]; 14] = [
    [1, 1, 1],
    [3, 7, 2],
    [0, 5, 4],
    [5, 0, 4],
    [5, 4, 0],
    [2, 33, 17],
    [63, 67, 65],
    [9, 96, 48],
    [14, 64, 32],
    [43, 40, 64],
    [129, 70, 33],
    [300, 130, 96],
    [130, 801, 10],
    [47, 403, 401],
];
/// BERT-base and MiniLM with their usual adapters, and a wide one.
const TIMED: [[usize; 3]; 5] =
    [[2048, 768, 64], [700, 768, 64], [2048, 384, 64], [2048, 768, 48], [2048, 768, 384]];

use Added::*;

/// Which direction, and what becomes of it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Way {
    Forward,
    Backward,
    /// da alone.
    Narrow,
}
use Way::*;

pub(super) fn cases() -> Vec<Case> {
    let mut all = vec![];
    for shape in AWKWARD {
        for added in Added::ALL {
            all.extend([Forward, Backward].map(|way| case(way, Activation::Gelu, shape, added, false)));
        }
        all.push(case(Narrow, Activation::Silu, shape, Nothing, false));
    }
    for f in Activation::ALL {
        all.extend([Forward, Backward].map(|way| case(way, f, [50, 31, 19], Rows, false)));
    }
    for shape in TIMED {
        all.extend([Forward, Backward].map(|way| case(way, Activation::Relu, shape, Rows, true)));
    }
    all
}

/// Inputs of a case: x or dy, a, what is added, W_d, b_d, W_u, b_u. With weights like these a is
/// about as large as x.
struct Inputs([Vec<f32>; 7]);
impl Inputs {
    fn new([m, c, b]: [usize; 3], added: Added, way: Way) -> Inputs {
        let small = |v: Vec<f32>| v.into_iter().map(|x| x / (c.max(1) as f32).sqrt()).collect();
        let bias = |seed, n| noise(seed, if way == Forward && added != Output { n } else { 0 });
        Inputs([
            noise(1, m * c),
            noise(2, m * b),
            noise(3, if added == Nothing { 0 } else { m * c }),
            small(noise(4, b * c)),
            bias(5, b),
            small(noise(6, b * c)),
            bias(7, c),
        ])
    }
}

fn case(way: Way, f: Activation, shape: [usize; 3], added: Added, timed: bool) -> Case {
    let [m, c, b] = shape;
    let cost = match way {
        Forward => forward_cost(shape, added != Nothing),
        Backward => backward_cost(shape, Some(added != Nothing)),
        Narrow => backward_cost(shape, None),
    };
    let prepare = move |device: &Device| {
        let Inputs(values) = Inputs::new(shape, added, way);
        let up = |i: usize| device.upload(Class::Scratch, &values[i]);
        let (x, a, plus, down, b_d, wide, b_u) = (up(0)?, up(1)?, up(2)?, up(3)?, up(4)?, up(5)?, up(6)?);
        let narrow = device.alloc::<f32>(Class::Scratch, m * b)?;
        let mut outputs = vec![narrow];
        match added {
            _ if way == Narrow => {}
            Output => outputs.push(up(2)?),
            _ => outputs.push(device.alloc::<f32>(Class::Scratch, m * c)?),
        }
        let device = device.clone();
        Ok(PreparedCase::new(outputs, move |out| {
            let w = Bottleneck {
                down: View::of(&down, b, c)?,
                down_bias: (b_d.len() == b && way == Forward).then_some(&b_d),
                up: View::of(&wide, c, b)?,
                up_bias: (b_u.len() == c && way == Forward).then_some(&b_u),
                f,
            };
            let base = added.base(&plus, (m, c))?;
            let (x, a) = (View::of(&x, m, c)?, View::of(&a, m, b)?);
            let (narrow, wide) = out.split_at_mut(1);
            let narrow = ViewMut::of(&mut narrow[0], m, b)?;
            match way {
                Forward => forward(&device, w, x, base, narrow, ViewMut::of(&mut wide[0], m, c)?),
                Backward => {
                    let dx = Some((Plus { bias: None, base }, ViewMut::of(&mut wide[0], m, c)?));
                    backward(&device, w, a, x, narrow, dx)
                }
                Narrow => backward(&device, w, a, x, narrow, None),
            }
        }))
    };
    let reference = move || {
        let [x, a, plus, down, b_d, up, b_u] = Inputs::new(shape, added, way).0.map(|v| wide(&v));
        let given = |v: &'_ Vec<f64>, n: usize| v.len() == n;
        let (mut narrow, mut out) = match way {
            Forward => {
                let b_d = given(&b_d, b).then_some(&b_d[..]);
                let b_u = given(&b_u, c).then_some(&b_u[..]);
                super::reference(f, shape, (&down, b_d, &up, b_u), &x)
            }
            _ => reference_backward(f, shape, (&down, &up), &a, &x),
        };
        out.iter_mut().zip(&plus).for_each(|(y, p)| *y += p);
        narrow.extend(out.into_iter().filter(|_| way != Narrow));
        narrow
    };
    // sums of few outputs may be close to zero, and errors are relative to the largest
    let tiny = if m * (b + c) < 100 { 10.0 } else { 1.0 };
    Case {
        label: format!("{way:?} {f:?} m={m} C={c} B={b} onto {added:?}"),
        tolerance: tiny * (2e-6 + 5e-8 * (c.max(b) as f64).sqrt()),
        flops: cost.flops,
        bytes: cost.bytes,
        timed,
        cuda: true,
        prepare: Box::new(prepare),
        reference: Box::new(reference),
    }
}
