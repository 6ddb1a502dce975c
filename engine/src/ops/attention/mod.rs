//! Scaled dot-product attention within each sequence. Keeps Q, K, V and one number
//! per row and head.
//!
//! Q, K and V are columns of activations: of three, or of one in which they stand side by side, as
//! a fused product leaves them. What is one activation is kept once and has one gradient. In front
//! of the keys may stand those of a prefix and, in a pass that remembers ([`KvCache`]), those of
//! the tokens of passes before.
mod backward;

use crate::{Act, Cx, Error, KvCache, Part, Prefix, Result, Seq, Site, W, cache::Remembered};
use backward::{Op, Shape};
pub use engraft_kernels::attention::Mask;
use engraft_kernels::{
    Buffer, Class, View, ViewMut,
    attention::{self, Bias, Keys, Kv, Span},
};
use std::{ops::Range, sync::Arc};

const OP: &str = "attention";

/// How an attention divides its channels, and what its queries see.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heads {
    /// Heads of the queries.
    pub count: usize,
    /// Heads of keys and values, each for `count / kv` neighbouring heads of queries; none: as
    /// many as `count`.
    pub kv: Option<usize>,
    /// What products of queries and keys are multiplied by; none: 1 / √d, d being the
    /// channels of a head.
    pub scale: Option<f32>,
    /// Which keys a query sees, by their places in the sequence. A prefix is seen by all, unless it
    /// has places itself ([`Seq::place`]).
    pub mask: Mask,
    /// Probability of dropping an attention probability.
    pub dropout: f32,
}
impl Heads {
    fn kv(&self) -> usize {
        self.kv.unwrap_or(self.count)
    }
}

/// Some columns of an activation.
#[derive(Clone, Debug)]
pub struct Cols<'a> {
    act: &'a Act,
    cols: Range<usize>,
}
impl<'a> From<&'a Act> for Cols<'a> {
    fn from(act: &'a Act) -> Cols<'a> {
        Cols { act, cols: 0..act.cols }
    }
}
impl<'a> Cols<'a> {
    /// (rows, columns).
    fn shape(&self) -> [usize; 2] {
        [self.act.rows, self.cols.len()]
    }
    fn view(&self) -> Result<View<'a>> {
        Ok(View::of(&self.act.buf, self.act.rows, self.act.cols)?.cols_of(self.cols.clone())?)
    }
}
impl Act {
    /// Some of its columns, as an input of [`Cx::attend`].
    pub fn cols_of(&self, cols: Range<usize>) -> Result<Cols<'_>> {
        if cols.start > cols.end || cols.end > self.cols {
            let (left, right) = (vec![self.rows, self.cols], vec![cols.start, cols.end]);
            return Err(Error::Shape { op: "columns", left, right });
        }
        Ok(Cols { act: self, cols })
    }
}

/// A bias of relative positions (Raffel et al. 2020): `table[bucket[j - i + zero]]`, a number for
/// each head, is added to the scores of the query at place i and the key at place j.
#[derive(Clone, Debug)]
pub struct Relative<'m> {
    /// (buckets, count).
    pub table: W<'m>,
    /// The row of the table for each distance from `-zero` on.
    pub bucket: Arc<[u32]>,
    /// Where in `bucket` the distance 0 is.
    pub zero: usize,
    /// True if the keys of a prefix are places in front of the sequence that its queries do not
    /// count, so that all distances grow by their number: AdapterHub's T5.
    pub prefix_counts: bool,
}

/// What attends to what.
#[derive(Clone, Debug)]
pub struct Qkv<'a, 'm> {
    /// Queries, (rows, count · d).
    pub q: Cols<'a>,
    /// Keys, (rows, kv · d).
    pub k: Cols<'a>,
    /// Values, as the keys.
    pub v: Cols<'a>,
    /// For each sequence of queries, the place of the first one among the tokens of its keys. May
    /// be left out where there are as many queries as keys, or where places make no difference.
    pub first: Option<&'a [usize]>,
    /// Keys and values in front of those, for each sequence of queries.
    pub prefix: Option<&'a Prefix>,
    /// What is added to the scores.
    pub bias: Option<Relative<'m>>,
}
impl<'a, 'm> Qkv<'a, 'm> {
    /// Three activations.
    pub fn of(q: &'a Act, k: &'a Act, v: &'a Act) -> Self {
        Qkv { q: q.into(), k: k.into(), v: v.into(), first: None, prefix: None, bias: None }
    }
    /// One activation (T, (count + 2 kv) · d) in which they stand side by side.
    pub fn fused(x: &'a Act, how: &Heads) -> Result<Self> {
        let parts = how.count + 2 * how.kv();
        if parts == 0 || !x.cols.is_multiple_of(parts) {
            return Err(Error::Shape { op: OP, left: vec![x.rows, x.cols], right: vec![parts] });
        }
        let d = x.cols / parts;
        let (q, kv) = (how.count * d, how.kv() * d);
        let [q, k, v] = [0..q, q..q + kv, q + kv..x.cols].map(|cols| Cols { act: x, cols });
        Ok(Qkv { q, k, v, first: None, prefix: None, bias: None })
    }
    /// Channels of a head, if the widths agree.
    fn head_dim(&self, how: &Heads) -> Result<usize> {
        let (q, kv) = (&self.q, how.kv());
        let wrong = |c: &Cols<'_>| {
            let left = vec![q.act.rows, q.cols.len(), how.count, kv];
            Err(Error::Shape { op: OP, left, right: c.shape().into() })
        };
        if how.count == 0
            || kv == 0
            || !how.count.is_multiple_of(kv)
            || !q.cols.len().is_multiple_of(how.count)
        {
            return wrong(&self.k);
        }
        let d = q.cols.len() / how.count;
        let prefix = self.prefix.map(|p| [Cols::from(&p.k), Cols::from(&p.v)]);
        for c in [&self.k, &self.v] {
            if c.shape() != [self.k.act.rows, kv * d] {
                return wrong(c);
            }
        }
        for c in prefix.iter().flatten() {
            if c.shape() != [prefix.as_ref().map_or(0, |p| p[0].act.rows), kv * d] {
                return wrong(c);
            }
        }
        Ok(d)
    }
    /// Which rows attend to which; the keys of a prefix lie behind so many other places.
    fn spans(&self, mask: Mask, remembered: Option<&Remembered<'_>>, behind: usize) -> Result<Vec<Span>> {
        let (q, k) = (&self.q.act.seqs, &self.k.act.seqs);
        let of_each = [self.first.map(<[_]>::len), self.prefix.map(|p| p.of.len())];
        if let Some(n) = of_each.into_iter().flatten().find(|n| *n != q.len()) {
            return Err(Error::Shape { op: OP, left: vec![q.len()], right: vec![n] });
        }
        let places = mask != Mask::None || self.bias.is_some();
        let span = |(i, a): (usize, &Seq)| {
            let b = k.iter().find(|b| (a.item, a.route) == (b.item, b.route));
            let b = b.ok_or(Error::NoKeys { op: OP, item: a.item })?;
            let first = match self.first {
                Some(first) => first[i],
                None if a.len == b.len || !places => 0,
                None => return Err(Error::Shape { op: OP, left: vec![a.len], right: vec![b.len] }),
            };
            let before = remembered.map_or(0, |r| r.before(b));
            let mut span = Span::new(a.start..a.start + a.len, b.start..b.start + b.len);
            if let Some(r) = remembered {
                span.kv = r.keys(b);
            }
            (span.position, span.bias_position) = (before + first, before + first);
            let pieces = self.prefix.map_or(&[][..], |p| &p.of[i]).iter().filter(|rows| !rows.is_empty());
            let pieces: Vec<Keys> = pieces.map(|rows| Keys { of: behind, rows: rows.clone() }).collect();
            if !pieces.is_empty() {
                let keys: usize = pieces.iter().map(|keys| keys.rows.len()).sum();
                span.position += keys;
                // where the tokens' places begin behind them they have places, which a window counts
                span.free = if a.place > 0 { 0 } else { keys };
                if !self.bias.as_ref().is_some_and(|b| b.prefix_counts) {
                    span.bias_position = span.position;
                }
                span.kv.splice(0..0, pieces);
            }
            Ok(span)
        };
        q.iter().enumerate().map(span).collect()
    }
}

impl<'m> Relative<'m> {
    fn bias<'a>(&'a self, decoded: &'a Option<Buffer>) -> Result<Bias<'a>> {
        let (rows, cols) = self.table.dims();
        let table = View::of(decoded.as_ref().unwrap_or(self.table.buffer()), rows, cols)?;
        Ok(Bias { table, bucket: &self.bucket, zero: self.zero })
    }
}

impl<'m> Cx<'m> {
    /// softmax(scale · Q Kᵀ + bias) V: every sequence of q attends to the sequence of k and v with
    /// the same item and route, and to its rows of the prefix. In a pass that remembers,
    /// self-attention with a mask reaches the tokens of passes before; without one it is that of an
    /// encoder, which reads its input as a whole. (rows of q, count · d)
    pub fn attend(&mut self, s: Site, x: Qkv<'_, 'm>, how: Heads) -> Result<Act> {
        if s.part != Part::Attn || how.mask == Mask::None {
            return self.attend_to(s, x, how, None);
        }
        let mut cache = self.cache.take();
        let y = self.attend_to(s, x, how, cache.as_mut());
        self.cache = cache;
        y
    }
    fn attend_to(&mut self, s: Site, x: Qkv<'_, 'm>, how: Heads, cache: Option<&mut KvCache>) -> Result<Act> {
        let head_dim = x.head_dim(&how)?;
        let remembered = match cache {
            Some(c) => Some(c.append(self.device(), s.layer, [x.k.view()?, x.v.view()?], &x.k.act.seqs)?),
            None => None,
        };
        let held = remembered.as_ref().map(Remembered::views).transpose()?;
        let spans = x.spans(how.mask, remembered.as_ref(), held.as_ref().map_or(1, Vec::len))?;
        let scale = how.scale.unwrap_or(1.0 / (head_dim as f32).sqrt());
        let (dropout, kv_heads) = (self.dropout_at(how.dropout, s, 0), how.kv());
        let shape = Shape { heads: how.count, kv_heads, head_dim, scale, mask: how.mask, dropout };
        let mut inputs = vec![x.q.clone(), x.k.clone(), x.v.clone()];
        inputs.extend(x.prefix.iter().flat_map(|p| [Cols::from(&p.k), Cols::from(&p.v)]));
        let nodes: Vec<_> = inputs.iter().map(|c| c.act.node).collect();
        let target = x.bias.as_ref().map(|b| b.table.target());
        let recorded = self.needed(&nodes, target.as_slice());

        let mut views = inputs.iter().map(Cols::view).collect::<Result<Vec<_>>>()?;
        if let Some(held) = held {
            views.splice(1..3, held.into_iter().flatten());
        }
        let (rows, channels) = (x.q.act.rows, x.q.cols.len());
        let mut o = self.alloc(rows * channels)?;
        let mut lse = match recorded {
            true => Some(self.device().alloc::<f32>(Class::Saved, rows * how.count)?),
            false => None,
        };
        let table = x.bias.as_ref().map(|b| self.decoded(&b.table)).transpose()?.flatten();
        let bias = x.bias.as_ref().map(|b| b.bias(&table)).transpose()?;
        let (q, kv) = split(&views);
        let to_lse = lse.as_mut().map(|l| ViewMut::of(l, rows, how.count)).transpose()?;
        let (qkv, to_o) = (attention::Qkv { q, kv: &kv, bias }, ViewMut::of(&mut o, rows, channels)?);
        attention::forward(self.device(), shape.with(&spans), qkv, to_o, to_lse)?;
        let o = x.q.act.like(o, channels);
        let Some(lse) = lse else { return Ok(o) };
        let sources = self.sources(&inputs)?;
        x.bias.iter().for_each(|b| b.table.hold());
        Ok(self.record(o, Op { sources, lse, spans, shape, bias: x.bias }))
    }
}
/// Queries, and keys and values of each place.
fn split<'a>(views: &[View<'a>]) -> (View<'a>, Vec<Kv<'a>>) {
    (views[0], views[1..].chunks_exact(2).map(|kv| Kv { k: kv[0], v: kv[1] }).collect())
}
