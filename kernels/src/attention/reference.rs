//! Plain loops, generic over the float type.
use super::{Attention, Span};
use num_traits::Float;
use std::ops::Range;

/// The inputs, as arrays: Q (rows, heads · head_dim); K and V (rows, kv_heads · head_dim), one or
/// several of each; and the bias of a distance, `bias(distance, head)`.
pub struct Inputs<'a, T> {
    /// Queries.
    pub q: &'a [T],
    /// Keys and values.
    pub kv: &'a [[&'a [T]; 2]],
    /// Rows of the bias's table, heads numbers each, and the row of each distance
    /// from the first on.
    pub bias: Option<(&'a [T], &'a [u32], usize)>,
}

/// What one row of queries computes with one head.
struct Row<T> {
    /// (source, row) of each key that is seen, its number, and its probability before dropout.
    seen: Vec<((usize, usize), usize, T)>,
    lse: T,
}

fn num<T: Float>(x: f32) -> T {
    T::from(x).unwrap_or_else(T::nan)
}
fn dot<T: Float>(a: &[T], b: &[T]) -> T {
    a.iter().zip(b).fold(T::zero(), |t, (a, b)| t + *a * *b)
}

impl Attention<'_> {
    /// A head's channels of a row of queries.
    fn of_q(&self, row: usize, head: usize) -> Range<usize> {
        let first = (row * self.heads + head) * self.head_dim;
        first..first + self.head_dim
    }
    /// Those of a row of keys.
    fn of_kv(&self, row: usize, head: usize) -> Range<usize> {
        let first = (row * self.kv_heads + head / self.group()) * self.head_dim;
        first..first + self.head_dim
    }
    fn row<T: Float>(&self, s: &Span, i: usize, head: usize, x: &Inputs<'_, T>) -> Row<T> {
        let keys = s.kv.iter().flat_map(|k| k.rows.clone().map(|row| (k.of, row)));
        let mut seen: Vec<_> = keys
            .enumerate()
            .filter(|(j, _)| s.sees(self.mask, i, *j))
            .map(|(j, at)| {
                let product =
                    dot(&x.q[self.of_q(s.q.start + i, head)], &x.kv[at.0][0][self.of_kv(at.1, head)]);
                let bias = x.bias.map_or(T::zero(), |(table, bucket, zero)| {
                    table[bucket[j + zero - s.bias_position - i] as usize * self.heads + head]
                });
                (at, j, product * num(self.scale) + bias)
            })
            .collect();
        let top = seen.iter().fold(T::neg_infinity(), |m, x| m.max(x.2));
        let sum = seen.iter().fold(T::zero(), |t, x| t + (x.2 - top).exp());
        seen.iter_mut().for_each(|x| x.2 = (x.2 - top).exp() / sum);
        Row { seen, lse: top + sum.ln() }
    }
    /// The dropout factor of a probability.
    fn keep<T: Float>(&self, s: &Span, i: usize, head: usize, key: usize) -> T {
        num(self.dropout.map_or(1.0, |p| p.factor(s.q.start + i, head * s.keys() + key)))
    }
}

/// O (rows, heads · head_dim), and lse (rows, heads).
pub fn reference<T: Float>(a: Attention<'_>, x: &Inputs<'_, T>) -> (Vec<T>, Vec<T>) {
    let rows = x.q.len() / a.channels().max(1);
    let (mut o, mut lse) = (vec![T::zero(); x.q.len()], vec![T::zero(); rows * a.heads]);
    for s in a.spans {
        for (i, h) in (0..s.q.len()).flat_map(|i| (0..a.heads).map(move |h| (i, h))) {
            let row = a.row(s, i, h, x);
            lse[(s.q.start + i) * a.heads + h] = row.lse;
            for (at, j, p) in row.seen {
                let p = p * a.keep(s, i, h, j);
                let v = &x.kv[at.0][1][a.of_kv(at.1, h)];
                o[a.of_q(s.q.start + i, h)].iter_mut().zip(v).for_each(|(o, v)| *o = *o + p * *v);
            }
        }
    }
    (o, lse)
}

/// dQ, [dK, dV] of each source, and the gradient of the bias's table.
pub fn reference_backward<T: Float>(
    a: Attention<'_>,
    x: &Inputs<'_, T>,
    d_o: &[T],
) -> (Vec<T>, Vec<[Vec<T>; 2]>, Vec<T>) {
    let zeros = |x: &[T]| vec![T::zero(); x.len()];
    let (mut dq, mut dkv) = (zeros(x.q), x.kv.iter().map(|[k, v]| [zeros(k), zeros(v)]).collect::<Vec<_>>());
    let mut dbias = x.bias.map_or(vec![], |(table, ..)| zeros(table));
    let add = |to: &mut [T], x: &[T], by: T| to.iter_mut().zip(x).for_each(|(t, x)| *t = *t + *x * by);
    for s in a.spans {
        for (i, h) in (0..s.q.len()).flat_map(|i| (0..a.heads).map(move |h| (i, h))) {
            let of_q = a.of_q(s.q.start + i, h);
            let row = a.row(s, i, h, x);
            let dp = |at: (usize, usize), j| {
                dot(&d_o[of_q.clone()], &x.kv[at.0][1][a.of_kv(at.1, h)]) * a.keep(s, i, h, j)
            };
            let sum = row.seen.iter().fold(T::zero(), |t, (at, j, p)| t + *p * dp(*at, *j));
            for ((of, key), j, p) in row.seen {
                let ds = p * (dp((of, key), j) - sum);
                let of_kv = a.of_kv(key, h);
                add(&mut dkv[of][1][of_kv.clone()], &d_o[of_q.clone()], p * a.keep(s, i, h, j));
                add(&mut dkv[of][0][of_kv.clone()], &x.q[of_q.clone()], ds * num(a.scale));
                add(&mut dq[of_q.clone()], &x.kv[of][0][of_kv], ds * num(a.scale));
                if let Some((_, bucket, zero)) = x.bias {
                    let at = bucket[j + zero - s.bias_position - i] as usize * a.heads + h;
                    dbias[at] = dbias[at] + ds;
                }
            }
        }
    }
    (dq, dkv, dbias)
}
