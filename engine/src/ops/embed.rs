//! The sum of rows of several tables: word, position and token-type embeddings.
use crate::{Act, Backward, Cx, Error, Grads, Result, Seq, W};
use engraft_kernels::{Buffer, Class, View, ViewMut, gather};
use std::sync::Arc;

struct Op<'m> {
    tables: Vec<(W<'m>, Buffer)>,
}
impl<'m> Cx<'m> {
    /// Row t is the sum over the tables of the row that `index[t]` names. Each index holds one number for every row that
    /// `seqs` packs.
    pub fn embed(&mut self, tables: &[(W<'m>, &[u32])], seqs: Arc<[Seq]>) -> Result<Act> {
        let cols = tables.first().map_or(0, |(w, _)| w.dims().1);
        let rows = seqs.iter().map(|s| s.start + s.len).max().unwrap_or(0);
        let mut y = self.alloc(rows * cols)?;
        let mut saved = vec![];
        for (i, (w, index)) in tables.iter().enumerate() {
            if index.len() != rows || w.dims().1 != cols {
                return Err(Error::Shape {
                    op: "embed",
                    left: vec![rows, cols],
                    right: vec![index.len(), w.dims().1],
                });
            }
            let index = self.device().upload(Class::Scratch, index)?;
            gather::rows(self.device(), w.matrix(), &index, ViewMut::of(&mut y, rows, cols)?, i > 0)?;
            if w.target().is_some() {
                saved.push((w.clone(), index));
            }
        }
        let y = Act::new(y, cols, seqs)?;
        if !self.needed(&[], &saved.iter().map(|(w, _)| w.target()).collect::<Vec<_>>()) {
            return Ok(y);
        }
        saved.iter().for_each(|(_, i)| i.set_class(Class::Saved));
        Ok(self.record(y, Op { tables: saved }))
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
        Ok(())
    }
}
