//! Chosen rows of every sequence: the first token, the last one, those that carry a label.
use crate::{
    Act, Backward, Cx, Error, Grads, Result, Seq,
    tape::{NodeId, owned},
};
use engraft_kernels::{Buffer, Class, View, ViewMut, gather, matmul::Matrix};
use std::sync::Arc;

/// Which rows of each sequence are meant. Rows that are no tokens (prompts) are not counted, and
/// among them only as the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Rows {
    /// Those of all tokens.
    #[default]
    All,
    /// The first one: of a prompt, if there is one, as a classification with prompts reads it.
    /// See [`Seq::first`].
    First,
    /// That of the last token.
    Last,
    /// For each item of the batch these tokens, counted from 0 within its sequence.
    These(Arc<[Vec<usize>]>),
    /// For each item of the batch rows of a kind of its own.
    Each(Arc<[Rows]>),
}
impl Rows {
    /// Of how many items of the batch it is said.
    fn items(&self) -> usize {
        match self {
            Rows::All | Rows::First | Rows::Last => usize::MAX,
            Rows::These(all) => all.len(),
            Rows::Each(all) => all.iter().map(Rows::items).fold(all.len(), usize::min),
        }
    }
    /// The place in a sequence of the first of these rows, from which they follow one another; none
    /// where they need not.
    pub fn begin(&self, s: &Seq) -> Option<usize> {
        match self {
            Rows::All => Some(s.extra),
            Rows::First => Some(s.first),
            Rows::Last => Some(s.len.saturating_sub(1)),
            Rows::These(_) => None,
            Rows::Each(all) => all.get(s.item)?.begin(s),
        }
    }
    /// Whether the rows of every sequence follow one another.
    pub fn are_in_line(&self) -> bool {
        match self {
            Rows::All | Rows::First | Rows::Last => true,
            Rows::These(_) => false,
            Rows::Each(all) => all.iter().all(Rows::are_in_line),
        }
    }
    /// The rows of one sequence, as places among its rows.
    fn of(&self, s: &Seq) -> Vec<usize> {
        let tokens = s.extra.min(s.len)..s.len;
        match self {
            Rows::All => tokens.collect(),
            Rows::First => (s.first..s.len).take(1).collect(),
            Rows::Last => tokens.rev().take(1).collect(),
            Rows::These(rows) => rows.get(s.item).into_iter().flatten().map(|t| tokens.start + t).collect(),
            Rows::Each(rows) => rows.get(s.item).map(|rows| rows.of(s)).unwrap_or_default(),
        }
    }
}

impl Rows {
    /// The numbers of the rows of x, and how they are packed.
    fn index(&self, op: &'static str, x: &Act) -> Result<(Vec<u32>, Vec<Seq>)> {
        let (mut index, mut seqs): (Vec<u32>, Vec<Seq>) = (vec![], vec![]);
        for s in x.seqs.iter() {
            let start = index.len();
            for place in self.of(s) {
                if place >= s.len {
                    return Err(Error::Shape { op, left: vec![s.len], right: vec![place] });
                }
                index.push((s.start + place) as u32);
            }
            seqs.push(Seq { start, len: index.len() - start, extra: 0, first: 0, ..s.clone() });
        }
        Ok((index, seqs))
    }
}

struct Added {
    index: Buffer,
    rows: usize,
    cols: usize,
    nodes: [Option<NodeId>; 2],
}
struct Op {
    op: &'static str,
    index: Buffer,
    rows: usize,
    cols: usize,
    x: Option<NodeId>,
}
impl<'m> Cx<'m> {
    /// These rows of every sequence of x (T, C), packed in the same order: (chosen rows, C). A
    /// sequence none of whose rows are chosen stays, with no rows. Where every row is chosen x is
    /// given back as it is.
    pub fn take_rows(&mut self, x: &Act, rows: &Rows) -> Result<Act> {
        let items = rows.items();
        if let Some(s) = x.seqs.iter().find(|s| s.item >= items) {
            return Err(Error::Shape { op: "take_rows", left: vec![s.item], right: vec![items] });
        }
        let (index, seqs) = rows.index("take_rows", x)?;
        self.take_indexed("take_rows", x, &index, seqs)
    }
    /// x (T, C) with `y` added to these rows of its sequences, packed as [`Cx::take_rows`] packs
    /// them. x is written over if nobody else has it.
    pub fn add_rows(&mut self, x: Act, y: &Act, rows: &Rows) -> Result<Act> {
        let (index, _) = rows.index("add_rows", &x)?;
        if (index.len(), x.cols) != (y.rows, y.cols) {
            return Err(Error::Shape {
                op: "add_rows",
                left: vec![index.len(), x.cols],
                right: vec![y.rows, y.cols],
            });
        }
        let Act { buf, rows, cols, node, seqs, .. } = x;
        let (index, mut sum) = (self.device().upload(Class::Scratch, &index)?, owned(buf)?);
        gather::scatter(self.device(), y.view()?, &index, ViewMut::of(&mut sum, rows, cols)?)?;
        let sum = Act::new(sum, cols, seqs)?;
        if !self.needed(&[node, y.node], &[]) {
            return Ok(sum);
        }
        index.set_class(Class::Saved);
        Ok(self.record(sum, Added { index, rows, cols, nodes: [node, y.node] }))
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
impl<'m> Backward<'m> for Added {
    fn name(&self) -> &'static str {
        "add_rows"
    }
    fn saved(&self) -> usize {
        self.index.bytes()
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let [x, y] = self.nodes;
        if y.is_some() {
            let (n, all) = (self.index.len(), Matrix::plain(&dy, self.rows, self.cols));
            let mut d = cx.alloc(n * self.cols)?;
            gather::rows(cx.device(), all, &self.index, ViewMut::of(&mut d, n, self.cols)?, false)?;
            g.node(y, Arc::new(d))?;
        }
        g.node(x, dy)
    }
}
