//! Squared errors, summed over all values. Keeps the values and their targets.
use crate::{Act, Backward, Cx, Error, Grads, Result, pack, saved::SavedValues, tape::NodeId};
use engraft_kernels::{Buffer, Class, View, ViewMut, squared_error};
use std::sync::Arc;

struct Op {
    z: SavedValues,
    targets: Buffer,
    node: Option<NodeId>,
}
impl<'m> Cx<'m> {
    /// One number, Σ (z - target)² over all values of z (T, C); and how many those are. `targets`
    /// hold one for each, row by row.
    pub fn squared_error(&mut self, z: &Act, targets: &[f32]) -> Result<(Act, usize)> {
        if targets.len() != z.buf.len() {
            let left = vec![z.rows, z.cols];
            return Err(Error::Shape { op: "squared_error", left, right: vec![targets.len()] });
        }
        let count = targets.len();
        let (targets, mut loss) = (self.device().upload(Class::Scratch, targets)?, self.alloc(1)?);
        squared_error::forward(self.device(), View::row(&z.buf), View::row(&targets), &mut loss)?;
        let y = Act::new(loss, 1, pack([1]))?;
        if !self.needed(&[z.node], &[]) {
            return Ok((y, count));
        }
        targets.set_class(Class::Saved);
        let saved = self.save_for_backward(&z.buf)?;
        Ok((self.record(y, Op { z: saved, targets, node: z.node }), count))
    }
}
impl<'m> Backward<'m> for Op {
    fn name(&self) -> &'static str {
        "squared_error"
    }
    fn saved(&self) -> usize {
        self.z.bytes() + self.targets.bytes()
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let (z, mut dz) = (self.z.get()?, cx.alloc(self.z.len())?);
        let targets = View::row(&self.targets);
        squared_error::backward(cx.device(), &dy, View::row(&z), targets, ViewMut::row(&mut dz))?;
        g.node(self.node, Arc::new(dz))
    }
}
