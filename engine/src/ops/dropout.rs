//! Dropout keeps its key, not its mask: the backward pass draws the same numbers again.
//!
//! What is dropped out only to be added to something need not be dropped out in a pass of its own:
//! [`Pending`] says that it is still to be done.
use crate::{
    Act, Backward, Cx, Grads, Pending, Result, Site,
    tape::{NodeId, owned},
};
use engraft_kernels::{
    Buffer, ViewMut,
    dropout::{self, Dropout},
};
use std::sync::Arc;

struct Op {
    how: Dropout,
    rows: usize,
    cols: usize,
    x: Option<NodeId>,
}
impl<'m> Cx<'m> {
    /// Drops elements of x with probability `p` while training; x itself otherwise. `salt` tells
    /// several uses at one site apart.
    pub fn dropout(&mut self, x: Act, p: f32, s: Site, salt: u8) -> Result<Act> {
        let x = self.drop_later(x, p, s, salt);
        self.dropped(x)
    }
    /// The same, but whoever reads it does it.
    pub fn drop_later(&self, x: Act, p: f32, s: Site, salt: u8) -> Pending {
        Pending { x, how: self.dropout_at(p, s, salt) }
    }
    /// Does what is pending.
    pub fn dropped(&mut self, Pending { x, how }: Pending) -> Result<Act> {
        let Some(how) = how else { return Ok(x) };
        let Act { buf, rows, cols, node, seqs, .. } = x;
        let mut y = owned(buf)?;
        dropout::apply(self.device(), how, ViewMut::of(&mut y, rows, cols)?)?;
        let y = Act::of(y, (rows, cols), seqs);
        if !self.needed(&[node], &[]) {
            return Ok(y);
        }
        Ok(self.record(y, Op { how, rows, cols, x: node }))
    }
}
impl<'m> Backward<'m> for Op {
    fn name(&self) -> &'static str {
        "dropout"
    }
    fn saved(&self) -> usize {
        0
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let mut d = owned(dy)?;
        dropout::apply(cx.device(), self.how, ViewMut::of(&mut d, self.rows, self.cols)?)?;
        g.node(self.x, Arc::new(d))
    }
}
