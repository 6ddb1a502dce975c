//! The sizes on which the optimiser is checked and timed.
use super::*;
use crate::{
    Case, Class, Run,
    case::{noise, wide},
};

pub(super) fn cases() -> Vec<Case> {
    let mut v: Vec<Case> = [0, 1, 19, 40_001].into_iter().map(|n| case(n, false)).collect();
    v.push(case(2 * 768 * 768, true));
    v
}
fn case(n: usize, timed: bool) -> Case {
    let step_of =
        Step { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, t: 7, grad_scale: 0.5 };
    // w, g, m, v
    let inputs = move || {
        let v = noise(4, n).iter().map(|x| x * x).collect();
        [noise(1, n), noise(2, n), noise(3, n), v]
    };
    Case {
        label: format!("{n}"),
        tolerance: 3e-7,
        flops: cost(n).flops,
        bytes: cost(n).bytes,
        timed,
        cuda: false,
        prepare: Box::new(move |d| {
            let [w, g, m, v] = inputs();
            let up = |v: &[f32]| d.upload(Class::Scratch, v);
            let (outputs, g) = (vec![up(&w)?, up(&m)?, up(&v)?], up(&g)?);
            let d = d.clone();
            Ok(Run::new(outputs, move |y| {
                let [w, m, v] = y else { unreachable!() };
                step(&d, step_of, w, &g, m, v)
            }))
        }),
        reference: Box::new(move || {
            let [w, g, m, v] = inputs().map(|x| wide(&x));
            let (w, m, v) = reference(step_of, &w, &g, &m, &v);
            [w, m, v].concat()
        }),
    }
}
