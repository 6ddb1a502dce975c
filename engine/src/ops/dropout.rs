//! Dropout keeps its key, not its mask: the backward pass draws the same numbers again.
//!
//! What is dropped out only to be added to something need not be dropped out in a pass of its own:
//! [`Pending`] says that it is still to be done.
use crate::{
    Act, Backward, Cx, Grads, Pending, Result, Seq, Site,
    tape::{NodeId, owned},
};
use engraft_kernels::{
    Buffer, Class, Device, View, ViewMut,
    dropout::{self, Dropout},
    mixture,
};
use std::sync::Arc;

struct Op {
    how: Dropout,
    rows: usize,
    cols: usize,
    x: Option<NodeId>,
}
struct Sequences {
    how: Dropout,
    seqs: Arc<[Seq]>,
    shape: (usize, usize),
    x: Option<NodeId>,
}
/// The rows of each sequence times its factor, which depends on the sequence's item and on nothing
/// else of the batch.
fn whole_sequences(d: &Device, how: Dropout, seqs: &[Seq], x: View<'_>, y: &mut Buffer) -> Result<()> {
    let (rows, cols) = (x.rows(), x.cols());
    let mut factors = vec![0f32; rows];
    for s in seqs {
        factors[s.start..s.start + s.len].fill(how.factor(s.item, 0));
    }
    let factors = d.upload(Class::Scratch, &factors)?;
    Ok(mixture::spread(d, x, View::of(&factors, rows, 1)?, &[cols], ViewMut::of(y, rows, cols)?)?)
}
impl<'m> Cx<'m> {
    /// Drops all rows of a sequence of x with probability `p` while training; those of the others
    /// are divided by 1 - p (stochastic depth, Huang et al. 2016). x itself otherwise.
    pub fn drop_sequences(&mut self, x: Act, p: f32, s: Site, salt: u8) -> Result<Act> {
        let Some(how) = self.dropout_at(p, s, salt) else { return Ok(x) };
        let mut y = self.alloc(x.rows * x.cols)?;
        whole_sequences(self.device(), how, &x.seqs, x.view()?, &mut y)?;
        let y = x.like(y, x.cols);
        if !self.needed(&[x.node], &[]) {
            return Ok(y);
        }
        Ok(self.record(y, Sequences { how, seqs: x.seqs.clone(), shape: (x.rows, x.cols), x: x.node }))
    }
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
impl<'m> Backward<'m> for Sequences {
    fn name(&self) -> &'static str {
        "drop_sequences"
    }
    fn saved(&self) -> usize {
        0
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let (rows, cols) = self.shape;
        let mut dx = cx.alloc(rows * cols)?;
        whole_sequences(cx.device(), self.how, &self.seqs, View::of(&dy, rows, cols)?, &mut dx)?;
        g.node(self.x, Arc::new(dx))
    }
}
