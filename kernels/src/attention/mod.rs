//! Scaled dot-product attention over packed sequences (Vaswani et al. 2017), no probabilities stored.
//!
//! ```text
//! per span and head:  S = scale · Q Kᵀ      P = softmax(S) by rows      O = dropout(P) V
//! kept: Q, K, V and lse = log Σ exp S, one number per row and head; the backward pass recomputes P block by block:
//! dV = dropout(P)ᵀ dO    dP = dropout(dO Vᵀ)    dS = P ∘ (dP - rowsum(P ∘ dP))    dQ = scale · dS K    dK = scale · dSᵀ Q
//! ```
//! Q, K, V, O are (tokens, heads · head_dim), a head's channels side by side.
mod ahead;
mod cases;
mod cpu;
mod product;
mod softmax;
#[cfg(test)]
mod tests;

use crate::{Buffer, Cost, Device, Error, Kernel, Result, dropout::Dropout, need};
use num_traits::Float;
use std::ops::Range;

const NAME: &str = "attention";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: cases::cases };

/// One sequence: the rows of its queries, and the rows of the keys and values they attend to. The query rows of
/// different spans are disjoint; so are the key rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Rows of Q and O.
    pub q: Range<usize>,
    /// Rows of K and V.
    pub kv: Range<usize>,
}

/// The shape of one attention.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// Heads.
    pub heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// Multiplied into the scores.
    pub scale: f32,
    /// On the probabilities; the key's rows are the query rows, its columns `head * kv.len() + key`.
    pub dropout: Option<Dropout>,
    /// The sequences.
    pub spans: &'a [Span],
}

impl Attention<'_> {
    fn channels(&self) -> usize {
        self.heads * self.head_dim
    }
    /// Two products of queries and keys forward, five backward; with `rows` rows of Q and `keys` of K.
    fn cost(&self, rows: usize, keys: usize, back: bool) -> Cost {
        let pairs: f64 = self.spans.iter().map(|s| s.q.len() as f64 * s.kv.len() as f64).sum();
        let (products, of_q, of_k) = if back { (5.0, 3, 4) } else { (2.0, 2, 2) };
        let c = self.channels();
        Cost {
            flops: products * 2.0 * pairs * c as f64,
            bytes: 4.0 * ((of_q * rows + of_k * keys) * c) as f64,
            ..Cost::default()
        }
    }
    /// Rows of Q and of K that the spans reach, after checking that no two spans share rows.
    fn rows(&self) -> Result<(usize, usize)> {
        let mut ends = (0, 0);
        let disjoint = |mut v: Vec<&Range<usize>>| {
            v.sort_by_key(|r| (r.start, r.end));
            v.windows(2).all(|w| w[0].end <= w[1].start)
        };
        for s in self.spans {
            ends = (ends.0.max(s.q.end), ends.1.max(s.kv.end));
        }
        let filled = |r: &&Range<usize>| !r.is_empty();
        let ok = disjoint(self.spans.iter().map(|s| &s.q).filter(filled).collect())
            && disjoint(self.spans.iter().map(|s| &s.kv).filter(filled).collect());
        // spans are built by the engine; overlapping ones would race
        if ok {
            Ok(ends)
        } else {
            Err(Error::Length { kernel: NAME, argument: "spans (they overlap)", expected: 0, got: 0 })
        }
    }
}

/// The inputs of an attention.
#[derive(Clone, Copy, Debug)]
pub struct Qkv<'a> {
    /// Queries.
    pub q: &'a Buffer,
    /// Keys.
    pub k: &'a Buffer,
    /// Values.
    pub v: &'a Buffer,
}

/// O (tokens, channels); `lse` (tokens, heads) where the backward pass will follow.
pub fn forward(
    device: &Device,
    a: Attention<'_>,
    x: Qkv<'_>,
    o: &mut Buffer,
    lse: Option<&mut Buffer>,
) -> Result<()> {
    let ((rows, keys), c) = (a.rows()?, a.channels());
    need::<f32>(NAME, device, "q", x.q, rows * c)?;
    need::<f32>(NAME, device, "k", x.k, keys * c)?;
    need::<f32>(NAME, device, "v", x.v, keys * c)?;
    need::<f32>(NAME, device, "o", o, rows * c)?;
    if let Some(l) = &lse {
        need::<f32>(NAME, device, "lse", l, rows * a.heads)?;
    }
    let _span = device.span(NAME, "forward", || a.cost(rows, keys, false));
    match device {
        Device::Cpu(d) => cpu::forward(d, device, a, x, o, lse),
        Device::Cuda(_) => Err(Error::Unsupported { kernel: NAME, device: "cuda" }),
        Device::Null(_) => cpu::workspace(device, a, false).map(drop),
    }
}

/// The gradients of the three inputs.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// dQ.
    pub dq: &'a mut Buffer,
    /// dK.
    pub dk: &'a mut Buffer,
    /// dV.
    pub dv: &'a mut Buffer,
}

/// dQ, dK, dV from dO. Rows outside every span are left as they are.
pub fn backward(
    device: &Device,
    a: Attention<'_>,
    x: Qkv<'_>,
    lse: &Buffer,
    d_o: &Buffer,
    g: Gradients<'_>,
) -> Result<()> {
    let ((rows, keys), c) = (a.rows()?, a.channels());
    need::<f32>(NAME, device, "q", x.q, rows * c)?;
    need::<f32>(NAME, device, "k", x.k, keys * c)?;
    need::<f32>(NAME, device, "v", x.v, keys * c)?;
    need::<f32>(NAME, device, "lse", lse, rows * a.heads)?;
    need::<f32>(NAME, device, "do", d_o, rows * c)?;
    need::<f32>(NAME, device, "dq", g.dq, rows * c)?;
    need::<f32>(NAME, device, "dk", g.dk, keys * c)?;
    need::<f32>(NAME, device, "dv", g.dv, keys * c)?;
    let _span = device.span(NAME, "backward", || a.cost(rows, keys, true));
    match device {
        Device::Cpu(d) => cpu::backward(d, device, a, x, lse, d_o, g),
        Device::Cuda(_) => Err(Error::Unsupported { kernel: NAME, device: "cuda" }),
        Device::Null(_) => cpu::workspace(device, a, true).map(drop),
    }
}

/// Plain loops. O, and lse.
pub fn reference<T: Float>(a: Attention<'_>, q: &[T], k: &[T], v: &[T]) -> (Vec<T>, Vec<T>) {
    let (c, d) = (a.channels(), a.head_dim);
    let num = |x: f32| T::from(x).unwrap_or_else(T::nan);
    let rows = q.len() / c.max(1);
    let (mut o, mut lse) = (vec![T::zero(); q.len()], vec![T::zero(); rows * a.heads]);
    for s in a.spans {
        for h in 0..a.heads {
            for i in s.q.clone() {
                let score = |j: usize| {
                    (0..d).fold(T::zero(), |t, e| t + q[i * c + h * d + e] * k[j * c + h * d + e])
                        * num(a.scale)
                };
                let scores: Vec<T> = s.kv.clone().map(score).collect();
                let top = scores.iter().fold(T::neg_infinity(), |m, x| m.max(*x));
                let sum = scores.iter().fold(T::zero(), |t, x| t + (*x - top).exp());
                lse[i * a.heads + h] = top + sum.ln();
                for (n, j) in s.kv.clone().enumerate() {
                    let keep = a.dropout.map_or(1.0, |p| p.factor(i, h * s.kv.len() + n));
                    let p = (scores[n] - top).exp() / sum * num(keep);
                    for e in 0..d {
                        o[i * c + h * d + e] = o[i * c + h * d + e] + p * v[j * c + h * d + e];
                    }
                }
            }
        }
    }
    (o, lse)
}
/// Plain loops. (dQ, dK, dV).
pub fn reference_backward<T: Float>(
    a: Attention<'_>,
    q: &[T],
    k: &[T],
    v: &[T],
    d_o: &[T],
) -> (Vec<T>, Vec<T>, Vec<T>) {
    let (c, d) = (a.channels(), a.head_dim);
    let num = |x: f32| T::from(x).unwrap_or_else(T::nan);
    let (mut dq, mut dk, mut dv) =
        (vec![T::zero(); q.len()], vec![T::zero(); k.len()], vec![T::zero(); v.len()]);
    let (_, lse) = reference(a, q, k, v);
    for s in a.spans {
        for h in 0..a.heads {
            for i in s.q.clone() {
                let at = |r: usize, e: usize| r * c + h * d + e;
                let dot = |x: &[T], i: usize, y: &[T], j: usize| {
                    (0..d).fold(T::zero(), |t, e| t + x[at(i, e)] * y[at(j, e)])
                };
                let keep = |n: usize| num(a.dropout.map_or(1.0, |p| p.factor(i, h * s.kv.len() + n)));
                let p: Vec<T> =
                    s.kv.clone()
                        .map(|j| (dot(q, i, k, j) * num(a.scale) - lse[i * a.heads + h]).exp())
                        .collect();
                let dp: Vec<T> = s.kv.clone().enumerate().map(|(n, j)| dot(d_o, i, v, j) * keep(n)).collect();
                let sum = p.iter().zip(&dp).fold(T::zero(), |t, (p, d)| t + *p * *d);
                for (n, j) in s.kv.clone().enumerate() {
                    let ds = p[n] * (dp[n] - sum) * num(a.scale);
                    for e in 0..d {
                        dv[at(j, e)] = dv[at(j, e)] + p[n] * keep(n) * d_o[at(i, e)];
                        dq[at(i, e)] = dq[at(i, e)] + ds * k[at(j, e)];
                        dk[at(j, e)] = dk[at(j, e)] + ds * q[at(i, e)];
                    }
                }
            }
        }
    }
    (dq, dk, dv)
}
