//! Losses of every value by itself, summed: squared errors, and the cross-entropy of logits that each
//! stand for themselves. Keep the values and their targets.
use crate::{Act, Backward, Cx, Error, Grads, Result, pack, saved::SavedValues, tape::NodeId};
use engraft_kernels::{
    Buffer, Class, View, ViewMut,
    pointwise_loss::{self, Loss},
};
use std::sync::Arc;

struct Op {
    loss: Loss,
    z: SavedValues,
    targets: Buffer,
    shape: (usize, usize),
    node: Option<NodeId>,
}
impl<'m> Cx<'m> {
    /// One number, Σ (z - target)² over all values of z (T, C); and how many those are. `targets`
    /// hold one for each, row by row.
    pub fn squared_error(&mut self, z: &Act, targets: &[f32]) -> Result<(Act, usize)> {
        Ok((self.pointwise_loss(Loss::SquaredError, z, targets)?, targets.len()))
    }
    /// One number, the sum over the rows of z (T, C) of the mean over a row's logits of
    /// max(z, 0) - z y + ln(1 + exp -|z|), where y is the logit's target from 0 to 1; and how many
    /// rows those are. `targets` hold one for each logit, row by row.
    pub fn binary_cross_entropy(&mut self, z: &Act, targets: &[f32]) -> Result<(Act, usize)> {
        Ok((self.pointwise_loss(Loss::BinaryCrossEntropy, z, targets)?, z.rows))
    }
    fn pointwise_loss(&mut self, loss: Loss, z: &Act, targets: &[f32]) -> Result<Act> {
        let shape = (z.rows, z.cols);
        if targets.len() != z.buf.len() {
            let (left, right) = (vec![z.rows, z.cols], vec![targets.len()]);
            return Err(Error::Shape { op: loss.name(), left, right });
        }
        let (targets, mut sum) = (self.device().upload(Class::Scratch, targets)?, self.alloc(1)?);
        let of_rows = View::of(&targets, z.rows, z.cols)?;
        pointwise_loss::forward(self.device(), loss, z.view()?, of_rows, &mut sum)?;
        let y = Act::new(sum, 1, pack([1]))?;
        if !self.needed(&[z.node], &[]) {
            return Ok(y);
        }
        targets.set_class(Class::Saved);
        let saved = self.save_for_backward(&z.buf)?;
        Ok(self.record(y, Op { loss, z: saved, targets, shape, node: z.node }))
    }
}
impl<'m> Backward<'m> for Op {
    fn name(&self) -> &'static str {
        self.loss.name()
    }
    fn saved(&self) -> usize {
        self.z.bytes() + self.targets.bytes()
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let (rows, cols) = self.shape;
        let (z, mut dz) = (self.z.get()?, cx.alloc(self.z.len())?);
        let (z, targets) = (View::of(&z, rows, cols)?, View::of(&self.targets, rows, cols)?);
        let to = ViewMut::of(&mut dz, rows, cols)?;
        pointwise_loss::backward(cx.device(), self.loss, &dy, z, targets, to)?;
        g.node(self.node, Arc::new(dz))
    }
}
