use super::*;
use crate::{
    Class,
    case::{noise, wide},
    simd::check,
};
use proptest::prelude::*;

#[test]
fn every_case_on_every_level() {
    check::cases(KERNEL);
}

#[test]
fn the_gradients_are_slopes() {
    let spans = [Span { q: 0..2, kv: 0..3 }, Span { q: 2..5, kv: 3..5 }];
    for dropout in [None, Some(Dropout::new(0.3, 1, 2, 3))] {
        let a = Attention { heads: 2, head_dim: 3, scale: 0.6, dropout, spans: &spans };
        let [q, k, v, d_o] = [1, 2, 3, 4].map(|i| wide(&noise(i, 5 * 6)));
        let loss = |q: &[f64], k: &[f64], v: &[f64]| {
            reference(a, q, k, v).0.iter().zip(&d_o).map(|(o, d)| o * d).sum::<f64>()
        };
        let (dq, dk, dv) = reference_backward(a, &q, &k, &v, &d_o);
        check::differences(&q, &dq, |q| loss(q, &k, &v));
        check::differences(&k, &dk, |k| loss(&q, k, &v));
        check::differences(&v, &dv, |v| loss(&q, &k, v));
    }
}

/// o, lse, dq, dk, dv.
fn run(d: &Device, a: Attention<'_>, q: &[f32], k: &[f32], v: &[f32], d_o: &[f32]) -> [Vec<f32>; 5] {
    let up = |x: &[f32]| check::up(d, x);
    let alloc = |n: usize| d.zeros::<f32>(Class::Scratch, n).unwrap();
    let (qb, kb, vb) = (up(q), up(k), up(v));
    let x = Qkv { q: &qb, k: &kb, v: &vb };
    let (mut o, mut lse) = (alloc(q.len()), alloc(q.len() / a.head_dim));
    forward(d, a, x, &mut o, Some(&mut lse)).unwrap();
    let mut without = alloc(q.len());
    forward(d, a, x, &mut without, None).unwrap();
    assert!(check::same(&o.read().unwrap(), &without.read().unwrap()));
    let (mut dq, mut dk, mut dv) = (alloc(q.len()), alloc(k.len()), alloc(k.len()));
    let g = Gradients { dq: &mut dq, dk: &mut dk, dv: &mut dv };
    backward(d, a, x, &lse, &up(d_o), g).unwrap();
    [o, lse, dq, dk, dv].map(|b| b.read().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_shape(
        lengths in prop::collection::vec((0usize..50, 0usize..50), 0..5),
        heads in 1usize..4,
        head_dim in 1usize..70,
        p in prop::option::of(0.05f32..0.6),
        threads in 1usize..4,
    ) {
        let (mut q_end, mut k_end, mut spans) = (0, 0, vec![]);
        for (q, k) in lengths {
            let k = if q > 0 { k.max(1) } else { k };
            spans.push(Span { q: q_end..q_end + q, kv: k_end..k_end + k });
            (q_end, k_end) = (q_end + q, k_end + k);
        }
        let c = heads * head_dim;
        let dropout = p.map(|p| Dropout::new(p, 5, 6, 7));
        let a = Attention { heads, head_dim, scale: 0.3, dropout, spans: &spans };
        let [q, k, v, d_o] = [(1, q_end), (2, k_end), (3, k_end), (4, q_end)].map(|(i, n)| noise(i, n * c));
        let [wq, wk, wv, wo] = [&q, &k, &v, &d_o].map(|x| wide(x));
        let (o, lse) = reference(a, &wq, &wk, &wv);
        let (dq, dk, dv) = reference_backward(a, &wq, &wk, &wv, &wo);
        check::levels(|level| {
            let got = run(&Device::cpu(threads).unwrap(), a, &q, &k, &v, &d_o);
            for (i, (got, want)) in got.iter().zip([&o, &lse, &dq, &dk, &dv]).enumerate() {
                // not relative to the largest value alone: with one key the gradients of q and k are zero
                let with_one = |v: &[f64]| v.iter().copied().chain([1.0]).collect::<Vec<_>>();
                let got: Vec<f32> = got.iter().copied().chain([1.0]).collect();
                let far = check::distance(&got, &with_one(want));
                assert!(far < 2e-5, "{level:?} output {i}: {far:e}");
            }
        });
    }
}

#[test]
fn large_scores_stay_finite() {
    let spans = [Span { q: 0..9, kv: 0..21 }];
    let a = Attention { heads: 1, head_dim: 4, scale: 100.0, dropout: None, spans: &spans };
    for sign in [-1.0, 1.0] {
        let q: Vec<f32> = noise(1, 36).iter().map(|x| x * sign).collect();
        let k = noise(2, 84);
        check::levels(|level| {
            let out = run(&Device::cpu(1).unwrap(), a, &q, &k, &k, &q);
            assert!(out.iter().flatten().all(|x| x.is_finite()), "{level:?}");
        });
    }
}

#[test]
fn rows_outside_the_spans_are_left_alone() {
    let spans = [Span { q: 1..2, kv: 2..4 }];
    let a = Attention { heads: 1, head_dim: 2, scale: 1.0, dropout: None, spans: &spans };
    let x = noise(1, 10);
    let out = run(&Device::cpu(2).unwrap(), a, &x, &x, &x, &x);
    assert!(out[0][..2].iter().chain(&out[0][4..]).all(|x| *x == 0.0));
    assert!(out[3][..4].iter().chain(&out[3][8..]).all(|x| *x == 0.0));
}

#[test]
fn refusals() {
    let (d, other) = (Device::cpu(1).unwrap(), Device::cpu(1).unwrap());
    let spans = [Span { q: 0..2, kv: 0..2 }, Span { q: 1..3, kv: 2..3 }];
    let a = Attention { heads: 1, head_dim: 2, scale: 1.0, dropout: None, spans: &spans };
    let (x, mut o) = (check::up(&d, &[0.0; 6]), check::up(&d, &[0.0; 6]));
    let qkv = Qkv { q: &x, k: &x, v: &x };
    assert!(forward(&d, a, qkv, &mut o, None).unwrap_err().to_string().contains("overlap"));
    let a = Attention { spans: &spans[..1], ..a };
    assert!(matches!(forward(&other, a, qkv, &mut o, None), Err(Error::Elsewhere { .. })));
    let short = check::up(&d, &[0.0; 3]);
    let qkv = Qkv { k: &short, ..qkv };
    assert!(matches!(forward(&d, a, qkv, &mut o, None), Err(Error::Length { argument: "k", .. })));
    let ids = check::indices(&d, &[0; 6]);
    let qkv = Qkv { q: &ids, k: &x, v: &x };
    assert!(matches!(forward(&d, a, qkv, &mut o, None), Err(Error::DType { argument: "q", .. })));
}
