//! What mixes several outputs of each token: dot products of groups of columns, weights for groups,
//! and a softmax over them. See [`engraft_kernels::mixture`] for the formulas.
use crate::{Act, Backward, Cx, Grads, Result, saved::SavedValues, tape::NodeId};
use engraft_kernels::{Buffer, View, ViewMut, mixture};
use std::sync::Arc;

struct Dots {
    widths: Arc<[usize]>,
    /// a and b, each if the other one has a gradient.
    saved: [Option<SavedValues>; 2],
    rows: usize,
    nodes: [Option<NodeId>; 2],
}
struct Spread {
    widths: Arc<[usize]>,
    /// x, if p has a gradient; p, if x has one.
    saved: [Option<SavedValues>; 2],
    rows: usize,
    nodes: [Option<NodeId>; 2],
}
struct Softmax {
    p: SavedValues,
    shape: (usize, usize),
    stride: usize,
    s: Option<NodeId>,
}

impl<'m> Cx<'m> {
    /// For each group of columns, `widths` of them side by side, the dot product of a's and b's:
    /// (T, C) to (T, groups).
    pub fn group_dots(&mut self, a: &Act, b: &Act, widths: &Arc<[usize]>) -> Result<Act> {
        a.same_shape("group_dots", b)?;
        let (rows, groups) = (a.rows, widths.len());
        let mut s = self.alloc(rows * groups)?;
        mixture::dots(self.device(), a.view()?, b.view()?, widths, ViewMut::of(&mut s, rows, groups)?)?;
        let s = a.like(s, groups);
        let nodes = [a.node, b.node];
        if !self.needed(&nodes, &[]) {
            return Ok(s);
        }
        let saved = self.save_both([a, b])?;
        Ok(self.record(s, Dots { widths: widths.clone(), saved, rows, nodes }))
    }
    /// The columns of x times the weight p of their group: x (T, C), p (T, groups). (T, C)
    pub fn spread(&mut self, x: &Act, p: &Act, widths: &Arc<[usize]>) -> Result<Act> {
        let mut y = self.alloc(x.rows * x.cols)?;
        let to = ViewMut::of(&mut y, x.rows, x.cols)?;
        mixture::spread(self.device(), x.view()?, p.view()?, widths, to)?;
        let (y, nodes) = (x.like(y, x.cols), [x.node, p.node]);
        if !self.needed(&nodes, &[]) {
            return Ok(y);
        }
        let saved = self.save_both([x, p])?;
        Ok(self.record(y, Spread { widths: widths.clone(), saved, rows: x.rows, nodes }))
    }
    /// The softmax of s over every `stride`-th column, for each of the first `stride`: over all of
    /// them where it is 1. (T, groups)
    pub fn softmax(&mut self, s: &Act, stride: usize) -> Result<Act> {
        let shape = (s.rows, s.cols);
        let mut p = self.alloc(s.buf.len())?;
        mixture::softmax(self.device(), s.view()?, stride, ViewMut::of(&mut p, shape.0, shape.1)?)?;
        let p = s.like(p, s.cols);
        if !self.needed(&[s.node], &[]) {
            return Ok(p);
        }
        let saved = self.save_for_backward(&p.buf)?;
        Ok(self.record(p, Softmax { p: saved, shape, stride, s: s.node }))
    }
    /// Of two factors each one, if the other has a gradient.
    fn save_both(&mut self, [a, b]: [&Act; 2]) -> Result<[Option<SavedValues>; 2]> {
        let first = if b.node.is_some() { Some(self.save_for_backward(&a.buf)?) } else { None };
        let second = if a.node.is_some() { Some(self.save_for_backward(&b.buf)?) } else { None };
        Ok([first, second])
    }
}
fn bytes(saved: &[Option<SavedValues>; 2]) -> usize {
    saved.iter().flatten().map(SavedValues::bytes).sum()
}
impl<'m> Backward<'m> for Dots {
    fn name(&self) -> &'static str {
        "group_dots"
    }
    fn saved(&self) -> usize {
        bytes(&self.saved)
    }
    fn run(self: Box<Self>, ds: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let (rows, cols) = (self.rows, self.widths.iter().sum());
        let ds = View::of(&ds, rows, self.widths.len())?;
        let [a, b] = &self.saved;
        for (node, other) in self.nodes.into_iter().zip([b, a]) {
            let (Some(_), Some(other)) = (node, other) else { continue };
            let (other, mut d) = (other.get()?, cx.alloc(rows * cols)?);
            let to = ViewMut::of(&mut d, rows, cols)?;
            mixture::spread(cx.device(), View::of(&other, rows, cols)?, ds, &self.widths, to)?;
            g.node(node, Arc::new(d))?;
        }
        Ok(())
    }
}
impl<'m> Backward<'m> for Spread {
    fn name(&self) -> &'static str {
        "spread"
    }
    fn saved(&self) -> usize {
        bytes(&self.saved)
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let (rows, cols, groups) = (self.rows, self.widths.iter().sum(), self.widths.len());
        let dy = View::of(&dy, rows, cols)?;
        let ([x, p], [of_x, of_p]) = (&self.saved, self.nodes);
        if let (Some(_), Some(x)) = (of_p, x) {
            let (x, mut dp) = (x.get()?, cx.alloc(rows * groups)?);
            let to = ViewMut::of(&mut dp, rows, groups)?;
            mixture::dots(cx.device(), dy, View::of(&x, rows, cols)?, &self.widths, to)?;
            g.node(of_p, Arc::new(dp))?;
        }
        if let (Some(_), Some(p)) = (of_x, p) {
            let (p, mut dx) = (p.get()?, cx.alloc(rows * cols)?);
            let to = ViewMut::of(&mut dx, rows, cols)?;
            mixture::spread(cx.device(), dy, View::of(&p, rows, groups)?, &self.widths, to)?;
            g.node(of_x, Arc::new(dx))?;
        }
        Ok(())
    }
}
impl<'m> Backward<'m> for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }
    fn saved(&self) -> usize {
        self.p.bytes()
    }
    fn run(self: Box<Self>, dp: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let ((rows, groups), p) = (self.shape, self.p.get()?);
        let mut ds = cx.alloc(rows * groups)?;
        let (dp, p) = (View::of(&dp, rows, groups)?, View::of(&p, rows, groups)?);
        mixture::softmax_backward(cx.device(), dp, p, self.stride, ViewMut::of(&mut ds, rows, groups)?)?;
        g.node(self.s, Arc::new(ds))
    }
}
