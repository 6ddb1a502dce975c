//! Scaled dot-product attention within each sequence. Keeps Q, K, V and one number per row and head.
//!
//! Q, K and V are columns of activations: of three, or of one in which they stand side by side, as a fused product leaves
//! them. What is one activation is kept once and has one gradient.
use crate::{Act, Backward, Cx, Error, Grads, Result, Site, kept::Kept, tape::NodeId};
pub use engraft_kernels::attention::Mask;
use engraft_kernels::{
    Buffer, Class, ColsMut, View, ViewMut,
    attention::{self, Attention, Gradients, Kv, Span},
    dropout::Dropout,
};
use std::{ops::Range, sync::Arc};

const OP: &str = "attention";

/// How an attention divides its channels, and what its queries see.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heads {
    /// Heads of the queries.
    pub count: usize,
    /// Heads of keys and values, each for `count / kv` neighbouring heads of queries; none: as many as `count`.
    pub kv: Option<usize>,
    /// What products of queries and keys are multiplied by; none: 1 / √d, d being the channels of a head.
    pub scale: Option<f32>,
    /// Which keys a query sees, by their places in the sequence.
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

/// What attends to what.
#[derive(Clone, Debug)]
pub struct Qkv<'a> {
    /// Queries, (rows, count · d).
    pub q: Cols<'a>,
    /// Keys, (rows, kv · d).
    pub k: Cols<'a>,
    /// Values, as the keys.
    pub v: Cols<'a>,
    /// For each sequence of queries, the place of the first one among the tokens of its keys. May be left out where there are
    /// as many queries as keys, or where places make no difference.
    pub first: Option<&'a [usize]>,
}
impl<'a> Qkv<'a> {
    /// Three activations.
    pub fn of(q: &'a Act, k: &'a Act, v: &'a Act) -> Qkv<'a> {
        Qkv { q: q.into(), k: k.into(), v: v.into(), first: None }
    }
    /// One activation (T, (count + 2 kv) · d) in which they stand side by side.
    pub fn fused(x: &'a Act, how: &Heads) -> Result<Qkv<'a>> {
        let parts = how.count + 2 * how.kv();
        if parts == 0 || !x.cols.is_multiple_of(parts) {
            return Err(Error::Shape { op: OP, left: vec![x.rows, x.cols], right: vec![parts] });
        }
        let d = x.cols / parts;
        let (q, kv) = (how.count * d, how.kv() * d);
        let [q, k, v] = [0..q, q..q + kv, q + kv..x.cols].map(|cols| Cols { act: x, cols });
        Ok(Qkv { q, k, v, first: None })
    }
}

/// An activation that inputs are columns of.
struct Source {
    kept: Kept,
    rows: usize,
    cols: usize,
    node: Option<NodeId>,
    /// The inputs, by number, and their columns.
    parts: Vec<(usize, Range<usize>)>,
}
struct Op {
    sources: Vec<Source>,
    lse: Buffer,
    spans: Vec<Span>,
    shape: Shape,
}
/// An [`Attention`] without its spans.
#[derive(Clone, Copy)]
struct Shape {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    scale: f32,
    mask: Mask,
    dropout: Option<Dropout>,
}
impl Shape {
    fn with(self, spans: &[Span]) -> Attention<'_> {
        let Shape { heads, kv_heads, head_dim, scale, mask, dropout } = self;
        Attention { heads, kv_heads, head_dim, scale, mask, dropout, spans }
    }
}

impl<'m> Cx<'m> {
    /// softmax(scale · Q Kᵀ) V: every sequence of q attends to the sequence of k and v with the same item and route.
    /// (rows of q, count · d)
    pub fn attend(&mut self, s: Site, x: Qkv<'_>, how: Heads) -> Result<Act> {
        let (q, kv) = (&x.q, how.kv());
        let shape = |c: &Cols<'_>| vec![c.act.rows, c.cols.len()];
        let wrong = |right| Error::Shape { op: OP, left: [shape(q), vec![how.count, kv]].concat(), right };
        if how.count == 0 || kv == 0 || how.count % kv != 0 || !q.cols.len().is_multiple_of(how.count) {
            return Err(wrong(shape(&x.k)));
        }
        let head_dim = q.cols.len() / how.count;
        for c in [&x.k, &x.v] {
            if shape(c) != [x.k.act.rows, kv * head_dim] {
                return Err(wrong(shape(c)));
            }
        }
        let spans = x.spans(how.mask)?;
        let scale = how.scale.unwrap_or(1.0 / (head_dim as f32).sqrt());
        let dropout = self.dropout_at(how.dropout, s, 0);
        let shape = Shape { heads: how.count, kv_heads: kv, head_dim, scale, mask: how.mask, dropout };
        let (rows, channels) = (q.act.rows, q.cols.len());
        let inputs = [x.q.clone(), x.k.clone(), x.v.clone()];
        let nodes: Vec<_> = inputs.iter().map(|c| c.act.node).collect();
        let recorded = self.needed(&nodes, &[]);
        let mut o = self.alloc(rows * channels)?;
        let mut lse = match recorded {
            true => Some(self.device().alloc::<f32>(Class::Saved, rows * how.count)?),
            false => None,
        };
        let views =
            inputs.iter().map(|c| Ok(View::of(&c.act.buf, c.act.rows, c.act.cols)?.cols_of(c.cols.clone())?));
        let (q, kv) = split(&views.collect::<Result<Vec<_>>>()?);
        let to_o = ViewMut::of(&mut o, rows, channels)?;
        let to_lse = lse.as_mut().map(|l| ViewMut::of(l, rows, how.count)).transpose()?;
        let qkv = attention::Qkv { q, kv: &kv, bias: None };
        attention::forward(self.device(), shape.with(&spans), qkv, to_o, to_lse)?;
        let o = x.q.act.like(o, channels);
        let Some(lse) = lse else { return Ok(o) };
        let sources = self.sources(&inputs)?;
        Ok(self.record(o, Op { sources, lse, spans, shape }))
    }
    /// The activations of which these are columns, each once: but those whose columns are taken twice have two gradients.
    fn sources(&mut self, inputs: &[Cols<'_>]) -> Result<Vec<Source>> {
        let mut sources: Vec<(&Act, Source)> = vec![];
        for (n, Cols { act, cols }) in inputs.iter().enumerate() {
            let apart = |(_, of): &(usize, Range<usize>)| of.end <= cols.start || cols.end <= of.start;
            let same = |(a, s): &&mut (&Act, Source)| {
                Arc::ptr_eq(&a.buf, &act.buf) && a.node == act.node && s.parts.iter().all(apart)
            };
            match sources.iter_mut().find(same) {
                Some((_, s)) => s.parts.push((n, cols.clone())),
                None => {
                    let (kept, parts) = (self.keep(&act.buf)?, vec![(n, cols.clone())]);
                    let (rows, cols, node) = (act.rows, act.cols, act.node);
                    sources.push((act, Source { kept, rows, cols, node, parts }));
                }
            }
        }
        Ok(sources.into_iter().map(|(_, s)| s).collect())
    }
}
impl Qkv<'_> {
    /// Which rows attend to which.
    fn spans(&self, mask: Mask) -> Result<Vec<Span>> {
        let (q, k) = (&self.q.act.seqs, &self.k.act.seqs);
        if let Some(first) = self.first.filter(|f| f.len() != q.len()) {
            return Err(Error::Shape { op: OP, left: vec![q.len()], right: vec![first.len()] });
        }
        let span = |(i, a): (usize, &crate::Seq)| {
            let b = k.iter().find(|b| (a.item, a.route) == (b.item, b.route));
            let b = b.ok_or(Error::NoKeys { op: OP, item: a.item })?;
            let position = match self.first {
                Some(first) => first[i],
                None if a.len == b.len || mask == Mask::None => 0,
                None => return Err(Error::Shape { op: OP, left: vec![a.len], right: vec![b.len] }),
            };
            let span = Span::new(a.start..a.start + a.len, b.start..b.start + b.len);
            Ok(Span { position, bias_position: position, ..span })
        };
        q.iter().enumerate().map(span).collect()
    }
}
/// Queries, and keys and values of each place.
fn split<'a>(views: &[View<'a>]) -> (View<'a>, Vec<Kv<'a>>) {
    (views[0], views[1..].chunks_exact(2).map(|kv| Kv { k: kv[0], v: kv[1] }).collect())
}
/// Whether these ranges, in whatever order, leave out none of the first `n` numbers.
fn cover(ranges: impl Iterator<Item = Range<usize>>, n: usize) -> bool {
    let mut ranges: Vec<Range<usize>> = ranges.collect();
    ranges.sort_by_key(|r| r.start);
    ranges.iter().fold(0, |end, r| if r.start <= end { end.max(r.end) } else { end }) >= n
}

impl Op {
    /// Whether the backward pass writes all elements of a source's gradient.
    fn covers(&self, s: &Source) -> bool {
        let rows = |n: usize| {
            let keys = self.spans.iter().flat_map(|s| &s.kv).filter(move |k| k.of == (n - 1) / 2);
            match n {
                0 => cover(self.spans.iter().map(|s| s.q.clone()), s.rows),
                _ => cover(keys.map(|k| k.rows.clone()), s.rows),
            }
        };
        cover(s.parts.iter().map(|p| p.1.clone()), s.cols) && s.parts.iter().all(|p| rows(p.0))
    }
}
impl<'m> Backward<'m> for Op {
    fn name(&self) -> &'static str {
        OP
    }
    fn saved(&self) -> usize {
        self.sources.iter().map(|s| s.kept.bytes()).sum::<usize>() + self.lse.bytes()
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let mut gradients = vec![];
        for s in self.sources.iter().filter(|s| s.node.is_some()) {
            gradients.push(match self.covers(s) {
                true => cx.alloc(s.rows * s.cols)?,
                false => cx.device().zeros::<f32>(Class::Scratch, s.rows * s.cols)?,
            });
        }
        let count = self.sources.iter().map(|s| s.parts.len()).sum();
        let values = self.sources.iter().map(|s| s.kept.get()).collect::<Result<Vec<_>>>()?;
        let mut inputs: Vec<Option<View<'_>>> = vec![None; count];
        let mut targets: Vec<Option<ColsMut<'_>>> = (0..count).map(|_| None).collect();
        let mut free = gradients.iter_mut();
        for (s, values) in self.sources.iter().zip(&values) {
            let all = View::of(values, s.rows, s.cols)?;
            for (n, cols) in &s.parts {
                inputs[*n] = Some(all.cols_of(cols.clone())?);
            }
            if let Some(d) = free.by_ref().take(usize::from(s.node.is_some())).next() {
                let cols: Vec<_> = s.parts.iter().map(|p| p.1.clone()).collect();
                let parts = ViewMut::of(d, s.rows, s.cols)?.split_cols(&cols)?;
                s.parts.iter().zip(parts).for_each(|((n, _), part)| targets[*n] = Some(part));
            }
        }
        let (q, kv) = split(&inputs.into_iter().flatten().collect::<Vec<_>>());
        let mut targets = targets.into_iter();
        let mut to = Gradients { q: targets.next().flatten(), ..Gradients::default() };
        while let (Some(k), Some(v)) = (targets.next(), targets.next()) {
            to.kv.push([k, v]);
        }
        let (rows, heads) = (self.lse.len() / self.shape.heads, self.shape.heads);
        let (lse, dy) =
            (View::of(&self.lse, rows, heads)?, View::of(&dy, rows, heads * self.shape.head_dim)?);
        let qkv = attention::Qkv { q, kv: &kv, bias: None };
        attention::backward(cx.device(), self.shape.with(&self.spans), qkv, lse, dy, to)?;
        let nodes = self.sources.iter().filter(|s| s.node.is_some()).map(|s| s.node);
        nodes.zip(gradients).try_for_each(|(node, d)| g.node(node, Arc::new(d)))
    }
}
