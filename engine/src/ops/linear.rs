//! y = x Wᵀ + b. A frozen W saves nothing: dx = dy W. A trained W keeps x: dW = dyᵀ x, db = Σ dy.
use crate::{Act, Backward, Cx, Error, Grads, LinearRef, Result, kept::Kept, tape::NodeId};
use engraft_kernels::{Buffer, matmul, reduce};
use std::sync::Arc;

struct Op<'m> {
    w: LinearRef<'m>,
    kept: Option<Kept>,
    rows: usize,
    x: Option<NodeId>,
}

impl<'m> Cx<'m> {
    /// The plain linear layer: x (T, in) to (T, out).
    pub fn matmul(&mut self, x: &Act, w: LinearRef<'m>) -> Result<Act> {
        let ((input, output), m) = (w.dims(), x.rows);
        if x.cols != input {
            return Err(Error::Shape {
                op: "linear",
                left: vec![m, x.cols],
                right: w.w.tensor.shape().to_vec(),
            });
        }
        let mut y = self.alloc(m * output)?;
        let bias = w.b.map(|b| b.tensor.buffer());
        let go = if w.in_out { matmul::times } else { matmul::times_transposed };
        go(self.device(), &x.buf, m, w.w.tensor.matrix(), bias, &mut y)?;
        let y = x.like(y, output);
        if !self.needed(&[x.node], &[w.w.slot, w.b.and_then(|b| b.slot)]) {
            return Ok(y);
        }
        let kept = w.w.slot.map(|_| self.keep(&x.buf)).transpose()?;
        Ok(self.record(y, Op { w, kept, rows: m, x: x.node }))
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
        if self.x.is_some() {
            let mut dx = cx.alloc(m * input)?;
            let go = if self.w.in_out { matmul::times_transposed } else { matmul::times };
            go(cx.device(), &dy, m, self.w.w.tensor.matrix(), None, &mut dx)?;
            drop(dy);
            g.node(self.x, Arc::new(dx))?;
        }
        Ok(())
    }
}
