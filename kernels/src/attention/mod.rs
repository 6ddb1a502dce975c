//! Scaled dot-product attention over packed sequences (Vaswani et al. 2017), no
//! probabilities stored.
//!
//! ```text
//! per span and head:  S = scale · Q Kᵀ + B      P = softmax(S) by rows, over the keys a query sees      O = dropout(P) V
//! kept: Q, K, V and lse = log Σ exp S, one number per row and head; the backward pass recomputes P block by block:
//! dV = dropout(P)ᵀ dO    dP = dropout(dO Vᵀ)    dS = P ∘ (dP - rowsum(P ∘ dP))    dQ = scale · dS K    dK = scale · dSᵀ Q
//! ```
//! Q and O are (rows, heads · head_dim), K and V (rows, kv_heads · head_dim), a head's
//! channels side by side; every `heads / kv_heads` neighbouring heads share the keys and
//! values of one (Ainslie et al. 2023). B is a bias of relative positions ([`Bias`]). A query
//! that sees no key gets zeros.
//!
//! The keys of a sequence may lie in several places ([`Keys`]): a prefix that sequences share (Li &
//! Liang 2021), the past in a cache, its own. Gradients of rows that several sequences share are
//! summed in the order of the spans.
mod cases;
mod check;
mod cpu;
mod cuda;
mod plan;
mod prefetch;
mod product;
mod reference;
mod softmax;
#[cfg(test)]
mod tests;

use crate::{ColsMut, Device, Error, Kernel, Result, View, ViewMut, dropout::Dropout};
pub use reference::{Inputs, reference, reference_backward};
use std::ops::Range;

const NAME: &str = "attention";
/// The registry row.
pub const KERNEL: Kernel = Kernel { name: NAME, cases: cases::cases };

/// Which keys a query sees, by their positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mask {
    /// All of them.
    #[default]
    None,
    /// Those up to its own position.
    Causal,
    /// Those near its own position. With `after` 0 this is the sliding window of decoders.
    Window {
        /// Positions in front of its own.
        before: usize,
        /// Positions behind its own.
        after: usize,
    },
}
impl Mask {
    /// Positions before and behind a query's own that it sees.
    fn reach(self) -> (usize, usize) {
        match self {
            Mask::None => (usize::MAX, usize::MAX),
            Mask::Causal => (usize::MAX, 0),
            Mask::Window { before, after } => (before, after),
        }
    }
    fn sees(self, query: usize, key: usize) -> bool {
        let (before, after) = self.reach();
        key.saturating_add(before) >= query && key <= query.saturating_add(after)
    }
}

/// Rows of keys and values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Which of [`Qkv::kv`] they are rows of.
    pub of: usize,
    /// The rows.
    pub rows: Range<usize>,
}

/// One sequence: its queries, and the keys and values they attend to. The query rows of different
/// spans are disjoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Rows of Q and O.
    pub q: Range<usize>,
    /// Its keys, one range after the other; their positions count from 0 through all of them.
    pub kv: Vec<Keys>,
    /// The position of its first query, as those of the keys count.
    pub position: usize,
    /// The first keys that every query sees, whatever the mask says: a prefix.
    pub free: usize,
    /// The position of its first query as the bias counts it: `position`, but in models in which
    /// the keys of a prefix are positions and queries do not know of them (AdapterHub's T5).
    pub bias_position: usize,
}
impl Span {
    /// Rows of queries and rows of the first keys and values, both from position 0 on.
    pub fn new(q: Range<usize>, kv: Range<usize>) -> Span {
        Span { q, kv: vec![Keys { of: 0, rows: kv }], position: 0, free: 0, bias_position: 0 }
    }
    /// How many keys there are.
    pub fn keys(&self) -> usize {
        self.kv.iter().map(|k| k.rows.len()).sum()
    }
    /// Whether the i-th query sees the j-th key.
    fn sees(&self, mask: Mask, i: usize, j: usize) -> bool {
        j < self.free || mask.sees(self.position.saturating_add(i), j)
    }
}

/// The shape of one attention.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of the keys and values: `heads`, or a divisor of it.
    pub kv_heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// Multiplied into the products of queries and keys.
    pub scale: f32,
    /// Which keys a query sees.
    pub mask: Mask,
    /// On the probabilities; the key's rows are the query rows, its columns `head * keys + key`,
    /// keys being those of the span.
    pub dropout: Option<Dropout>,
    /// The sequences.
    pub spans: &'a [Span],
}
impl Attention<'_> {
    fn channels(&self) -> usize {
        self.heads * self.head_dim
    }
    fn kv_channels(&self) -> usize {
        self.kv_heads * self.head_dim
    }
    /// Heads that share keys and values.
    fn group(&self) -> usize {
        self.heads / self.kv_heads.max(1)
    }
}

/// Keys and values: (rows, kv_heads · head_dim) each.
#[derive(Clone, Copy, Debug)]
pub struct Kv<'a> {
    /// Keys.
    pub k: View<'a>,
    /// Values.
    pub v: View<'a>,
}

/// What is added to the scores: `table[bucket[j - i + zero], head]` for the query at position i and
/// the key at position j.
#[derive(Clone, Copy, Debug)]
pub struct Bias<'a> {
    /// (buckets, heads).
    pub table: View<'a>,
    /// The row of the table for each distance, from `-zero` on. It must hold all distances between
    /// a query and the keys that it sees.
    pub bucket: &'a [u32],
    /// Where in `bucket` the distance 0 is.
    pub zero: usize,
}

/// The inputs of an attention.
#[derive(Clone, Copy, Debug)]
pub struct Qkv<'a> {
    /// Queries.
    pub q: View<'a>,
    /// Where keys and values lie: [`Keys::of`] counts them.
    pub kv: &'a [Kv<'a>],
    /// A bias of relative positions.
    pub bias: Option<Bias<'a>>,
}

/// O; and lse (rows of O, heads) where the backward pass will follow.
///
/// # Errors
/// If a matrix has another shape, type or device than the others, or does not hold the rows of
/// the spans; if query rows overlap; if the heads are no multiple of `kv_heads`; if the bias
/// lacks a distance.
pub fn forward(
    device: &Device,
    a: Attention<'_>,
    x: Qkv<'_>,
    o: ViewMut<'_>,
    lse: Option<ViewMut<'_>>,
) -> Result<()> {
    let rows = a.check(device, &x)?;
    let o = ColsMut::from(o);
    let lse = lse.map(ColsMut::from);
    o.expect::<f32>(NAME, device, "o", (o.rows().max(rows), a.channels()))?;
    if let Some(l) = &lse {
        l.expect::<f32>(NAME, device, "lse", (l.rows().max(rows), a.heads))?;
    }
    let _span = device.span(NAME, "forward", || a.cost(x.kv.len(), None));
    match device {
        Device::Cpu(d) => cpu::forward(d, device, a, x, o, lse),
        Device::Cuda(d) => cuda::forward(d, a, x, o, lse),
        Device::Null(d) if d.is_gpu() => Ok(()),
        Device::Null(_) => cpu::workspace(device, a, x, false).map(drop),
    }
}

/// The gradients that are asked for.
#[derive(Debug, Default)]
pub struct Gradients<'a> {
    /// dQ.
    pub q: Option<ColsMut<'a>>,
    /// dK and dV of each of [`Qkv::kv`].
    pub kv: Vec<[Option<ColsMut<'a>>; 2]>,
    /// That of the bias's table.
    pub bias: Option<BiasGradient<'a>>,
}
/// Where the gradient of a bias goes.
#[derive(Debug)]
pub struct BiasGradient<'a> {
    /// (buckets, heads).
    pub table: ViewMut<'a>,
    /// It is added to what is there.
    pub accumulate: bool,
}

/// dQ, dK, dV and that of the bias from dO, with the lse of the forward pass. Rows outside every
/// span are left as they are.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    device: &Device,
    a: Attention<'_>,
    x: Qkv<'_>,
    lse: View<'_>,
    d_o: View<'_>,
    g: Gradients<'_>,
) -> Result<()> {
    let rows = a.check(device, &x)?;
    lse.expect::<f32>(NAME, device, "lse", (lse.rows().max(rows), a.heads))?;
    d_o.expect::<f32>(NAME, device, "do", (d_o.rows().max(rows), a.channels()))?;
    a.check_gradients(device, &x, rows, &g)?;
    let wanted = Wanted::of(&g);
    let _span = device.span(NAME, "backward", || a.cost(x.kv.len(), Some(&wanted)));
    match device {
        Device::Cpu(d) => cpu::backward(d, device, a, x, (lse, d_o), g),
        Device::Cuda(d) => cuda::backward(device, d, a, x, (lse, d_o), g),
        Device::Null(d) if d.is_gpu() => cuda::Workspace::new(device, a, x, wanted.bias).map(drop),
        Device::Null(_) => {
            let _scratch = cpu::workspace(device, a, x, true)?;
            cpu::partials(device, &plan::Plan::new(&a, &wanted, x.bias)).map(drop)
        }
    }
}

/// Which gradients are asked for.
struct Wanted {
    q: bool,
    kv: Vec<[bool; 2]>,
    bias: bool,
}
impl Wanted {
    fn of(g: &Gradients<'_>) -> Wanted {
        let kv = g.kv.iter().map(|kv| [kv[0].is_some(), kv[1].is_some()]).collect();
        Wanted { q: g.q.is_some(), kv, bias: g.bias.is_some() }
    }
}
