//! Chosen rows of every sequence: the first token, the last one, those that carry a label.
use crate::{Act, Backward, Cx, Error, Grads, Result, Seq, tape::NodeId};
use engraft_kernels::{Buffer, Class, View, ViewMut, gather, matmul::Matrix};
use std::sync::Arc;

/// Which rows of each sequence are meant. Rows that are no tokens (prompts) are not counted, and among them only as the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Rows {
    /// Those of all tokens.
    #[default]
    All,
    /// The first one: of a prompt, if there is one, as a classification with prompts reads it. See [`Seq::first`].
    First,
    /// That of the last token.
    Last,
    /// For each item of the batch these tokens, counted from 0 within its sequence.
    These(Arc<[Vec<usize>]>),
}
impl Rows {
    /// The rows of one sequence, as places among its rows.
    fn of(&self, s: &Seq) -> Vec<usize> {
        let tokens = s.extra.min(s.len)..s.len;
        match self {
            Rows::All => tokens.collect(),
            Rows::First => (s.first..s.len).take(1).collect(),
            Rows::Last => tokens.rev().take(1).collect(),
            Rows::These(rows) => rows.get(s.item).into_iter().flatten().map(|t| tokens.start + t).collect(),
        }
    }
}

struct Op {
    op: &'static str,
    index: Buffer,
    rows: usize,
    cols: usize,
    x: Option<NodeId>,
}
impl<'m> Cx<'m> {
    /// These rows of every sequence of x (T, C), packed in the same order: (chosen rows, C). A sequence none of whose rows are
    /// chosen stays, with no rows. Where every row is chosen x is given back as it is.
    pub fn take_rows(&mut self, x: &Act, rows: &Rows) -> Result<Act> {
        if let Rows::These(chosen) = rows
            && let Some(s) = x.seqs.iter().find(|s| s.item >= chosen.len())
        {
            return Err(Error::Shape { op: "take_rows", left: vec![s.item], right: vec![chosen.len()] });
        }
        let (mut index, mut seqs): (Vec<u32>, Vec<Seq>) = (vec![], vec![]);
        for s in x.seqs.iter() {
            let start = index.len();
            for place in rows.of(s) {
                if place >= s.len {
                    return Err(Error::Shape { op: "take_rows", left: vec![s.len], right: vec![place] });
                }
                index.push((s.start + place) as u32);
            }
            seqs.push(Seq { start, len: index.len() - start, extra: 0, first: 0, ..s.clone() });
        }
        self.take_indexed("take_rows", x, &index, seqs)
    }
    /// Rows of x by their numbers, packed as `seqs` say; x itself where that is every row in order.
    pub(super) fn take_indexed(
        &mut self,
        op: &'static str,
        x: &Act,
        index: &[u32],
        seqs: Vec<Seq>,
    ) -> Result<Act> {
        let in_order = || index.iter().enumerate().all(|(i, row)| i == *row as usize);
        if index.len() == x.rows && *x.seqs == *seqs && in_order() {
            return Ok(x.clone());
        }
        let rows = index.len();
        let index = self.device().upload(Class::Scratch, index)?;
        let mut y = self.alloc(rows * x.cols)?;
        let (table, to) = (Matrix::plain(&x.buf, x.rows, x.cols), ViewMut::of(&mut y, rows, x.cols)?);
        gather::rows(self.device(), table, &index, to, false)?;
        let y = Act::new(y, x.cols, seqs.into())?;
        if !self.needed(&[x.node], &[]) {
            return Ok(y);
        }
        index.set_class(Class::Saved);
        Ok(self.record(y, Op { op, index, rows: x.rows, cols: x.cols, x: x.node }))
    }
}
impl<'m> Backward<'m> for Op {
    fn name(&self) -> &'static str {
        self.op
    }
    fn saved(&self) -> usize {
        self.index.bytes()
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, _: &mut Cx<'m>) -> Result<()> {
        let (rows, cols) = (self.rows, self.cols);
        let dy = View::of(&dy, self.index.len(), cols)?;
        g.node_part(self.x, (rows, cols), |d, dx| Ok(gather::scatter(d, dy, &self.index, dx)?))
    }
}
