//! y = x Wᵀ + b, perhaps added to a residual. A frozen W saves nothing: dx = dy W. A trained W
//! keeps x: dW = dyᵀ x, db = Σ dy.
//!
//! Products with a frozen W may be computed in 8-bit integers ([`Compute`]); then x, or dy, is
//! rounded for each token. The scales of W's rows are factors of the result where rows are its
//! columns, and of what is rounded where they are summed over.
use crate::{Act, Backward, Compute, Cx, Error, Grads, LinearRef, Result, saved::SavedValues, tape::NodeId};
use engraft_kernels::{
    Buffer, Class, Device, View, ViewMut,
    matmul::{self, Base, Plus},
    matmul_int8::{self, QuantizedRows},
    reduce,
};
use std::sync::Arc;

struct Op<'m> {
    w: LinearRef<'m>,
    saved: Option<SavedValues>,
    rows: usize,
    x: Option<NodeId>,
    residual: Option<NodeId>,
}

impl<'m> Cx<'m> {
    /// The plain linear layer: x (T, in) to (T, out).
    pub fn matmul(&mut self, x: &Act, w: LinearRef<'m>) -> Result<Act> {
        self.matmul_onto(x, w, None)
    }
    /// r + x Wᵀ + b, in one pass: r (T, out).
    pub fn matmul_plus(&mut self, x: &Act, w: LinearRef<'m>, r: &Act) -> Result<Act> {
        self.matmul_onto(x, w, Some(r))
    }
    fn matmul_onto(&mut self, x: &Act, w: LinearRef<'m>, r: Option<&Act>) -> Result<Act> {
        let ((input, output), m) = (w.dims(), x.rows);
        if x.cols != input {
            return Err(Error::Shape { op: "linear", left: vec![m, x.cols], right: w.w.shape() });
        }
        if let Some(r) = r.filter(|r| (r.rows, r.cols) != (m, output)) {
            return Err(Error::Shape { op: "linear", left: vec![m, output], right: vec![r.rows, r.cols] });
        }
        let mut y = self.alloc(m * output)?;
        let plus = Plus {
            bias: w.b.as_ref().map(|b| b.buffer()),
            base: match r {
                Some(r) => Base::Rows(r.view()?),
                None => Base::Nothing,
            },
        };
        let to = ViewMut::of(&mut y, m, output)?;
        let (d, matrix) = (self.device(), w.w.matrix());
        match w.w.integers() {
            Some(scales) if w.in_out => {
                let q = quantize(d, x.view()?, Some(scales))?;
                matmul_int8::times(d, &q, matrix, plus, to)?;
            }
            Some(_) => matmul_int8::times_transposed(d, x.quantized(d)?, matrix, plus, to)?,
            None => {
                let go = if w.in_out { matmul::times } else { matmul::times_transposed };
                go(d, x.view()?, matrix, plus, to)?;
            }
        }
        let y = x.like(y, output);
        let residual = r.and_then(|r| r.node);
        if !self.needed(&[x.node, residual], &w.targets()) {
            return Ok(y);
        }
        let saved = if w.w.target().is_some() { Some(self.save_for_backward(&x.buf)?) } else { None };
        w.w.hold();
        Ok(self.record(y, Op { w, saved, rows: m, x: x.node, residual }))
    }
}
impl Op<'_> {
    /// dx = dy W + ..
    fn input_gradient(&self, d: &Device, dy: View<'_>, plus: Plus<'_>, dx: ViewMut<'_>) -> Result<()> {
        let (in_out, w) = (self.w.in_out, &self.w.w);
        match w.integers().filter(|_| w.compute() == Compute::Int8) {
            Some(scales) => {
                let q = quantize(d, dy, (!in_out).then_some(scales))?;
                let go = if in_out { matmul_int8::times_transposed } else { matmul_int8::times };
                go(d, &q, w.matrix(), plus, dx)?;
            }
            None => {
                let go = if in_out { matmul::times_transposed } else { matmul::times };
                go(d, dy, w.matrix(), plus, dx)?;
            }
        }
        Ok(())
    }
}
/// Room for values in 8 bits.
pub(super) fn rows(d: &Device, (rows, cols): (usize, usize)) -> Result<QuantizedRows> {
    Ok(QuantizedRows::alloc(d, Class::Scratch, rows, cols)?)
}
fn quantize(d: &Device, x: View<'_>, by: Option<&Buffer>) -> Result<QuantizedRows> {
    let mut q = rows(d, (x.rows(), x.cols()))?;
    matmul_int8::quantize_rows(d, x, by, &mut q)?;
    Ok(q)
}
impl Act {
    /// The values in 8 bits, rounded once for all that read them.
    fn quantized(&self, d: &Device) -> Result<&QuantizedRows> {
        if let Some(q) = self.quantized.get() {
            return Ok(q);
        }
        let q = quantize(d, self.view()?, None)?;
        Ok(self.quantized.get_or_init(|| q))
    }
}
impl<'m> Backward<'m> for Op<'m> {
    fn name(&self) -> &'static str {
        "linear"
    }
    fn saved(&self) -> usize {
        self.saved.as_ref().map_or(0, |k| k.bytes())
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, _: &mut Cx<'m>) -> Result<()> {
        let ((input, output), m) = (self.w.dims(), self.rows);
        if let Some(x) = &self.saved {
            let x = x.get()?;
            g.weight(self.w.w.target(), input * output, |d, b, acc| {
                let (x, dy) = (View::of(&x, m, input)?, View::of(&dy, m, output)?);
                let (left, right) = if self.w.in_out { (x, dy) } else { (dy, x) };
                let to = ViewMut::of(b, left.cols(), right.cols())?;
                Ok(matmul::transposed_times(d, left, right, to, acc)?)
            })?;
        }
        g.weight(self.w.bias_target(), output, |d, b, acc| {
            Ok(reduce::column_sums(d, View::of(&dy, m, output)?, ViewMut::row(b), acc)?)
        })?;
        let rows = View::of(&dy, m, output)?;
        g.node_plus(self.x, (m, input), |d, plus, dx| self.input_gradient(d, rows, plus, dx))?;
        g.node(self.residual, dy)
    }
}
