//! The mean of a sequence's rows, and a row for a sequence given to all of its rows: what is
//! decided once for a sequence. Keeps which rows are whose.
use crate::{Act, Backward, Cx, Error, Grads, Result, Seq, tape::NodeId};
use engraft_kernels::{Buffer, Class, Device, View, ViewMut, elementwise, gather, matmul::Matrix, reduce};
use std::sync::Arc;

struct Means {
    seqs: Arc<[Seq]>,
    shape: (usize, usize),
    x: Option<NodeId>,
}
struct ToRows {
    seqs: Arc<[Seq]>,
    rows: usize,
    cols: usize,
    x: Option<NodeId>,
}

/// The sum of each sequence's rows of x, (sequences, cols), times its factor.
fn sums(d: &Device, x: View<'_>, seqs: &[Seq], factor: impl Fn(&Seq) -> f32, y: &mut Buffer) -> Result<()> {
    let cols = x.cols();
    for (i, s) in seqs.iter().enumerate() {
        let to = ViewMut::of(y, seqs.len(), cols)?.rows_of(i..i + 1)?;
        reduce::column_sums(d, x.rows_of(s.start..s.start + s.len)?, to, false)?;
        if factor(s) != 1.0 {
            elementwise::scale(d, factor(s), ViewMut::of(y, seqs.len(), cols)?.rows_of(i..i + 1)?)?;
        }
    }
    Ok(())
}
/// The row of each row's sequence.
fn spread(d: &Device, y: View<'_>, seqs: &[Seq], rows: usize, to: &mut Buffer) -> Result<()> {
    let mut index = vec![0u32; rows];
    for (i, s) in seqs.iter().enumerate() {
        index[s.start..s.start + s.len].fill(i as u32);
    }
    let index = d.upload(Class::Scratch, &index)?;
    Ok(gather::rows(d, Matrix::from(y), &index, ViewMut::of(to, rows, y.cols())?, false)?)
}
/// 1 over the rows of a sequence; 0 for one without rows, whose mean is 0.
fn share(s: &Seq) -> f32 {
    if s.len == 0 { 0.0 } else { 1.0 / s.len as f32 }
}

impl<'m> Cx<'m> {
    /// The mean of each sequence's rows: (T, C) to (sequences, C), packed as sequences of one row.
    pub fn sequence_means(&mut self, x: &Act) -> Result<Act> {
        let (n, cols) = (x.seqs.len(), x.cols);
        let mut y = self.alloc(n * cols)?;
        sums(self.device(), x.view()?, &x.seqs, share, &mut y)?;
        let one = |(i, s): (usize, &Seq)| Seq { start: i, len: 1, extra: 0, first: 0, ..s.clone() };
        let y = Act::new(y, cols, x.seqs.iter().enumerate().map(one).collect())?;
        if !self.needed(&[x.node], &[]) {
            return Ok(y);
        }
        Ok(self.record(y, Means { seqs: x.seqs.clone(), shape: (x.rows, cols), x: x.node }))
    }
    /// Row i of x, (sequences, C), for every row of sequence i of `like`: (T, C), packed as `like`.
    pub fn to_rows(&mut self, x: &Act, like: &Act) -> Result<Act> {
        if x.rows != like.seqs.len() {
            return Err(Error::Shape { op: "to_rows", left: vec![x.rows], right: vec![like.seqs.len()] });
        }
        let mut y = self.alloc(like.rows * x.cols)?;
        spread(self.device(), x.view()?, &like.seqs, like.rows, &mut y)?;
        let y = like.like(y, x.cols);
        if !self.needed(&[x.node], &[]) {
            return Ok(y);
        }
        let op = ToRows { seqs: like.seqs.clone(), rows: like.rows, cols: x.cols, x: x.node };
        Ok(self.record(y, op))
    }
}
impl<'m> Backward<'m> for Means {
    fn name(&self) -> &'static str {
        "sequence_means"
    }
    fn saved(&self) -> usize {
        0
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let (n, (rows, cols)) = (self.seqs.len(), self.shape);
        let mut part = cx.alloc(n * cols)?;
        for (i, s) in self.seqs.iter().enumerate() {
            let to = ViewMut::of(&mut part, n, cols)?.rows_of(i..i + 1)?;
            elementwise::copy(cx.device(), View::of(&dy, n, cols)?.rows_of(i..i + 1)?, to)?;
            let to = ViewMut::of(&mut part, n, cols)?.rows_of(i..i + 1)?;
            elementwise::scale(cx.device(), share(s), to)?;
        }
        let mut dx = cx.alloc(rows * cols)?;
        spread(cx.device(), View::of(&part, n, cols)?, &self.seqs, rows, &mut dx)?;
        g.node(self.x, Arc::new(dx))
    }
}
impl<'m> Backward<'m> for ToRows {
    fn name(&self) -> &'static str {
        "to_rows"
    }
    fn saved(&self) -> usize {
        0
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let mut dx = cx.alloc(self.seqs.len() * self.cols)?;
        sums(cx.device(), View::of(&dy, self.rows, self.cols)?, &self.seqs, |_| 1.0, &mut dx)?;
        g.node(self.x, Arc::new(dx))
    }
}
