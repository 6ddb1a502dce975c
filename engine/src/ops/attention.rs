//! Scaled dot-product attention within each sequence. Keeps Q, K, V and one number per row and head.
use crate::{Act, Backward, Cx, Error, Grads, Result, Site, kept::Kept, tape::NodeId};
use engraft_kernels::{
    Buffer, Class,
    attention::{self, Attention, Gradients, Qkv, Span},
    dropout::Dropout,
};
use std::sync::Arc;

/// How an attention divides its channels.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Heads; they divide the channels evenly.
    pub count: usize,
    /// Probability of dropping an attention probability.
    pub dropout: f32,
}

struct Op {
    q: Kept,
    k: Kept,
    v: Kept,
    lse: Buffer,
    spans: Vec<Span>,
    heads: usize,
    cols: usize,
    dropout: Option<Dropout>,
    nodes: [Option<NodeId>; 3],
}
fn shape<'a>(heads: usize, cols: usize, dropout: Option<Dropout>, spans: &'a [Span]) -> Attention<'a> {
    let head_dim = cols / heads;
    Attention { heads, head_dim, scale: 1.0 / (head_dim as f32).sqrt(), dropout, spans }
}

impl<'m> Cx<'m> {
    /// softmax(Q Kᵀ / √d) V: every sequence of q attends to the sequence of k and v with the same item and route. (T, C)
    pub fn attend(&mut self, s: Site, q: &Act, k: &Act, v: &Act, how: Heads) -> Result<Act> {
        k.same_shape("attention", v)?;
        let (rows, cols) = (q.rows, q.cols);
        if how.count == 0 || cols % how.count != 0 || k.cols != cols {
            return Err(Error::Shape {
                op: "attention",
                left: vec![rows, cols, how.count],
                right: vec![k.rows, k.cols],
            });
        }
        let mut spans = Vec::with_capacity(q.seqs.len());
        for a in q.seqs.iter() {
            let b = k.seqs.iter().find(|b| (a.item, a.route) == (b.item, b.route));
            let b = b.ok_or(Error::NoKeys { op: "attention", item: a.item })?;
            spans.push(Span { q: a.start..a.start + a.len, kv: b.start..b.start + b.len });
        }
        let dropout = self.dropout_at(how.dropout, s, 0);
        let at = shape(how.count, cols, dropout, &spans);
        let x = Qkv { q: &q.buf, k: &k.buf, v: &v.buf };
        let mut o = self.alloc(rows * cols)?;
        let nodes = [q.node, k.node, v.node];
        if !self.needed(&nodes, &[]) {
            attention::forward(self.device(), at, x, &mut o, None)?;
            return Ok(q.like(o, cols));
        }
        let mut lse = self.device().alloc::<f32>(Class::Saved, rows * how.count)?;
        attention::forward(self.device(), at, x, &mut o, Some(&mut lse))?;
        let o = q.like(o, cols);
        let (q, k, v) = (self.keep(&q.buf)?, self.keep(&k.buf)?, self.keep(&v.buf)?);
        let op = Op { q, k, v, lse, spans, heads: how.count, cols, dropout, nodes };
        Ok(self.record(o, op))
    }
}
impl<'m> Backward<'m> for Op {
    fn name(&self) -> &'static str {
        "attention"
    }
    fn saved(&self) -> usize {
        self.q.bytes() + self.k.bytes() + self.v.bytes() + self.lse.bytes()
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let (mut dq, mut dk, mut dv) =
            (cx.alloc(self.q.len())?, cx.alloc(self.k.len())?, cx.alloc(self.v.len())?);
        let at = shape(self.heads, self.cols, self.dropout, &self.spans);
        let (q, k, v) = (self.q.get()?, self.k.get()?, self.v.get()?);
        let x = Qkv { q: &q, k: &k, v: &v };
        let grads = Gradients { dq: &mut dq, dk: &mut dk, dv: &mut dv };
        attention::backward(cx.device(), at, x, &self.lse, &dy, grads)?;
        for (node, d) in self.nodes.into_iter().zip([dq, dk, dv]) {
            g.node(node, Arc::new(d))?;
        }
        Ok(())
    }
}
