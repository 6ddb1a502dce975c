//! Columns of an activation by themselves, and several activations beside each
//! other. Keeps nothing.
use crate::{Act, Backward, Cx, Error, Grads, Result, tape::NodeId};
use engraft_kernels::{Buffer, View, ViewMut, elementwise};
use std::{ops::Range, sync::Arc};

struct Slice {
    columns: Range<usize>,
    rows: usize,
    cols: usize,
    x: Option<NodeId>,
}
struct Beside {
    parts: Vec<(Option<NodeId>, Range<usize>)>,
    rows: usize,
    cols: usize,
}
impl<'m> Cx<'m> {
    /// Some columns of x (T, C).
    pub fn take_columns(&mut self, x: &Act, columns: Range<usize>) -> Result<Act> {
        let from = x.view()?.cols_of(columns.clone())?;
        let mut y = self.alloc(x.rows * columns.len())?;
        elementwise::copy(self.device(), from, ViewMut::of(&mut y, x.rows, columns.len())?)?;
        let y = x.like(y, columns.len());
        if !self.needed(&[x.node], &[]) {
            return Ok(y);
        }
        Ok(self.record(y, Slice { columns, rows: x.rows, cols: x.cols, x: x.node }))
    }
    /// The columns of several activations with the same rows, one beside the other, packed as the
    /// first: (T, C₁ + C₂ + ..).
    pub fn join_columns(&mut self, parts: &[&Act]) -> Result<Act> {
        let Some(first) = parts.first() else {
            return Err(Error::Shape { op: "join_columns", left: vec![], right: vec![] });
        };
        let (rows, cols) = (first.rows, parts.iter().map(|p| p.cols).sum());
        let (mut y, mut columns, mut at) = (self.alloc(rows * cols)?, vec![], 0);
        for x in parts {
            if x.rows != rows {
                let (left, right) = (vec![rows, first.cols], vec![x.rows, x.cols]);
                return Err(Error::Shape { op: "join_columns", left, right });
            }
            let to = at..at + x.cols;
            at = to.end;
            elementwise::copy(
                self.device(),
                x.view()?,
                ViewMut::of(&mut y, rows, cols)?.cols_of(to.clone())?,
            )?;
            columns.push((x.node, to));
        }
        let y = first.like(y, cols);
        if !self.needed(&parts.iter().map(|p| p.node).collect::<Vec<_>>(), &[]) {
            return Ok(y);
        }
        Ok(self.record(y, Beside { parts: columns, rows, cols }))
    }
}
impl<'m> Backward<'m> for Slice {
    fn name(&self) -> &'static str {
        "take_columns"
    }
    fn saved(&self) -> usize {
        0
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, _: &mut Cx<'m>) -> Result<()> {
        let Slice { columns, rows, cols, x } = *self;
        let dy = View::of(&dy, rows, columns.len())?;
        g.node_part(x, (rows, cols), |d, dx| Ok(elementwise::axpy(d, 1.0, dy, dx.cols_of(columns)?)?))
    }
}
impl<'m> Backward<'m> for Beside {
    fn name(&self) -> &'static str {
        "join_columns"
    }
    fn saved(&self) -> usize {
        0
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let dy = View::of(&dy, self.rows, self.cols)?;
        for (node, columns) in self.parts.into_iter().filter(|(node, _)| node.is_some()) {
            let (n, mut dx) = (columns.len(), cx.alloc(self.rows * columns.len())?);
            elementwise::copy(cx.device(), dy.cols_of(columns)?, ViewMut::of(&mut dx, self.rows, n)?)?;
            g.node(node, Arc::new(dx))?;
        }
        Ok(())
    }
}
