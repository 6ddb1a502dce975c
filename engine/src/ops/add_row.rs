//! y with a row added to some columns of every row: what a bias is more than another. Keeps which
//! rows there are.
use crate::{
    Act, Backward, Cx, Error, Grads, Result,
    tape::{NodeId, owned},
};
use engraft_kernels::{Buffer, Class, View, ViewMut, gather, matmul::Matrix, reduce};
use std::{ops::Range, sync::Arc};

struct Op {
    columns: Range<usize>,
    shape: (usize, usize),
    y: Option<NodeId>,
    v: Option<NodeId>,
}
impl<'m> Cx<'m> {
    /// y (T, C) plus v (1, columns) in these columns. y is written over if nobody else has it.
    pub fn add_row(&mut self, y: Act, v: &Act, columns: Range<usize>) -> Result<Act> {
        if (v.rows, v.cols) != (1, columns.len()) || columns.end > y.cols {
            let left = vec![y.rows, y.cols, columns.start, columns.end];
            return Err(Error::Shape { op: "add_row", left, right: vec![v.rows, v.cols] });
        }
        let Act { buf, rows, cols, node, seqs, .. } = y;
        let (d, mut sum) = (self.device().clone(), owned(buf)?);
        let first = d.upload(Class::Scratch, &vec![0u32; rows])?;
        let to = ViewMut::of(&mut sum, rows, cols)?.cols_of(columns.clone())?;
        gather::rows(&d, Matrix::from(v.view()?), &first, to, true)?;
        let sum = Act::of(sum, (rows, cols), seqs);
        if !self.needed(&[node, v.node], &[]) {
            return Ok(sum);
        }
        Ok(self.record(sum, Op { columns, shape: (rows, cols), y: node, v: v.node }))
    }
}
impl<'m> Backward<'m> for Op {
    fn name(&self) -> &'static str {
        "add_row"
    }
    fn saved(&self) -> usize {
        0
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let Op { columns, shape: (rows, cols), y, v } = *self;
        if v.is_some() {
            let mut dv = cx.alloc(columns.len())?;
            let of = View::of(&dy, rows, cols)?.cols_of(columns)?;
            reduce::column_sums(cx.device(), of, ViewMut::row(&mut dv), false)?;
            g.node(v, Arc::new(dv))?;
        }
        g.node(y, dy)
    }
}
