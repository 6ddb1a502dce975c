//! Sums and products: y = a + b, y = s x, y = x ∘ v for a trained row v.
use crate::{
    Act, Backward, Cx, Error, Grads, Result, W,
    saved::SavedValues,
    tape::{NodeId, owned},
};
use engraft_kernels::{Buffer, Class, View, ViewMut, elementwise, reduce};
use std::sync::Arc;

struct Add(Option<NodeId>, Option<NodeId>);
struct Scale(f32, Option<NodeId>);
struct MulRow<'m> {
    v: W<'m>,
    saved: Option<SavedValues>,
    rows: usize,
    cols: usize,
    x: Option<NodeId>,
}

impl<'m> Cx<'m> {
    /// a + b. (T, C)
    pub fn add(&mut self, a: &Act, b: &Act) -> Result<Act> {
        a.same_shape("add", b)?;
        let mut y = self.alloc(a.buf.len())?;
        elementwise::add(self.device(), a.view()?, b.view()?, ViewMut::of(&mut y, a.rows, a.cols)?)?;
        let y = a.like(y, a.cols);
        if !self.needed(&[a.node, b.node], &[]) {
            return Ok(y);
        }
        Ok(self.record(y, Add(a.node, b.node)))
    }
    /// s x. (T, C)
    pub fn scale(&mut self, x: Act, s: f32) -> Result<Act> {
        let Act { buf, rows, cols, node, seqs, .. } = x;
        let mut y = owned(buf)?;
        elementwise::scale(self.device(), s, ViewMut::row(&mut y))?;
        let y = Act::of(y, (rows, cols), seqs);
        if !self.needed(&[node], &[]) {
            return Ok(y);
        }
        Ok(self.record(y, Scale(s, node)))
    }
    /// Every row of x times v: a value for each channel, or one for all. (T, C)
    pub fn mul_row(&mut self, x: &Act, v: W<'m>) -> Result<Act> {
        let n = v.elements();
        if n != 1 && n != x.cols {
            return Err(Error::Shape { op: "mul_row", left: vec![x.rows, x.cols], right: v.shape() });
        }
        let mut y = self.alloc(x.buf.len())?;
        elementwise::mul_row(self.device(), x.view()?, v.buffer(), ViewMut::of(&mut y, x.rows, x.cols)?)?;
        let y = x.like(y, x.cols);
        if !self.needed(&[x.node], &[v.target()]) {
            return Ok(y);
        }
        let saved = if v.target().is_some() { Some(self.save_for_backward(&x.buf)?) } else { None };
        v.hold();
        Ok(self.record(y, MulRow { v, saved, rows: x.rows, cols: x.cols, x: x.node }))
    }
}
impl<'m> Backward<'m> for Add {
    fn name(&self) -> &'static str {
        "add"
    }
    fn saved(&self) -> usize {
        0
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, _: &mut Cx<'m>) -> Result<()> {
        g.node(self.0, dy.clone())?;
        g.node(self.1, dy)
    }
}
impl<'m> Backward<'m> for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }
    fn saved(&self) -> usize {
        0
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let mut d = owned(dy)?;
        elementwise::scale(cx.device(), self.0, ViewMut::row(&mut d))?;
        g.node(self.1, Arc::new(d))
    }
}
impl<'m> Backward<'m> for MulRow<'m> {
    fn name(&self) -> &'static str {
        "mul_row"
    }
    fn saved(&self) -> usize {
        self.saved.as_ref().map_or(0, |k| k.bytes())
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let (v, rows, cols) = (self.v.buffer(), self.rows, self.cols);
        if let Some(x) = &self.saved {
            let x = x.get()?;
            let (dy, x) = (View::of(&dy, rows, cols)?, View::of(&x, rows, cols)?);
            g.weight(self.v.target(), v.len(), |d, b, acc| match v.len() {
                1 => {
                    // one number for all channels: the dot product of all elements is that of the
                    // columns' sums with ones
                    let mut columns = d.alloc::<f32>(Class::Scratch, cols)?;
                    reduce::column_dots(d, dy, x, ViewMut::row(&mut columns), false)?;
                    Ok(reduce::column_sums(d, View::of(&columns, cols, 1)?, ViewMut::row(b), acc)?)
                }
                _ => Ok(reduce::column_dots(d, dy, x, ViewMut::row(b), acc)?),
            })?;
        }
        if self.x.is_some() {
            let mut dx = cx.alloc(dy.len())?;
            let to = ViewMut::of(&mut dx, rows, cols)?;
            elementwise::mul_row(cx.device(), View::of(&dy, rows, cols)?, v, to)?;
            g.node(self.x, Arc::new(dx))?;
        }
        Ok(())
    }
}
