//! A weight's values as an activation, to be computed with: other weights are made of them. Keeps nothing.
use crate::{Act, Backward, Cx, Grads, Result, W, pack, weight::Target};
use engraft_kernels::{Buffer, Class, View, ViewMut, elementwise, gather};
use std::sync::Arc;

struct Op(Target, usize);
impl<'m> Cx<'m> {
    /// The values of a weight in f32, (rows, cols): one row for a vector.
    pub fn values(&mut self, w: W<'m>) -> Result<Act> {
        if let W::Computed(x) = w {
            return Ok(x);
        }
        let (rows, cols) = w.dims();
        let index = self.device().upload(Class::Scratch, &(0..rows as u32).collect::<Vec<_>>())?;
        let mut y = self.alloc(rows * cols)?;
        gather::rows(self.device(), w.matrix(), &index, ViewMut::of(&mut y, rows, cols)?, false)?;
        let y = Act::new(y, cols, pack([rows]))?;
        let target = w.target();
        if !self.needed(&[], &[target]) {
            return Ok(y);
        }
        Ok(self.record(y, Op(target, rows * cols)))
    }
}
impl<'m> Backward<'m> for Op {
    fn name(&self) -> &'static str {
        "values"
    }
    fn saved(&self) -> usize {
        0
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, _: &mut Cx<'m>) -> Result<()> {
        g.weight(self.0, self.1, |d, to, acc| {
            let dy = View::row(&dy);
            match acc {
                true => Ok(elementwise::axpy(d, 1.0, dy, ViewMut::row(to))?),
                false => Ok(elementwise::copy(d, dy, ViewMut::row(to))?),
            }
        })
    }
}
