//! What a layer keeps for the backward pass is a policy: everything in f32, everything rounded to
//! bf16, or nothing but its input.
//!
//! A segment is a piece of a model that keeps its input only. Going forward nothing in it is
//! recorded; one node stands for all of it. When the backward pass reaches that node, everything
//! above has been consumed, so the segment is computed again from its input *on the same tape*, at
//! the very height where it stood: operations below it keep their numbers and get their gradients
//! as ever. The same operations run in the same order on the same numbers (dropout is a function of
//! pass, site and row), so the gradients are those of a pass that keeps everything, bit by bit.
use crate::{Act, Activations, Backward, Cx, Grads, Keep, Result};
use engraft_kernels::{Buffer, Class};
use std::sync::Arc;

impl<'m> Cx<'m> {
    /// The same pass with another policy for what its layers keep; without it they keep f32.
    pub fn with_activations(mut self, policy: &Activations) -> Cx<'m> {
        self.keeping.policy = policy.clone();
        self
    }
    /// Layer `l` of a model: f(x), x being the residual stream in front of it. It keeps what
    /// the policy says.
    pub fn layer(
        &mut self,
        l: usize,
        x: Act,
        f: impl Fn(&mut Cx<'m>, Act) -> Result<Act> + 'm,
    ) -> Result<Act> {
        let before = self.device().ledger().usage().live(Class::Saved);
        let y = match self.keeping.policy.of(l) {
            Keep::F32 => f(self, x),
            Keep::Bf16 => {
                self.keeping.rounds = true;
                let y = f(self, x);
                self.keeping.rounds = false;
                self.keeping.rounded.clear();
                y
            }
            Keep::Recompute => self.segment(x, f),
        }?;
        let kept = self.device().ledger().usage().live(Class::Saved).saturating_sub(before);
        let by_layer = &mut self.keeping.by_layer;
        by_layer.resize(by_layer.len().max(l + 1), 0);
        by_layer[l] += kept;
        Ok(y)
    }
    /// Bytes by layer that the forward pass has kept: what the ledger's `saved` grew by while the
    /// layer ran. If several passes run on one device at the same time, theirs are counted too.
    pub fn kept_by_layer(&self) -> &[usize] {
        &self.keeping.by_layer
    }
    /// f(x), of which only x is kept: the backward pass computes f(x) again. `f` must do the same
    /// each time. If it would record nothing, x is not kept and nothing is recorded.
    pub fn segment(&mut self, x: Act, f: impl Fn(&mut Cx<'m>, Act) -> Result<Act> + 'm) -> Result<Act> {
        if self.keeping.skipping {
            return f(self, x); // inside another one, which is computed again as a whole
        }
        self.keeping.skipping = true;
        self.keeping.skipped.set(false);
        let y = f(self, x.clone());
        self.keeping.skipping = false;
        let y = y?;
        if !self.keeping.skipped.get() {
            return Ok(y);
        }
        x.hold();
        let x = x.with_quantized(None); // rounded again when it is read again
        Ok(self.record(y, Replay { x, f }))
    }
}

struct Replay<F> {
    x: Act,
    f: F,
}
impl<'m, F: Fn(&mut Cx<'m>, Act) -> Result<Act>> Backward<'m> for Replay<F> {
    fn name(&self) -> &'static str {
        "segment"
    }
    fn saved(&self) -> usize {
        self.x.buf.bytes()
    }
    fn run(self: Box<Self>, dy: Arc<Buffer>, g: &mut Grads<'_>, cx: &mut Cx<'m>) -> Result<()> {
        let Replay { x, f } = *self;
        cx.turn("recompute");
        let y = f(cx, x)?;
        cx.turn("backward");
        g.node(y.node, dy)
    }
}
