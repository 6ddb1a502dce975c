//! y = x Wᵀ + b, perhaps added to a residual. A frozen W saves nothing: dx = dy W. A trained W keeps x: dW = dyᵀ x, db = Σ dy.
//!
//! A frozen W may be held in 8-bit integers; then x, and dy if [`Compute`] says so, are rounded too, for each token. The
//! scales of W's rows are factors of the result where rows are its columns, and of what is rounded where they are summed over.
use crate::{Act, Backward, Compute, Cx, Error, Grads, LinearRef, Result, kept::Kept, tape::NodeId};
use engraft_kernels::{
    Buffer, Class, elementwise,
    matmul::{self, Onto, Plus},
    matmul_int8::{self, Rows},
    reduce,
};
use std::sync::Arc;

struct Op<'m> {
    w: LinearRef<'m>,
    kept: Option<Kept>,
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
            return Err(Error::Shape {
                op: "linear",
                left: vec![m, x.cols],
                right: w.w.tensor.shape().to_vec(),
            });
        }
        if let Some(r) = r.filter(|r| (r.rows, r.cols) != (m, output)) {
            return Err(Error::Shape { op: "linear", left: vec![m, output], right: vec![r.rows, r.cols] });
        }
        let mut y = self.alloc(m * output)?;
        let bias = w.b.map(|b| b.tensor.buffer());
        if let Some(integers) = w.w.tensor.integers() {
            if w.in_out {
                let q = self.quantize(&x.buf, (m, input), Some(integers.scales))?;
                matmul_int8::times(self.device(), &q, integers, bias, &mut y)?;
            } else {
                let q = self.quantized(x)?;
                matmul_int8::times_transposed(self.device(), q, integers, bias, &mut y)?;
            }
            if let Some(r) = r {
                elementwise::axpy(self.device(), 1.0, &r.buf, &mut y)?;
            }
        } else {
            let plus = Plus { bias, onto: r.map_or(Onto::Nothing, |r| Onto::Rows(&r.buf)) };
            let go = if w.in_out { matmul::times } else { matmul::times_transposed };
            go(self.device(), &x.buf, m, w.w.tensor.matrix(), plus, &mut y)?;
        }
        let y = x.like(y, output);
        let residual = r.and_then(|r| r.node);
        if !self.needed(&[x.node, residual], &[w.w.slot, w.b.and_then(|b| b.slot)]) {
            return Ok(y);
        }
        let kept = w.w.slot.map(|_| self.keep(&x.buf)).transpose()?;
        Ok(self.record(y, Op { w, kept, rows: m, x: x.node, residual }))
    }
    /// x in 8 bits, once for all that read it.
    fn quantized<'a>(&self, x: &'a Act) -> Result<&'a Rows> {
        if let Some(q) = x.quantized.get() {
            return Ok(q);
        }
        let q = self.quantize(&x.buf, (x.rows, x.cols), None)?;
        Ok(x.quantized.get_or_init(|| q))
    }
    fn quantize(&self, x: &Buffer, (rows, cols): (usize, usize), by: Option<&Buffer>) -> Result<Rows> {
        let mut q = self.rows(rows, cols)?;
        matmul_int8::quantize_rows(self.device(), x, by, &mut q)?;
        Ok(q)
    }
    /// Room for values in 8 bits.
    pub(crate) fn rows(&self, rows: usize, cols: usize) -> Result<Rows> {
        Ok(Rows::alloc(self.device(), Class::Scratch, rows, cols)?)
    }
}
impl<'m> Backward<'m> for Op<'m> {
    fn name(&self) -> &'static str {
        "linear"
    }
    fn saved(&self) -> usize {
        self.kept.as_ref().map_or(0, |k| k.bytes())
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let ((input, output), m) = (self.w.dims(), self.rows);
        if let Some(x) = &self.kept {
            let x = x.get()?;
            g.param(self.w.w.slot, input * output, |d, b, acc| {
                let (left, right) = if self.w.in_out {
                    ((&*x, input), (&*dy, output))
                } else {
                    ((&*dy, output), (&*x, input))
                };
                Ok(matmul::transposed_times(d, left.0, left.1, right.0, right.1, m, b, acc)?)
            })?;
        }
        g.param(self.w.b.and_then(|b| b.slot), output, |d, b, acc| {
            Ok(reduce::column_sums(d, &dy, m, output, b, acc)?)
        })?;
        match self.w.w.tensor.integers() {
            Some(integers) if self.w.w.tensor.compute() == Compute::Int8 => {
                if self.x.is_some() {
                    let mut dx = cx.alloc(m * input)?;
                    let q = cx.quantize(&dy, (m, output), (!self.w.in_out).then_some(integers.scales))?;
                    let go = if self.w.in_out { matmul_int8::times_transposed } else { matmul_int8::times };
                    go(cx.device(), &q, integers, None, &mut dx)?;
                    g.node(self.x, Arc::new(dx))?;
                }
            }
            _ => {
                let go = if self.w.in_out { matmul::times_transposed } else { matmul::times };
                let w = self.w.w.tensor.matrix();
                g.node_plus(self.x, m * input, |d, plus, dx| Ok(go(d, &dy, m, w, plus, dx)?))?;
            }
        }
        g.node(self.residual, dy)
    }
}
