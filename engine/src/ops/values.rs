//! A weight's values, or a part of them, as an activation, to be computed with: other weights are
//! made of them. Keeps nothing.
use crate::{Act, Backward, Cx, Error, Grads, Result, W, pack, weight::Target};
use engraft_kernels::{Buffer, Class, Storage, View, ViewMut, elementwise, gather};
use std::{ops::Range, sync::Arc};

struct Op(Target, usize);
struct Part {
    to: Target,
    shape: (usize, usize),
    rows: Range<usize>,
    cols: Range<usize>,
}
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
    /// Some rows and columns of a weight in f32, whose values are taken for a matrix (rows, cols).
    pub fn part(&mut self, w: &W<'m>, shape: (usize, usize), [rows, cols]: [Range<usize>; 2]) -> Result<Act> {
        if shape.0 * shape.1 != w.elements() {
            return Err(Error::Shape { op: "part", left: vec![shape.0, shape.1], right: w.shape() });
        }
        let all = self.decoded(w)?;
        let from = View::of(all.as_ref().unwrap_or(w.buffer()), shape.0, shape.1)?;
        let from = from.rows_of(rows.clone())?.cols_of(cols.clone())?;
        let mut y = self.alloc(rows.len() * cols.len())?;
        elementwise::copy(self.device(), from, ViewMut::of(&mut y, rows.len(), cols.len())?)?;
        let y = Act::new(y, cols.len(), pack([rows.len()]))?;
        if !self.needed(&[], &[w.target()]) {
            return Ok(y);
        }
        Ok(self.record(y, Part { to: w.target(), shape, rows, cols }))
    }
    /// The values of a weight, if they are not stored in f32.
    pub(super) fn decoded(&self, w: &W<'m>) -> Result<Option<Buffer>> {
        if w.storage() == Storage::F32 {
            return Ok(None);
        }
        let (rows, cols) = w.dims();
        let index = self.device().upload(Class::Scratch, &(0..rows as u32).collect::<Vec<_>>())?;
        let mut y = self.alloc(rows * cols)?;
        gather::rows(self.device(), w.matrix(), &index, ViewMut::of(&mut y, rows, cols)?, false)?;
        Ok(Some(y))
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
impl<'m> Backward<'m> for Part {
    fn name(&self) -> &'static str {
        "part"
    }
    fn saved(&self) -> usize {
        0
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, _: &mut Cx<'m>) -> Result<()> {
        let Part { to, shape, rows, cols } = *self;
        let dy = View::of(&dy, rows.len(), cols.len())?;
        g.weight(to, shape.0 * shape.1, |d, all, acc| {
            if !acc {
                all.clear()?;
            }
            let part = ViewMut::of(all, shape.0, shape.1)?.rows_of(rows)?.cols_of(cols)?;
            Ok(elementwise::axpy(d, 1.0, dy, part)?)
        })
    }
}
