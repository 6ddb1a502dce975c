//! The cross-entropy of logits that each stand for themselves, against targets from 0 to 1. Keeps the
//! logits and their targets.
use crate::{Act, Backward, Cx, Error, Grads, Result, pack, saved::SavedValues, tape::NodeId};
use engraft_kernels::{Buffer, Class, View, ViewMut, binary_cross_entropy};
use std::sync::Arc;

struct Op {
    z: SavedValues,
    targets: Buffer,
    shape: (usize, usize),
    node: Option<NodeId>,
}
impl<'m> Cx<'m> {
    /// One number, the sum over the rows of z (T, C) of the mean over a row's logits of
    /// max(z, 0) - z y + ln(1 + exp -|z|), where y is the logit's target from 0 to 1; and how many
    /// rows those are. `targets` hold one for each logit, row by row.
    pub fn binary_cross_entropy(&mut self, z: &Act, targets: &[f32]) -> Result<(Act, usize)> {
        if targets.len() != z.buf.len() {
            let left = vec![z.rows, z.cols];
            return Err(Error::Shape { op: "binary_cross_entropy", left, right: vec![targets.len()] });
        }
        let (targets, mut loss) = (self.device().upload(Class::Scratch, targets)?, self.alloc(1)?);
        let by_row = View::of(&targets, z.rows, z.cols)?;
        binary_cross_entropy::forward(self.device(), z.view()?, by_row, &mut loss)?;
        let y = Act::new(loss, 1, pack([1]))?;
        if !self.needed(&[z.node], &[]) {
            return Ok((y, z.rows));
        }
        targets.set_class(Class::Saved);
        let saved = self.save_for_backward(&z.buf)?;
        let op = Op { z: saved, targets, shape: (z.rows, z.cols), node: z.node };
        Ok((self.record(y, op), z.rows))
    }
}
impl<'m> Backward<'m> for Op {
    fn name(&self) -> &'static str {
        "binary_cross_entropy"
    }
    fn saved(&self) -> usize {
        self.z.bytes() + self.targets.bytes()
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let (rows, cols) = self.shape;
        let (z, mut dz) = (self.z.get()?, cx.alloc(self.z.len())?);
        let (z, targets) = (View::of(&z, rows, cols)?, View::of(&self.targets, rows, cols)?);
        let to = ViewMut::of(&mut dz, rows, cols)?;
        binary_cross_entropy::backward(cx.device(), &dy, z, targets, to)?;
        g.node(self.node, Arc::new(dz))
    }
}
