//! The sum of rows of several tables: word, position and token-type embeddings.
use crate::{
    Act, Backward, Cx, Error, Grads, Result, Seq, W,
    tape::{NodeId, owned},
};
use engraft_kernels::{Buffer, Class, View, ViewMut, gather};
use std::sync::Arc;

struct Op<'m> {
    tables: Vec<(W<'m>, Buffer)>,
    x: Option<NodeId>,
}
impl<'m> Cx<'m> {
    /// Row t is the sum over the tables of the row that `index[t]` names. Each index holds one
    /// number for every row that `seqs` packs.
    pub fn embed(&mut self, tables: &[(W<'m>, &[u32])], seqs: Arc<[Seq]>) -> Result<Act> {
        let cols = tables.first().map_or(0, |(w, _)| w.dims().1);
        let rows = seqs.iter().map(|s| s.start + s.len).max().unwrap_or(0);
        let y = Act::new(self.alloc(rows * cols)?, cols, seqs)?;
        self.gathered(y, tables, false)
    }
    /// Row t of x (T, C) plus the row of each table that `index[t]` names. x is written over if
    /// nobody else has it.
    pub fn embed_onto(&mut self, x: Act, tables: &[(W<'m>, &[u32])]) -> Result<Act> {
        self.gathered(x, tables, true)
    }
    fn gathered(&mut self, x: Act, tables: &[(W<'m>, &[u32])], onto: bool) -> Result<Act> {
        let Act { buf, rows, cols, node, seqs, .. } = x;
        let (mut y, mut kept) = (owned(buf)?, vec![]);
        for (i, (w, index)) in tables.iter().enumerate() {
            if index.len() != rows || w.dims().1 != cols {
                return Err(Error::Shape {
                    op: "embed",
                    left: vec![rows, cols],
                    right: vec![index.len(), w.dims().1],
                });
            }
            let index = self.device().upload(Class::Scratch, index)?;
            let to = ViewMut::of(&mut y, rows, cols)?;
            gather::rows(self.device(), w.matrix(), &index, to, onto || i > 0)?;
            if w.target().is_some() {
                kept.push((w.clone(), index));
            }
        }
        let y = Act::new(y, cols, seqs)?;
        if !self.needed(&[node], &kept.iter().map(|(w, _)| w.target()).collect::<Vec<_>>()) {
            return Ok(y);
        }
        kept.iter().for_each(|(_, i)| i.set_class(Class::Saved));
        Ok(self.record(y, Op { tables: kept, x: node }))
    }
}
impl<'m> Backward<'m> for Op<'m> {
    fn name(&self) -> &'static str {
        "embed"
    }
    fn saved(&self) -> usize {
        self.tables.iter().map(|(_, i)| i.bytes()).sum()
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, _: &mut Cx<'m>) -> Result<()> {
        for (w, index) in &self.tables {
            g.weight(w.target(), w.elements(), |d, b, acc| {
                if !acc {
                    b.clear()?;
                }
                let (rows, cols) = w.dims();
                Ok(gather::scatter(d, View::of(&dy, index.len(), cols)?, index, ViewMut::of(b, rows, cols)?)?)
            })?;
        }
        g.node(self.x, dy)
    }
}
