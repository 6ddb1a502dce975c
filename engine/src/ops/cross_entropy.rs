//! The mean cross-entropy of logits against labels. Keeps the probabilities.
use crate::{Act, Backward, Cx, Error, Grads, Result, pack, tape::NodeId};
use engraft_kernels::{Buffer, Class, cross_entropy};
use std::sync::Arc;

struct Op {
    probs: Buffer,
    labels: Buffer,
    classes: usize,
    z: Option<NodeId>,
}
impl<'m> Cx<'m> {
    /// One number: the mean over the rows of z (rows, classes) of -log softmax(z) at the label.
    pub fn cross_entropy(&mut self, z: &Act, labels: &[u32]) -> Result<Act> {
        if labels.len() != z.rows || labels.is_empty() {
            return Err(Error::Shape {
                op: "cross_entropy",
                left: vec![z.rows, z.cols],
                right: vec![labels.len()],
            });
        }
        let labels = self.device().upload(Class::Scratch, labels)?;
        let (mut probs, mut loss) = (self.alloc(z.buf.len())?, self.alloc(1)?);
        cross_entropy::forward(self.device(), &z.buf, &labels, z.cols, &mut probs, &mut loss)?;
        let y = Act::new(loss, 1, pack([1]))?;
        if !self.needed(&[z.node], &[]) {
            return Ok(y);
        }
        probs.set_class(Class::Saved);
        labels.set_class(Class::Saved);
        Ok(self.record(y, Op { probs, labels, classes: z.cols, z: z.node }))
    }
}
impl<'m> Backward<'m> for Op {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }
    fn saved(&self) -> usize {
        self.probs.bytes() + self.labels.bytes()
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let mut dz = cx.alloc(self.probs.len())?;
        cross_entropy::backward(cx.device(), &dy, &self.probs, &self.labels, self.classes, &mut dz)?;
        g.node(self.z, Arc::new(dz))
    }
}
