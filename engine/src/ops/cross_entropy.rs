//! The cross-entropy of logits against labels, summed over the rows that have one. Keeps
//! the probabilities.
use crate::{Act, Backward, Cx, Error, Grads, Result, pack, tape::NodeId};
use engraft_kernels::{
    Buffer, Class, View, ViewMut,
    cross_entropy::{self, IGNORED},
};
use std::sync::Arc;

struct Op {
    probs: Buffer,
    labels: Buffer,
    classes: usize,
    z: Option<NodeId>,
}
impl<'m> Cx<'m> {
    /// One number, the sum over the rows of z (T, classes) of -log softmax(z) at the label; and how
    /// many rows that are. Those whose label is [`IGNORED`] add nothing. For the mean, the gradient
    /// handed to [`Cx::backward`] is one over their number.
    pub fn cross_entropy(&mut self, z: &Act, labels: &[u32]) -> Result<(Act, usize)> {
        let count = labelled("cross_entropy", z, labels)?;
        let labels = self.device().upload(Class::Scratch, labels)?;
        let (mut probs, mut loss) = (self.alloc(z.buf.len())?, self.alloc(1)?);
        let to = ViewMut::of(&mut probs, z.rows, z.cols)?;
        cross_entropy::forward(self.device(), z.view()?, &labels, to, &mut loss)?;
        let y = Act::new(loss, 1, pack([1]))?;
        if !self.needed(&[z.node], &[]) {
            return Ok((y, count));
        }
        probs.set_class(Class::Saved);
        labels.set_class(Class::Saved);
        Ok((self.record(y, Op { probs, labels, classes: z.cols, z: z.node }), count))
    }
}
/// How many of the rows of x have a label; an error unless there is one number for each.
pub(super) fn labelled(op: &'static str, x: &Act, labels: &[u32]) -> Result<usize> {
    if labels.len() != x.rows {
        return Err(Error::Shape { op, left: vec![x.rows, x.cols], right: vec![labels.len()] });
    }
    Ok(labels.iter().filter(|l| **l != IGNORED).count())
}
impl<'m> Backward<'m> for Op {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }
    fn saved(&self) -> usize {
        self.probs.bytes() + self.labels.bytes()
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let (rows, classes) = (self.labels.len(), self.classes);
        let mut dz = cx.alloc(self.probs.len())?;
        let probs = View::of(&self.probs, rows, classes)?;
        let to = ViewMut::of(&mut dz, rows, classes)?;
        cross_entropy::backward(cx.device(), &dy, probs, &self.labels, to)?;
        g.node(self.z, Arc::new(dz))
    }
}
