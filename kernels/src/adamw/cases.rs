//! The sizes on which the optimiser is checked and timed.
use super::*;
use crate::{
    Case, Class, PreparedCase,
    case::{noise, wide},
};

pub(super) fn cases() -> Vec<Case> {
    let some: [&[usize]; 7] = [&[], &[0], &[1], &[19], &[40_001], &[5, 0, 40_001, 16 * 1024, 3], &[7; 40]];
    let mut v: Vec<Case> = some.into_iter().map(|n| case(n, false)).collect();
    // the bottlenecks of a model
    v.push(case(&[48 * 768, 48, 48 * 768, 768].repeat(12), true));
    v.push(case(&[2 * 768 * 768], true));
    v
}
/// w, g, m, v of a weight, and its step: each has taken another number of them, and every
/// second one decays.
fn weight(i: usize, n: usize) -> ([Vec<f32>; 4], Step) {
    let of = |k: usize| noise((4 * i + k) as u64, n);
    let weight_decay = if i.is_multiple_of(2) { 0.01 } else { 0.0 };
    let t = 7 + i as u64;
    let step = Step { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, t, weight_decay, grad_scale: 0.5 };
    ([of(1), of(2), of(3), of(4).iter().map(|x| x * x).collect()], step)
}
fn case(sizes: &[usize], timed: bool) -> Case {
    let (sizes, n) = (sizes.to_vec(), sizes.iter().sum());
    let again = sizes.clone();
    Case {
        label: format!("{n} in {} parts", sizes.len()),
        tolerance: 3e-7,
        flops: cost(n).flops,
        bytes: cost(n).bytes,
        timed,
        cuda: true,
        prepare: Box::new(move |d| {
            let up = |v: &[f32]| d.upload(Class::Scratch, v);
            let (mut outputs, mut gradients) = (vec![], vec![]);
            for (i, n) in sizes.iter().enumerate() {
                let ([w, g, m, v], step) = weight(i, *n);
                outputs.extend([up(&w)?, up(&m)?, up(&v)?]);
                gradients.push((up(&g)?, step));
            }
            let d = d.clone();
            Ok(PreparedCase::new(outputs, move |y| {
                let weights = y.as_chunks_mut::<3>().0.iter_mut().zip(&gradients);
                let mut parts: Vec<Part<'_>> = vec![];
                for ([w, m, v], (g, step)) in weights {
                    parts.push(Part { w, g, m, v, step: *step });
                }
                step(&d, &mut parts)
            }))
        }),
        reference: Box::new(move || {
            let mut all = vec![];
            for (i, n) in again.iter().enumerate() {
                let (buffers, step) = weight(i, *n);
                let [w, g, m, v] = buffers.map(|x| wide(&x));
                let (w, m, v) = reference(step, [&w, &g, &m, &v]);
                all.extend([w, m, v].concat());
            }
            all
        }),
    }
}
