//! y = f(x W_dᵀ + b_d) W_uᵀ + b_u, perhaps added to a residual: the two layers of a bottleneck as
//! one operation, or those of several bottlenecks, each for rows of its own. It keeps a = x W_dᵀ +
//! b_d, which is narrow, and x if W_d trains. With h = f(a), computed again where W_u trains:
//!
//! ```text
//! da = (dy W_u) f'(a)    dx = da W_d    dW_u = dyᵀ h    db_u = Σ dy    dW_d = daᵀ x    db_d = Σ da
//! ```
use crate::{Act, Backward, Cx, Error, Grads, LinearRef, Result, W, pack, saved::SavedValues, tape::NodeId};
use engraft_kernels::{
    Buffer, Class, View, ViewMut,
    activation::{self, Activation},
    bottleneck::{self, Bottleneck},
    matmul::{self, Base, Plus},
    reduce,
};
use std::{ops::Range, sync::Arc};

/// A bottleneck of some rows of a batch.
#[derive(Clone, Debug)]
pub struct RowsBottleneck<'m> {
    /// Which rows.
    pub rows: Range<usize>,
    /// C to B.
    pub down: LinearRef<'m>,
    /// The non-linearity.
    pub f: Activation,
    /// B to C.
    pub up: LinearRef<'m>,
}
impl RowsBottleneck<'_> {
    /// True if [`Cx::bottlenecks`] takes it: its weights are stored (out, in).
    pub fn is_plain(&self) -> bool {
        plain(&self.down) && plain(&self.up)
    }
}

struct Op<'m> {
    parts: Vec<Part<'m>>,
    /// (rows, channels) of x.
    shape: (usize, usize),
    saved: Option<SavedValues>,
    x: Option<NodeId>,
    residual: Option<NodeId>,
}
struct Part<'m> {
    of: RowsBottleneck<'m>,
    a: SavedValues,
}

impl<'m> Cx<'m> {
    /// f(x W_dᵀ + b_d) W_uᵀ + b_u [+ r]: x (T, C) through `down` (C to B) and `up` (B
    /// to C), r (T, C).
    pub fn bottleneck(
        &mut self,
        x: &Act,
        down: LinearRef<'m>,
        f: Activation,
        up: LinearRef<'m>,
        r: Option<&Act>,
    ) -> Result<Act> {
        let of = RowsBottleneck { rows: 0..x.rows, down, f, up };
        if !of.is_plain() || of.down.dims() != (of.up.dims().1, of.up.dims().0) {
            let a = self.matmul(x, of.down)?;
            let h = self.activate(&a, f)?;
            return match r {
                Some(r) => self.matmul_plus(&h, of.up, r),
                None => self.matmul(&h, of.up),
            };
        }
        self.bottlenecks(x, vec![of], r)
    }
    /// The same in f32: what is stored otherwise is decoded, for as long as it is used.
    fn in_f32(&self, mut part: RowsBottleneck<'m>) -> Result<RowsBottleneck<'m>> {
        for layer in [&mut part.down, &mut part.up] {
            if let Some(values) = self.decoded(&layer.w)? {
                let (rows, cols) = layer.w.dims();
                layer.w = W::Computed(Act::of(values, (rows, cols), pack([rows])));
            }
        }
        Ok(part)
    }
    /// A bottleneck of its own for each of several ranges of rows, which follow each other: f(x
    /// W_dᵀ + b_d) W_uᵀ + b_u [+ r] in those rows, and r, or zeros, in others. All of them are
    /// plain ([`RowsBottleneck::is_plain`]).
    pub fn bottlenecks(&mut self, x: &Act, parts: Vec<RowsBottleneck<'m>>, r: Option<&Act>) -> Result<Act> {
        let c = x.cols;
        r.map_or(Ok(()), |r| x.same_shape("bottleneck", r))?;
        let mut end = 0;
        for p in &parts {
            let (input, width) = p.down.dims();
            let is_sound = p.is_plain() && (input, (width, c)) == (c, p.up.dims());
            if !is_sound || p.rows.start < end || p.rows.end < p.rows.start || p.rows.end > x.rows {
                let (left, right) = (vec![x.rows, x.cols], [p.down.w.shape(), p.up.w.shape()].concat());
                return Err(Error::Shape { op: "bottleneck", left, right });
            }
            end = p.rows.end;
        }
        let parts: Vec<_> = parts.into_iter().map(|p| self.in_f32(p)).collect::<Result<_>>()?;
        let covered: usize = parts.iter().map(|p| p.rows.len()).sum();
        let mut y = match r {
            _ if covered == x.rows => self.alloc(x.rows * c)?,
            Some(r) => r.buf.duplicate(Class::Scratch)?,
            None => self.device().zeros::<f32>(Class::Scratch, x.rows * c)?,
        };
        let mut hidden = vec![];
        for p in &parts {
            let (m, b) = (p.rows.len(), p.down.dims().1);
            let mut a = self.alloc(m * b)?;
            let base = match r {
                Some(r) => Base::Rows(r.view()?.rows_of(p.rows.clone())?),
                None => Base::Nothing,
            };
            let to = ViewMut::of(&mut y, x.rows, c)?.rows_of(p.rows.clone())?;
            let (w, read) = (launch(&p.down, p.f, &p.up)?, x.view()?.rows_of(p.rows.clone())?);
            bottleneck::forward(self.device(), w, read, base, ViewMut::of(&mut a, m, b)?, to)?;
            hidden.push(a);
        }
        let y = x.like(y, c);
        let residual = r.and_then(|r| r.node);
        let targets: Vec<_> =
            parts.iter().flat_map(|p| [p.down.targets(), p.up.targets()].concat()).collect();
        if !self.needed(&[x.node, residual], &targets) {
            return Ok(y);
        }
        let trains = parts.iter().any(|p| p.down.w.target().is_some());
        let mut kept_parts = vec![];
        for (of, a) in parts.into_iter().zip(hidden) {
            [&of.down, &of.up].iter().for_each(|w| w.w.hold());
            kept_parts.push(Part { a: self.save_for_backward(&Arc::new(a))?, of });
        }
        let saved = if trains { Some(self.save_for_backward(&x.buf)?) } else { None };
        Ok(self.record(y, Op { parts: kept_parts, shape: (x.rows, c), saved, x: x.node, residual }))
    }
}
/// Is this what the kernel reads, once it is decoded: stored (out, in)?
fn plain(w: &LinearRef<'_>) -> bool {
    w.w.integers().is_none() && !w.in_out
}
fn launch<'a>(down: &'a LinearRef<'_>, f: Activation, up: &'a LinearRef<'_>) -> Result<Bottleneck<'a>> {
    let (c, b) = down.dims();
    Ok(Bottleneck {
        down: View::of(down.w.buffer(), b, c)?,
        down_bias: down.b.as_ref().map(W::buffer),
        up: View::of(up.w.buffer(), c, b)?,
        up_bias: up.b.as_ref().map(W::buffer),
        f,
    })
}

impl<'m> Op<'m> {
    /// The gradients of one part.
    fn part(&self, p: &Part<'m>, dy: View<'_>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let (shape, range) = (self.shape, p.of.rows.clone());
        let (RowsBottleneck { down, f, up, .. }, (c, b), m) = (&p.of, p.of.down.dims(), range.len());
        let (rows, a) = (dy.rows_of(range.clone())?, p.a.get()?);
        if up.w.target().is_some() {
            let mut h = cx.alloc(m * b)?;
            activation::forward(cx.device(), *f, View::row(&a), ViewMut::row(&mut h))?;
            g.weight(up.w.target(), c * b, |d, to, acc| {
                let h = View::of(&h, m, b)?;
                Ok(matmul::transposed_times(d, rows, h, ViewMut::of(to, c, b)?, acc)?)
            })?;
        }
        g.weight(up.bias_target(), c, |d, to, acc| Ok(reduce::column_sums(d, rows, ViewMut::row(to), acc)?))?;
        if self.x.is_none() && !down.targets().iter().any(|t| t.is_some()) {
            return Ok(());
        }
        let mut da = cx.alloc(m * b)?;
        let w = launch(down, *f, up)?;
        let (a, to) = (View::of(&a, m, b)?, ViewMut::of(&mut da, m, b)?);
        match self.x {
            Some(_) if m == shape.0 => g.node_plus(self.x, shape, |d, plus, dx| {
                Ok(bottleneck::backward(d, w, a, rows, to, Some((plus, dx)))?)
            })?,
            Some(_) => g.node_part(self.x, shape, |d, dx| {
                let dx = dx.rows_of(range.clone())?;
                Ok(bottleneck::backward(d, w, a, rows, to, Some((Plus::OUTPUT, dx)))?)
            })?,
            None => bottleneck::backward(cx.device(), w, a, rows, to, None)?,
        }
        if let Some(x) = self.saved.as_ref().filter(|_| down.w.target().is_some()) {
            let x = x.get()?;
            let x = View::of(&x, shape.0, c)?.rows_of(range)?;
            g.weight(down.w.target(), b * c, |d, to, acc| {
                Ok(matmul::transposed_times(d, View::of(&da, m, b)?, x, ViewMut::of(to, b, c)?, acc)?)
            })?;
        }
        g.weight(down.bias_target(), b, |d, to, acc| {
            Ok(reduce::column_sums(d, View::of(&da, m, b)?, ViewMut::row(to), acc)?)
        })
    }
}
impl<'m> Backward<'m> for Op<'m> {
    fn name(&self) -> &'static str {
        "bottleneck"
    }
    fn saved(&self) -> usize {
        let narrow: usize = self.parts.iter().map(|p| p.a.bytes()).sum();
        narrow + self.saved.as_ref().map_or(0, |k| k.bytes())
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        // first: if x is the residual too, its gradient is then what the products are added to
        g.node(self.residual, dy.clone())?;
        let rows = View::of(&dy, self.shape.0, self.shape.1)?;
        self.parts.iter().try_for_each(|p| self.part(p, rows, g, cx))
    }
}
