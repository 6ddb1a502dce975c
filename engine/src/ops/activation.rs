//! y = f(x), element by element. Keeps x: dx = dy f'(x).
use super::linear;
use crate::{
    Act, Backward, Cx, Grads, LinearRef, Result,
    saved::SavedValues,
    tape::{NodeId, owned},
};
use engraft_kernels::{Buffer, View, ViewMut, activation, activation::Activation};
use std::sync::Arc;

struct Op {
    f: Activation,
    saved: SavedValues,
    x: Option<NodeId>,
}
impl<'m> Cx<'m> {
    /// f(x).
    pub fn activate(&mut self, x: &Act, f: Activation) -> Result<Act> {
        self.activated(x, f, false)
    }
    /// f(x), which `reader` will read: rounded as it is produced if that computes
    /// in 8-bit integers.
    pub fn activate_for(&mut self, x: &Act, f: Activation, reader: &LinearRef<'m>) -> Result<Act> {
        self.activated(x, f, reader.w.integers().is_some() && !reader.in_out)
    }
    fn activated(&mut self, x: &Act, f: Activation, quantize: bool) -> Result<Act> {
        let mut y = self.alloc(x.buf.len())?;
        let y = if quantize {
            let mut q = linear::rows(self.device(), (x.rows, x.cols))?;
            let to = ViewMut::of(&mut y, x.rows, x.cols)?;
            activation::forward_quantized(self.device(), f, x.view()?, to, &mut q)?;
            x.like(y, x.cols).with_quantized(Some(q))
        } else {
            activation::forward(self.device(), f, x.view()?, ViewMut::of(&mut y, x.rows, x.cols)?)?;
            x.like(y, x.cols)
        };
        if !self.needed(&[x.node], &[]) {
            return Ok(y);
        }
        let saved = self.save_for_backward(&x.buf)?;
        Ok(self.record(y, Op { f, saved, x: x.node }))
    }
}
impl<'m> Backward<'m> for Op {
    fn name(&self) -> &'static str {
        "activation"
    }
    fn saved(&self) -> usize {
        self.saved.bytes()
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let mut d = owned(dy)?;
        let x = self.saved.get()?;
        activation::backward(cx.device(), self.f, View::row(&x), ViewMut::row(&mut d))?;
        g.node(self.x, Arc::new(d))
    }
}
