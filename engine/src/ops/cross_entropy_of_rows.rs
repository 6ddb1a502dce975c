//! The cross-entropy over the rows of each example, of which some are the right ones: for answers
//! that are a part of a text, and for choices. Keeps the probabilities.
use crate::{Act, Backward, Cx, Error, Grads, Result, pack, tape::NodeId};
use engraft_kernels::{
    Buffer, Class, View, ViewMut,
    cross_entropy::IGNORED,
    cross_entropy_of_rows::{backward, forward},
};
use std::sync::Arc;

struct Op {
    probs: Buffer,
    lengths: Buffer,
    targets: Buffer,
    columns: usize,
    z: Option<NodeId>,
}
impl<'m> Cx<'m> {
    /// One number, the sum over examples of the mean over columns of -log softmax at the target, the
    /// softmax being over the rows of the example in z (T, K); and how many examples have a target.
    /// `lengths` says how many rows each of them has, one behind the other, and `targets` has for
    /// each of them one of its rows for every column, (examples, K): one that is [`IGNORED`] adds
    /// nothing. For the mean, the gradient handed to [`Cx::backward`] is one over their number.
    pub fn cross_entropy_of_rows(
        &mut self,
        z: &Act,
        lengths: &[usize],
        targets: &[u32],
    ) -> Result<(Act, usize)> {
        let op = "cross_entropy_of_rows";
        let wrong = |right| Error::Shape { op, left: vec![z.rows, z.cols], right };
        let short = |n: &usize| u32::try_from(*n).map_err(|_| wrong(vec![*n]));
        let each = lengths.iter().map(short).collect::<Result<Vec<_>>>()?;
        if targets.len() != lengths.len() * z.cols {
            return Err(wrong(vec![lengths.len(), targets.len()]));
        }
        let own = targets.chunks(z.cols.max(1));
        let count = own.filter(|own| own.iter().any(|target| *target != IGNORED)).count();
        let up = |v: &[u32]| self.device().upload(Class::Scratch, v);
        let (lengths, targets) = (up(&each)?, up(targets)?);
        let (mut probs, mut loss) = (self.alloc(z.buf.len())?, self.alloc(1)?);
        let to = ViewMut::of(&mut probs, z.rows, z.cols)?;
        forward(self.device(), z.view()?, &lengths, &targets, to, &mut loss)?;
        let y = Act::new(loss, 1, pack([1]))?;
        if !self.needed(&[z.node], &[]) {
            return Ok((y, count));
        }
        [&probs, &lengths, &targets].iter().for_each(|kept| kept.set_class(Class::Saved));
        Ok((self.record(y, Op { probs, lengths, targets, columns: z.cols, z: z.node }), count))
    }
}
impl<'m> Backward<'m> for Op {
    fn name(&self) -> &'static str {
        "cross_entropy_of_rows"
    }
    fn saved(&self) -> usize {
        self.probs.bytes() + self.lengths.bytes() + self.targets.bytes()
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let rows = self.probs.len() / self.columns.max(1);
        let mut dz = cx.alloc(self.probs.len())?;
        let probs = View::of(&self.probs, rows, self.columns)?;
        let to = ViewMut::of(&mut dz, rows, self.columns)?;
        backward(cx.device(), &dy, probs, &self.lengths, &self.targets, to)?;
        g.node(self.z, Arc::new(dz))
    }
}
