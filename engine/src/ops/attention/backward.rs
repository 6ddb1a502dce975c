//! What attention keeps, and its backward pass.
use super::{Cols, OP, Relative, split};
use crate::{Act, Backward, Cx, Grads, Result, saved::SavedValues, tape::NodeId};
use engraft_kernels::{
    Buffer, Class, ColsMut, View, ViewMut,
    attention::{self, Attention, BiasGradient, Gradients, Mask, Span},
    dropout::Dropout,
};
use std::{ops::Range, sync::Arc};

/// An activation that inputs are columns of.
pub(super) struct Source {
    saved: SavedValues,
    rows: usize,
    cols: usize,
    node: Option<NodeId>,
    /// The inputs, by number, and their columns.
    parts: Vec<(usize, Range<usize>)>,
}
pub(super) struct Op<'m> {
    pub sources: Vec<Source>,
    pub lse: Buffer,
    pub spans: Vec<Span>,
    pub shape: Shape,
    pub bias: Option<Relative<'m>>,
}
/// An [`Attention`] without its spans.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub scale: f32,
    pub mask: Mask,
    pub dropout: Option<Dropout>,
}
impl Shape {
    pub fn with(self, spans: &[Span]) -> Attention<'_> {
        let Shape { heads, kv_heads, head_dim, scale, mask, dropout } = self;
        Attention { heads, kv_heads, head_dim, scale, mask, dropout, spans }
    }
}

impl<'m> Cx<'m> {
    /// The activations of which these are columns, each once: but those whose columns are taken
    /// twice have two gradients.
    pub(super) fn sources(&mut self, inputs: &[Cols<'_>]) -> Result<Vec<Source>> {
        let mut sources: Vec<(&Act, Source)> = vec![];
        for (n, Cols { act, cols }) in inputs.iter().enumerate() {
            let apart = |(_, of): &(usize, Range<usize>)| of.end <= cols.start || cols.end <= of.start;
            let same = |(a, s): &&mut (&Act, Source)| {
                Arc::ptr_eq(&a.buf, &act.buf) && a.node == act.node && s.parts.iter().all(apart)
            };
            match sources.iter_mut().find(same) {
                Some((_, s)) => s.parts.push((n, cols.clone())),
                None => {
                    let (saved, parts) = (self.save_for_backward(&act.buf)?, vec![(n, cols.clone())]);
                    let (rows, cols, node) = (act.rows, act.cols, act.node);
                    sources.push((act, Source { saved, rows, cols, node, parts }));
                }
            }
        }
        Ok(sources.into_iter().map(|(_, s)| s).collect())
    }
}
/// Whether these ranges, in whatever order, leave out none of the first `n` numbers.
fn cover(ranges: impl Iterator<Item = Range<usize>>, n: usize) -> bool {
    let mut ranges: Vec<Range<usize>> = ranges.collect();
    ranges.sort_by_key(|r| r.start);
    ranges.iter().fold(0, |end, r| if r.start <= end { end.max(r.end) } else { end }) >= n
}

impl Op<'_> {
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
impl<'m> Backward<'m> for Op<'m> {
    fn name(&self) -> &'static str {
        OP
    }
    fn saved(&self) -> usize {
        self.sources.iter().map(|s| s.saved.bytes()).sum::<usize>() + self.lse.bytes()
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
        let values = self.sources.iter().map(|s| s.saved.get()).collect::<Result<Vec<_>>>()?;
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
        let table = self.bias.as_ref().map(|b| cx.decoded(&b.table)).transpose()?.flatten();
        let bias = self.bias.as_ref().map(|b| b.bias(&table)).transpose()?;
        let (qkv, a) = (attention::Qkv { q, kv: &kv, bias }, self.shape.with(&self.spans));
        match self.bias.as_ref().map(|b| &b.table).filter(|w| w.target().is_some()) {
            None => attention::backward(cx.device(), a, qkv, lse, dy, to)?,
            Some(w) => g.weight(w.target(), w.elements(), |device, b, accumulate| {
                let (rows, cols) = w.dims();
                let bias = Some(BiasGradient { table: ViewMut::of(b, rows, cols)?, accumulate });
                let to = Gradients { bias, ..to };
                Ok(attention::backward(device, a, qkv, lse, dy, to)?)
            })?,
        }
        let nodes = self.sources.iter().filter(|s| s.node.is_some()).map(|s| s.node);
        nodes.zip(gradients).try_for_each(|(node, d)| g.node(node, Arc::new(d)))
    }
}
