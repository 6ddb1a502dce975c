//! Plain gradient descent over trained weights.
use crate::{Gradients, Norms, Parameters, Result, optim::clip_factor};
use engraft_kernels::{View, ViewMut, elementwise};

/// w ← w - lr g for every weight that has a gradient; it remembers nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sgd {
    clip: f64,
}

impl Sgd {
    /// Gradients of each group are clipped to this norm; 0 clips nothing.
    pub fn clipping(clip: f64) -> Sgd {
        Sgd { clip }
    }
    /// One step of all weights inside `of` that have a gradient; `norms` are those of the gradients,
    /// for clipping: [`Gradients::norms`] of the same weights.
    pub fn step(&self, of: &mut [&mut dyn Parameters], g: &Gradients, norms: &Norms, lr: f64) -> Result<()> {
        let mut done = Ok(());
        for p in of {
            p.visit_mut(&mut |p| {
                let Some(dw) = g.get(p) else { return };
                let by = -lr * clip_factor(norms.of(p.role().group), self.clip);
                let to = p.buffer_mut();
                let step = elementwise::axpy(dw.device(), by as f32, View::row(dw), ViewMut::row(to));
                if done.is_ok() {
                    done = step;
                }
            });
        }
        Ok(done?)
    }
}
