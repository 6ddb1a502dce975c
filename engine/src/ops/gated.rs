//! y = f(a) ∘ b: what one projection opens of another. Keeps a and b.
use crate::{Act, Backward, Cx, Grads, Result, saved::SavedValues, tape::NodeId};
use engraft_kernels::{Buffer, View, ViewMut, activation::Activation, gated};
use std::sync::Arc;

struct Op {
    f: Activation,
    a: SavedValues,
    b: SavedValues,
    nodes: [Option<NodeId>; 2],
}
impl<'m> Cx<'m> {
    /// f(a) ∘ b. (T, C)
    pub fn gated(&mut self, a: &Act, f: Activation, b: &Act) -> Result<Act> {
        a.same_shape("gated", b)?;
        let mut y = self.alloc(a.buf.len())?;
        gated::forward(self.device(), f, View::row(&a.buf), View::row(&b.buf), ViewMut::row(&mut y))?;
        let y = a.like(y, a.cols);
        let nodes = [a.node, b.node];
        if !self.needed(&nodes, &[]) {
            return Ok(y);
        }
        let (a, b) = (self.save_for_backward(&a.buf)?, self.save_for_backward(&b.buf)?);
        Ok(self.record(y, Op { f, a, b, nodes }))
    }
}
impl<'m> Backward<'m> for Op {
    fn name(&self) -> &'static str {
        "gated"
    }
    fn saved(&self) -> usize {
        self.a.bytes() + self.b.bytes()
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let (a, b) = (self.a.get()?, self.b.get()?);
        let (mut da, mut db) = (cx.alloc(a.len())?, cx.alloc(b.len())?);
        let (to_a, to_b) = (ViewMut::row(&mut da), ViewMut::row(&mut db));
        gated::backward(cx.device(), self.f, View::row(&dy), View::row(&a), View::row(&b), to_a, to_b)?;
        g.node(self.nodes[0], Arc::new(da))?;
        g.node(self.nodes[1], Arc::new(db))
    }
}
