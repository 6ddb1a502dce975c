//! The end of a sub-layer: LayerNorm(h + r), or h + r, h dropped out on the way. Keeps the
//! normalised rows and 1/σ.
use super::linear;
use crate::{
    Act, Backward, Compute, Cx, Error, Grads, NormKind, NormRef, Pending, Result, W, saved::SavedValues,
    tape::NodeId,
};
use engraft_kernels::{
    Buffer, Class, View, ViewMut,
    dropout::Dropout,
    layernorm::{self, SavedNorm},
    reduce,
};
use std::sync::Arc;

struct Op<'m> {
    n: NormRef<'m>,
    normed: SavedValues,
    rstd: Buffer,
    rows: usize,
    cols: usize,
    dropout: Option<Dropout>,
    h: Option<NodeId>,
    r: Option<NodeId>,
}
fn launch<'a>(n: &'a NormRef<'_>, dropout: Option<Dropout>) -> layernorm::Norm<'a> {
    let (gamma, beta) = (n.w.buffer(), n.b.as_ref().map(W::buffer));
    layernorm::Norm { gamma, beta, eps: n.eps, centred: n.kind == NormKind::Layer, dropout }
}

impl<'m> Cx<'m> {
    /// norm(h + r), or h + r where there is no norm. (T, C)
    pub fn add_norm(&mut self, h: &Act, r: &Act, norm: Option<NormRef<'m>>) -> Result<Act> {
        h.same_shape("add_norm", r)?;
        match norm {
            Some(n) => self.normalise_sum(h, None, Some(r), n),
            None => self.add(h, r),
        }
    }
    /// norm(dropout(h) + r), in one pass; dropout(h) + r where there is no norm. (T, C)
    pub fn drop_add_norm(&mut self, h: Pending, r: &Act, norm: Option<NormRef<'m>>) -> Result<Act> {
        h.x.same_shape("drop_add_norm", r)?;
        match norm {
            Some(n) => self.normalise_sum(&h.x, h.how, Some(r), n),
            None => {
                let h = self.dropped(h)?;
                self.add(&h, r)
            }
        }
    }
    /// norm(x). (T, C)
    pub fn normalise(&mut self, x: &Act, n: NormRef<'m>) -> Result<Act> {
        self.normalise_sum(x, None, None, n)
    }
    /// norm of every head by itself: x (T, heads · d), n over d channels. (T, heads · d)
    pub fn normalise_heads(&mut self, x: &Act, n: NormRef<'m>) -> Result<Act> {
        let (rows, cols, d) = (x.rows, x.cols, n.w.elements());
        if d == 0 || !cols.is_multiple_of(d) {
            return Err(Error::Shape { op: "norm", left: vec![rows, cols], right: n.w.shape() });
        }
        let heads = Act { rows: rows * (cols / d), cols: d, ..x.clone() };
        let y = self.normalise_sum(&heads, None, None, n)?;
        // rounded to 8 bits they are rows of heads, and no layer reads those
        Ok(Act { rows, cols, ..y }.with_quantized(None))
    }
    fn normalise_sum(
        &mut self,
        h: &Act,
        dropout: Option<Dropout>,
        r: Option<&Act>,
        n: NormRef<'m>,
    ) -> Result<Act> {
        let (rows, cols) = (h.rows, h.cols);
        if n.w.elements() != cols {
            return Err(Error::Shape { op: "norm", left: vec![rows, cols], right: n.w.shape() });
        }
        let mut y = self.alloc(rows * cols)?;
        let (hn, rn) = (h.node, r.and_then(|r| r.node));
        let residual = r.map(Act::view).transpose()?;
        // integer products of the same model read what its norms give
        let mut q = match n.w.compute() {
            Compute::F32 => None,
            _ => Some(linear::rows(self.device(), (rows, cols))?),
        };
        let norm = launch(&n, dropout);
        let to = ViewMut::of(&mut y, rows, cols)?;
        if !self.needed(&[hn, rn], &n.targets()) {
            layernorm::forward_quantized(self.device(), h.view()?, residual, norm, to, None, q.as_mut())?;
            return Ok(h.like(y, cols).with_quantized(q));
        }
        let mut normed = self.alloc_saved(rows * cols)?;
        let mut rstd = self.device().alloc::<f32>(Class::Saved, rows)?;
        let saved = SavedNorm { normed: ViewMut::of(&mut normed, rows, cols)?, rstd: &mut rstd };
        layernorm::forward_quantized(self.device(), h.view()?, residual, norm, to, Some(saved), q.as_mut())?;
        let normed = self.save_for_backward(&Arc::new(normed))?;
        let y = h.like(y, cols).with_quantized(q);
        n.w.hold();
        Ok(self.record(y, Op { n, normed, rstd, rows, cols, dropout, h: hn, r: rn }))
    }
}
impl<'m> Backward<'m> for Op<'m> {
    fn name(&self) -> &'static str {
        "norm"
    }
    fn saved(&self) -> usize {
        self.normed.bytes() + self.rstd.bytes()
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let (rows, cols, normed) = (self.rows, self.cols, self.normed.get()?);
        let normed = View::of(&normed, rows, cols)?;
        let [weight, bias] = self.n.targets();
        let gradient = View::of(&dy, rows, cols)?;
        g.weight(weight, cols, |d, b, acc| {
            Ok(reduce::column_dots(d, gradient, normed, ViewMut::row(b), acc)?)
        })?;
        g.weight(bias, cols, |d, b, acc| Ok(reduce::column_sums(d, gradient, ViewMut::row(b), acc)?))?;
        if self.h.is_some() || self.r.is_some() {
            let mut ds = cx.alloc(rows * cols)?;
            // where h was dropped out, its gradient is another one
            let drops = self.h.and(self.dropout).is_some();
            let mut dh = if drops { Some(cx.alloc(rows * cols)?) } else { None };
            let norm = launch(&self.n, self.dropout);
            let to = ViewMut::of(&mut ds, rows, cols)?;
            let to_h = dh.as_mut().map(|dh| ViewMut::of(dh, rows, cols)).transpose()?;
            layernorm::backward(cx.device(), gradient, normed, &self.rstd, norm, to, to_h)?;
            drop(dy);
            let ds = Arc::new(ds);
            g.node(self.h, dh.map_or_else(|| ds.clone(), Arc::new))?;
            g.node(self.r, ds)?;
        }
        Ok(())
    }
}
