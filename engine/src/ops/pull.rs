//! A quadratic pull of a weight w to where it stood at a, as strong in each direction as f says:
//!
//! ```text
//! y = 1/2 Σᵢ fᵢ (wᵢ - aᵢ)²        dw = f ∘ (w - a) dy
//! ```
//! Keeps f ∘ (w - a).
use crate::{Act, Backward, Cx, Error, Grads, Result, W, pack, weight::Target};
use engraft_kernels::{Buffer, Class, View, ViewMut, elementwise, reduce};
use std::sync::Arc;

struct Op {
    target: Target,
    /// f ∘ (w - a).
    slope: Buffer,
}
impl<'m> Cx<'m> {
    /// One number, 1/2 Σ f (w - a)² over all values of a weight that is held in f32. a and f have a
    /// value for each of them.
    pub fn pull(&mut self, w: &W<'m>, a: &Buffer, f: &Buffer) -> Result<Act> {
        let n = w.buffer().len();
        for other in [a, f] {
            if other.len() != n {
                return Err(Error::Shape { op: "pull", left: w.shape(), right: vec![other.len()] });
            }
        }
        let mut away = self.alloc(n)?;
        elementwise::copy(self.device(), View::row(w.buffer()), ViewMut::row(&mut away))?;
        elementwise::axpy(self.device(), -1.0, View::row(a), ViewMut::row(&mut away))?;
        let mut slope = self.alloc(n)?;
        elementwise::mul_row(self.device(), View::row(&away), f, ViewMut::row(&mut slope))?;
        let mut y = self.alloc(1)?;
        let (one, other) = (View::of(&slope, n, 1)?, View::of(&away, n, 1)?);
        reduce::column_dots(self.device(), one, other, ViewMut::row(&mut y), false)?;
        elementwise::scale(self.device(), 0.5, ViewMut::row(&mut y))?;
        let y = Act::new(y, 1, pack([1]))?;
        let target = w.target();
        if !self.needed(&[], &[target]) {
            return Ok(y);
        }
        slope.set_class(Class::Saved);
        Ok(self.record(y, Op { target, slope }))
    }
}
impl<'m> Backward<'m> for Op {
    fn name(&self) -> &'static str {
        "pull"
    }
    fn saved(&self) -> usize {
        self.slope.bytes()
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, _: &mut Cx<'m>) -> Result<()> {
        let n = self.slope.len();
        g.weight(self.target, n, |device, dw, accumulate| {
            // a column, every value of which is multiplied by the one of dy
            let mut d = device.alloc::<f32>(Class::Scratch, n)?;
            elementwise::mul_row(device, View::of(&self.slope, n, 1)?, &dy, ViewMut::of(&mut d, n, 1)?)?;
            match accumulate {
                true => Ok(elementwise::axpy(device, 1.0, View::row(&d), ViewMut::row(dw))?),
                false => Ok(elementwise::copy(device, View::row(&d), ViewMut::row(dw))?),
            }
        })
    }
}
