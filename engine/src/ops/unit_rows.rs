//! Rows of length 1: y = x / ‖x‖, row by row; a row of zeros stays. Keeps y and the lengths.
//!
//! ```text
//! dx = (dy - y Σ y dy) / ‖x‖
//! ```
use crate::{
    Act, Backward, Cx, Grads, Result,
    saved::SavedValues,
    tape::{NodeId, owned},
};
use engraft_kernels::{Buffer, Class, View, ViewMut, elementwise, mixture};
use std::sync::Arc;

struct Op {
    y: SavedValues,
    /// 1 / ‖x‖, (rows).
    inverse: Buffer,
    shape: (usize, usize),
    x: Option<NodeId>,
}
impl<'m> Cx<'m> {
    /// Every row of x (T, C) divided by its length √ Σ x², where that is not 0. (T, C)
    pub fn unit_rows(&mut self, x: &Act) -> Result<Act> {
        let (d, shape) = (self.device().clone(), (x.rows, x.cols));
        let (mut squares, mut y) = (self.alloc(x.rows)?, self.alloc(x.buf.len())?);
        mixture::dots(&d, x.view()?, x.view()?, &[x.cols], ViewMut::of(&mut squares, x.rows, 1)?)?;
        let inverse = |x: f32| if x == 0.0 { 0.0 } else { x.sqrt().recip() };
        let inverse: Vec<f32> = squares.read::<f32>()?.into_iter().map(inverse).collect();
        let inverse = d.upload(Class::Scratch, &inverse)?;
        let to = ViewMut::of(&mut y, x.rows, x.cols)?;
        mixture::spread(&d, x.view()?, View::of(&inverse, x.rows, 1)?, &[x.cols], to)?;
        let y = x.like(y, x.cols);
        if !self.needed(&[x.node], &[]) {
            return Ok(y);
        }
        inverse.set_class(Class::Saved);
        let saved = self.save_for_backward(&y.buf)?;
        Ok(self.record(y, Op { y: saved, inverse, shape, x: x.node }))
    }
}
impl<'m> Backward<'m> for Op {
    fn name(&self) -> &'static str {
        "unit_rows"
    }
    fn saved(&self) -> usize {
        self.y.bytes() + self.inverse.bytes()
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let (d, (rows, cols)) = (cx.device().clone(), self.shape);
        let (y, mut along, mut part) = (self.y.get()?, cx.alloc(rows)?, cx.alloc(rows * cols)?);
        let y = View::of(&y, rows, cols)?;
        mixture::dots(&d, View::of(&dy, rows, cols)?, y, &[cols], ViewMut::of(&mut along, rows, 1)?)?;
        let to = ViewMut::of(&mut part, rows, cols)?;
        mixture::spread(&d, y, View::of(&along, rows, 1)?, &[cols], to)?;
        let mut across = owned(dy)?;
        elementwise::axpy(&d, -1.0, View::row(&part), ViewMut::row(&mut across))?;
        let to = ViewMut::of(&mut part, rows, cols)?;
        let inverse = View::of(&self.inverse, rows, 1)?;
        mixture::spread(&d, View::of(&across, rows, cols)?, inverse, &[cols], to)?;
        g.node(self.x, Arc::new(part))
    }
}
