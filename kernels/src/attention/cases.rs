//! The shapes on which attention is checked and timed.
use super::*;
use crate::{
    Case, Class, Run,
    case::{noise, wide},
};

/// A shape that owns its spans.
#[derive(Clone)]
struct Shape {
    label: &'static str,
    spans: Vec<Span>,
    heads: usize,
    head_dim: usize,
    dropout: Option<Dropout>,
    timed: bool,
}
impl Shape {
    fn attention(&self) -> Attention<'_> {
        let scale = 1.0 / (self.head_dim as f32).sqrt();
        let (heads, head_dim) = (self.heads, self.head_dim);
        Attention { heads, head_dim, scale, dropout: self.dropout, spans: &self.spans }
    }
    /// Values of Q and of K.
    fn sizes(&self) -> (usize, usize) {
        let (q, k) = self.spans.iter().fold((0, 0), |(q, k), s| (q.max(s.q.end), k.max(s.kv.end)));
        (q * self.heads * self.head_dim, k * self.heads * self.head_dim)
    }
    /// q, k, v, dO.
    fn inputs(&self) -> [Vec<f32>; 4] {
        let (q, k) = self.sizes();
        [noise(1, q), noise(2, k), noise(3, k), noise(4, q)]
    }
    fn cost(&self, back: bool) -> Cost {
        let (q, k) = self.sizes();
        let c = self.heads * self.head_dim;
        self.attention().cost(q / c, k / c, back)
    }
}

/// Sequences of these lengths one after the other, attending to themselves.
pub(super) fn packed(lengths: &[usize]) -> Vec<Span> {
    let mut at = 0;
    let next = |n: &usize| {
        at += n;
        Span { q: at - n..at, kv: at - n..at }
    };
    lengths.iter().map(next).collect()
}
fn shapes() -> Vec<Shape> {
    let ragged: Vec<usize> = (0..60).map(|i| 1 + (i * 37) % 60).collect();
    let drop = Some(Dropout::new(0.2, 1, 2, 3));
    let shape = |label, spans, heads, head_dim, dropout, timed| Shape {
        label,
        spans,
        heads,
        head_dim,
        dropout,
        timed,
    };
    let other = vec![
        Span { q: 0..3, kv: 5..9 },
        Span { q: 3..3, kv: 0..2 },
        Span { q: 3..40, kv: 2..5 },
        Span { q: 40..42, kv: 9..9 },
    ];
    vec![
        shape("no spans", vec![], 2, 4, None, false),
        shape("1, 1 head of 1", packed(&[1]), 1, 1, None, false),
        shape("1..7, 3 heads of 5", packed(&[1, 2, 3, 0, 4, 5, 6, 7]), 3, 5, None, false),
        shape("other lengths of keys, dropout", other, 2, 8, drop, false),
        shape("17 and 33, 2 heads of 80, dropout", packed(&[17, 33]), 2, 80, drop, false),
        shape("300, 1 head of 32, dropout", packed(&[300]), 1, 32, drop, false),
        shape("1300, 1 head of 8", packed(&[1300]), 1, 8, None, false),
        shape("16 x 128, 12 heads of 64", packed(&[128; 16]), 12, 64, None, true),
        shape("16 x 128, 12 heads of 64, dropout", packed(&[128; 16]), 12, 64, drop, true),
        shape("1..60, 12 heads of 32", packed(&ragged), 12, 32, None, true),
    ]
}

pub(super) fn cases() -> Vec<Case> {
    shapes().into_iter().flat_map(|s| [forward_case(s.clone()), backward_case(s)]).collect()
}
fn forward_case(shape: Shape) -> Case {
    let (size, _) = shape.sizes();
    let s = shape.clone();
    Case {
        label: format!("forward {}", shape.label),
        tolerance: 2e-6,
        flops: shape.cost(false).flops,
        bytes: shape.cost(false).bytes,
        timed: shape.timed,
        cuda: false,
        prepare: Box::new(move |d| {
            let [q, k, v, _] = shape.inputs();
            let up = |v: &[f32]| d.upload(Class::Scratch, v);
            let (q, k, v) = (up(&q)?, up(&k)?, up(&v)?);
            let outputs = vec![
                d.alloc::<f32>(Class::Scratch, size)?,
                d.alloc::<f32>(Class::Scratch, size / shape.head_dim)?,
            ];
            let (shape, d) = (shape.clone(), d.clone());
            Ok(Run::new(outputs, move |y| {
                let [o, lse] = y else { unreachable!() };
                forward(&d, shape.attention(), Qkv { q: &q, k: &k, v: &v }, o, Some(lse))
            }))
        }),
        reference: Box::new(move || {
            let [q, k, v, _] = s.inputs().map(|x| wide(&x));
            let (mut o, lse) = reference(s.attention(), &q, &k, &v);
            o.extend(lse);
            o
        }),
    }
}
fn backward_case(shape: Shape) -> Case {
    let (size, keys) = shape.sizes();
    let s = shape.clone();
    Case {
        label: format!("backward {}", shape.label),
        tolerance: 4e-6,
        flops: shape.cost(true).flops,
        bytes: shape.cost(true).bytes,
        timed: shape.timed,
        cuda: false,
        prepare: Box::new(move |d| {
            let inputs = shape.inputs();
            let up = |v: &[f32]| d.upload(Class::Scratch, v);
            let [q, k, v, g] = [up(&inputs[0])?, up(&inputs[1])?, up(&inputs[2])?, up(&inputs[3])?];
            let lse = reference::<f32>(shape.attention(), &inputs[0], &inputs[1], &inputs[2]).1;
            let lse = up(&lse)?;
            let alloc = |n| d.alloc::<f32>(Class::Scratch, n);
            let outputs = vec![alloc(size)?, alloc(keys)?, alloc(keys)?];
            let (shape, d) = (shape.clone(), d.clone());
            Ok(Run::new(outputs, move |y| {
                let [dq, dk, dv] = y else { unreachable!() };
                let x = Qkv { q: &q, k: &k, v: &v };
                backward(&d, shape.attention(), x, &lse, &g, Gradients { dq, dk, dv })
            }))
        }),
        reference: Box::new(move || {
            let [q, k, v, d_o] = s.inputs().map(|x| wide(&x));
            let (dq, dk, dv) = reference_backward(s.attention(), &q, &k, &v, &d_o);
            [dq, dk, dv].concat()
        }),
    }
}
