//! AdamW over trained weights.
use crate::{Error, Gradients, Param, Parameters, Result};
use engraft_kernels::{Buffer, Class, adamw, profile::Mark};
use std::collections::{BTreeMap, btree_map::Entry};

/// AdamW with decoupled weight decay (Loshchilov & Hutter 2019). It takes [`Param`]s; a frozen weight cannot reach it:
///
/// ```compile_fail
/// # use engraft_engine::*;
/// fn step(o: &mut AdamW, w: &mut Frozen, g: &Gradients) {
///     let _ = o.step_one(w, g, 1e-3, 1.0); // a `Frozen` is not a `Param`
/// }
/// ```
/// ```
/// # use engraft_engine::*;
/// fn step(o: &mut AdamW, w: &mut Param, g: &Gradients) {
///     let _ = o.step_one(w, g, 1e-3, 1.0);
/// }
/// ```
#[derive(Debug)]
pub struct AdamW {
    beta1: f64,
    beta2: f64,
    eps: f64,
    weight_decay: f64,
    steps: u64,
    state: BTreeMap<usize, (Buffer, Buffer)>,
}
impl Default for AdamW {
    fn default() -> AdamW {
        AdamW::new(0.01)
    }
}

impl AdamW {
    /// β₁ 0.9, β₂ 0.999, ε 1e-8; the decay is for the weights that [`Param::decays`] says decay.
    pub fn new(weight_decay: f64) -> AdamW {
        AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay, steps: 0, state: BTreeMap::new() }
    }
    /// Other decays of the mean and of the mean square, and another ε.
    pub fn with(self, beta1: f64, beta2: f64, eps: f64) -> AdamW {
        AdamW { beta1, beta2, eps, ..self }
    }
    /// One step of all weights inside `of` that have a gradient. `grad_scale` is multiplied into the gradients first
    /// (averaging over accumulated batches, clipping).
    pub fn step(
        &mut self,
        of: &mut [&mut dyn Parameters],
        g: &Gradients,
        lr: f64,
        grad_scale: f64,
    ) -> Result<()> {
        let mut params = vec![];
        for p in of {
            p.visit_mut(&mut |p| params.push(p));
        }
        self.apply(params, g, lr, grad_scale)
    }
    /// One step of a single weight.
    pub fn step_one(&mut self, p: &mut Param, g: &Gradients, lr: f64, grad_scale: f64) -> Result<()> {
        self.apply(vec![p], g, lr, grad_scale)
    }
    fn apply(&mut self, params: Vec<&mut Param>, g: &Gradients, lr: f64, grad_scale: f64) -> Result<()> {
        self.steps += 1;
        let Some(device) = g.device() else { return Ok(()) };
        let _span = device.mark(Mark::Phase("optimiser"));
        let with_gradient: Vec<_> = params.into_iter().filter_map(|p| Some((g.get(p)?, p))).collect();
        for (g, p) in &with_gradient {
            if let Entry::Vacant(e) = self.state.entry(p.slot()) {
                let zeros = || device.zeros::<f32>(Class::Optim, g.len());
                e.insert((zeros()?, zeros()?));
            }
        }
        let mut state: BTreeMap<usize, _> = self.state.iter_mut().map(|(slot, mv)| (*slot, mv)).collect();
        let mut parts = Vec::with_capacity(with_gradient.len());
        for (g, p) in with_gradient {
            let weight_decay = if p.decays() { self.weight_decay } else { 0.0 };
            let Some((m, v)) = state.remove(&p.slot()) else {
                return Err(Error::Slot { name: p.name().into() });
            };
            parts.push(adamw::Part { w: p.buffer_mut(), g, m, v, weight_decay });
        }
        let (beta1, beta2, eps, t) = (self.beta1, self.beta2, self.eps, self.steps);
        let s = adamw::Step { lr, beta1, beta2, eps, t, grad_scale };
        Ok(adamw::step(device, s, &mut parts)?)
    }
}

/// What to multiply gradients with so that their norm is at most `max`: min(1, max / (norm + 1e-6)), as
/// `torch.nn.utils.clip_grad_norm_`. A `max` of 0 clips nothing.
pub fn clip_factor(norm: f64, max: f64) -> f64 {
    if max > 0.0 { (max / (norm + 1e-6)).min(1.0) } else { 1.0 }
}
