//! The divergence of the softmax of logits from given distributions, summed over rows. Keeps both.
use crate::{Act, Backward, Cx, Error, Grads, Result, pack, tape::NodeId};
use engraft_kernels::{Buffer, Class, View, ViewMut, divergence};
use std::sync::Arc;

struct Op {
    p: Buffer,
    q: Buffer,
    s: f32,
    shape: (usize, usize),
    z: Option<NodeId>,
}
impl<'m> Cx<'m> {
    /// One number, Σ q (ln q - ln softmax(s z)) over the rows of z (T, C). `q` has a number for each
    /// value of z, row by row: a distribution, or zeros for a row that adds nothing.
    pub fn divergence(&mut self, z: &Act, q: &[f32], s: f32) -> Result<Act> {
        if q.len() != z.buf.len() {
            let left = vec![z.rows, z.cols];
            return Err(Error::Shape { op: "divergence", left, right: vec![q.len()] });
        }
        let shape = (z.rows, z.cols);
        let q = self.device().upload(Class::Scratch, q)?;
        let (mut p, mut loss) = (self.alloc(z.buf.len())?, self.alloc(1)?);
        let to = ViewMut::of(&mut p, z.rows, z.cols)?;
        divergence::forward(self.device(), z.view()?, View::of(&q, z.rows, z.cols)?, s, to, &mut loss)?;
        let y = Act::new(loss, 1, pack([1]))?;
        if !self.needed(&[z.node], &[]) {
            return Ok(y);
        }
        p.set_class(Class::Saved);
        q.set_class(Class::Saved);
        Ok(self.record(y, Op { p, q, s, shape, z: z.node }))
    }
}
impl<'m> Backward<'m> for Op {
    fn name(&self) -> &'static str {
        "divergence"
    }
    fn saved(&self) -> usize {
        self.p.bytes() + self.q.bytes()
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let (rows, cols) = self.shape;
        let mut dz = cx.alloc(self.p.len())?;
        let (p, q) = (View::of(&self.p, rows, cols)?, View::of(&self.q, rows, cols)?);
        divergence::backward(cx.device(), &dy, p, q, self.s, ViewMut::of(&mut dz, rows, cols)?)?;
        g.node(self.z, Arc::new(dz))
    }
}
