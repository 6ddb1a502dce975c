//! y = f(x W_dᵀ + b_d) W_uᵀ + b_u, perhaps added to a residual: the two layers of a bottleneck as one operation. It keeps
//! a = x W_dᵀ + b_d, which is narrow, and x if W_d trains. With h = f(a), computed again where W_u trains:
//!
//! ```text
//! da = (dy W_u) f'(a)    dx = da W_d    dW_u = dyᵀ h    db_u = Σ dy    dW_d = daᵀ x    db_d = Σ da
//! ```
use crate::{Act, Backward, Cx, Error, Grads, LinearRef, Result, Storage, W, kept::Kept, tape::NodeId};
use engraft_kernels::{
    Buffer, View, ViewMut,
    activation::{self, Activation},
    bottleneck::{self, Bottleneck},
    matmul::{self, Base},
    reduce,
};
use std::sync::Arc;

struct Op<'m> {
    down: LinearRef<'m>,
    up: LinearRef<'m>,
    f: Activation,
    rows: usize,
    a: Kept,
    kept: Option<Kept>,
    x: Option<NodeId>,
    residual: Option<NodeId>,
}

impl<'m> Cx<'m> {
    /// f(x W_dᵀ + b_d) W_uᵀ + b_u [+ r]: x (T, C) through `down` (C to B) and `up` (B to C), r (T, C).
    pub fn bottleneck(
        &mut self,
        x: &Act,
        down: LinearRef<'m>,
        f: Activation,
        up: LinearRef<'m>,
        r: Option<&Act>,
    ) -> Result<Act> {
        if !(plain(&down) && plain(&up) && down.dims() == (up.dims().1, up.dims().0)) {
            let a = self.matmul(x, down)?;
            let h = self.activate(&a, f)?;
            return match r {
                Some(r) => self.matmul_plus(&h, up, r),
                None => self.matmul(&h, up),
            };
        }
        let (c, b) = down.dims();
        if x.cols != c {
            let right = down.w.shape();
            return Err(Error::Shape { op: "bottleneck", left: vec![x.rows, x.cols], right });
        }
        r.map_or(Ok(()), |r| x.same_shape("bottleneck", r))?;
        let mut a = self.alloc(x.rows * b)?;
        let mut y = self.alloc(x.rows * c)?;
        let base = match r {
            Some(r) => Base::Rows(r.view()?),
            None => Base::Nothing,
        };
        let to = (ViewMut::of(&mut a, x.rows, b)?, ViewMut::of(&mut y, x.rows, c)?);
        bottleneck::forward(self.device(), launch(&down, f, &up)?, x.view()?, base, to.0, to.1)?;
        let y = x.like(y, c);
        let residual = r.and_then(|r| r.node);
        if !self.needed(&[x.node, residual], &[down.targets(), up.targets()].concat()) {
            return Ok(y);
        }
        let a = self.keep(&Arc::new(a))?;
        let kept = if down.w.target().is_some() { Some(self.keep(&x.buf)?) } else { None };
        [&down, &up].iter().for_each(|w| w.w.hold());
        Ok(self.record(y, Op { down, up, f, rows: x.rows, a, kept, x: x.node, residual }))
    }
}
/// Is this what the kernel reads: f32, stored (out, in)?
fn plain(w: &LinearRef<'_>) -> bool {
    w.w.storage() == Storage::F32 && w.w.integers().is_none() && !w.in_out
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

impl<'m> Backward<'m> for Op<'m> {
    fn name(&self) -> &'static str {
        "bottleneck"
    }
    fn saved(&self) -> usize {
        self.a.bytes() + self.kept.as_ref().map_or(0, |k| k.bytes())
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let ((c, b), m, a) = (self.down.dims(), self.rows, self.a.get()?);
        let rows = View::of(&dy, m, c)?;
        if self.up.w.target().is_some() {
            let mut h = cx.alloc(m * b)?;
            activation::forward(cx.device(), self.f, View::row(&a), ViewMut::row(&mut h))?;
            g.weight(self.up.w.target(), c * b, |d, to, acc| {
                let h = View::of(&h, m, b)?;
                Ok(matmul::transposed_times(d, rows, h, ViewMut::of(to, c, b)?, acc)?)
            })?;
        }
        g.weight(self.up.bias_target(), c, |d, to, acc| {
            Ok(reduce::column_sums(d, View::of(&dy, m, c)?, ViewMut::row(to), acc)?)
        })?;
        // first: if x is the residual too, its gradient is then what the products are added to
        g.node(self.residual, dy.clone())?;
        if self.x.is_none() && !self.down.targets().iter().any(|t| t.is_some()) {
            return Ok(());
        }
        let mut da = cx.alloc(m * b)?;
        let w = launch(&self.down, self.f, &self.up)?;
        let (a, to) = (View::of(&a, m, b)?, ViewMut::of(&mut da, m, b)?);
        match self.x {
            Some(_) => g.node_plus(self.x, (m, c), |d, plus, dx| {
                Ok(bottleneck::backward(d, w, a, rows, to, Some((plus, dx)))?)
            })?,
            None => bottleneck::backward(cx.device(), w, a, rows, to, None)?,
        }
        if let Some(x) = &self.kept {
            let x = x.get()?;
            g.weight(self.down.w.target(), b * c, |d, to, acc| {
                let (da, x) = (View::of(&da, m, b)?, View::of(&x, m, c)?);
                Ok(matmul::transposed_times(d, da, x, ViewMut::of(to, b, c)?, acc)?)
            })?;
        }
        g.weight(self.down.bias_target(), b, |d, to, acc| {
            Ok(reduce::column_sums(d, View::of(&da, m, b)?, ViewMut::row(to), acc)?)
        })
    }
}
