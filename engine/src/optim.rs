//! AdamW over trained weights.
use crate::{Error, Gradients, Group, Norms, Param, Parameters, Result, Role};
use engraft_kernels::{Buffer, Class, Device, adamw, profile::Mark};
use std::collections::{BTreeMap, btree_map::Entry};

/// AdamW with decoupled weight decay (Loshchilov & Hutter 2019). It takes [`Param`]s; a frozen
/// weight cannot reach it:
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
    rule: Rule,
    groups: BTreeMap<Group, Rule>,
    state: BTreeMap<usize, State>,
}
/// How the weights of a group are updated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// Multiplied into the learning rate of a step.
    pub rate: f64,
    /// For the weights whose [`Role`] says that they decay.
    pub weight_decay: f64,
    /// The norm to which the group's gradients are clipped, all of them together; 0 clips nothing.
    pub clip: f64,
}
impl Default for Rule {
    fn default() -> Rule {
        Rule { rate: 1.0, weight_decay: 0.0, clip: 0.0 }
    }
}
/// What is remembered of one weight.
#[derive(Debug)]
struct State {
    mean: Buffer,
    square: Buffer,
    /// Steps that the weight has taken: its own, since it may have come later than others
    /// or sit out a step.
    steps: u64,
}
/// What is remembered of a weight, to be saved.
#[derive(Clone, Copy, Debug)]
pub struct Moments<'a> {
    /// The mean of its gradients.
    pub mean: &'a Buffer,
    /// The mean of their squares.
    pub square: &'a Buffer,
    /// Steps that the weight has taken.
    pub steps: u64,
}
impl Default for AdamW {
    fn default() -> AdamW {
        AdamW::new(0.01)
    }
}

impl AdamW {
    /// β₁ 0.9, β₂ 0.999, ε 1e-8; the decay is for the weights whose [`Role`] says that they decay.
    /// Nothing is clipped.
    pub fn new(weight_decay: f64) -> AdamW {
        AdamW::of(Rule { weight_decay, ..Rule::default() })
    }
    /// The same with another rule for all weights.
    pub fn of(rule: Rule) -> AdamW {
        let (groups, state) = (BTreeMap::new(), BTreeMap::new());
        AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, rule, groups, state }
    }
    /// Other decays of the mean and of the mean square, and another ε.
    pub fn with(self, beta1: f64, beta2: f64, eps: f64) -> AdamW {
        AdamW { beta1, beta2, eps, ..self }
    }
    /// Gradients of each group are clipped to this norm, unless the group has a rule of its own;
    /// 0 clips nothing.
    pub fn clipping(mut self, clip: f64) -> AdamW {
        self.rule.clip = clip;
        self
    }
    /// A rule of its own for a group.
    pub fn with_group(mut self, group: Group, rule: Rule) -> AdamW {
        self.groups.insert(group, rule);
        self
    }
    /// The rule of a group.
    pub fn rule(&self, group: Group) -> Rule {
        self.groups.get(&group).copied().unwrap_or(self.rule)
    }
    /// One step of all weights inside `of` that have a gradient. `scale` is multiplied into the
    /// gradients first (averaging over what was summed); `norms` are those of the gradients as they
    /// are, for clipping: [`Gradients::norms`] of the same weights.
    pub fn step(
        &mut self,
        of: &mut [&mut dyn Parameters],
        g: &Gradients,
        norms: &Norms,
        lr: f64,
        scale: f64,
    ) -> Result<()> {
        let mut params = vec![];
        for p in of {
            p.visit_mut(&mut |p| params.push(p));
        }
        self.apply(params, g, norms, lr, scale)
    }
    /// One step of a single weight, without clipping.
    pub fn step_one(&mut self, p: &mut Param, g: &Gradients, lr: f64, scale: f64) -> Result<()> {
        self.apply(vec![p], g, &Norms::default(), lr, scale)
    }
    /// What is remembered of a weight; nothing before its first step.
    pub fn moments(&self, p: &Param) -> Option<Moments<'_>> {
        let s = self.state.get(&p.slot())?;
        Some(Moments { mean: &s.mean, square: &s.square, steps: s.steps })
    }
    /// Goes on from what was remembered of a weight after so many steps: the mean of its gradients
    /// and that of their squares.
    pub fn remember(&mut self, p: &Param, moments: [&[f32]; 2], steps: u64, device: &Device) -> Result<()> {
        let elements = p.tensor().elements();
        if let Some(other) = moments.iter().find(|values| values.len() != elements) {
            return Err(Error::Shape { op: "adamw", left: vec![elements], right: vec![other.len()] });
        }
        let [mean, square] = moments.map(|values| device.upload(Class::Optim, values));
        self.state.insert(p.slot(), State { mean: mean?, square: square?, steps });
        Ok(())
    }
    fn apply(
        &mut self,
        params: Vec<&mut Param>,
        g: &Gradients,
        norms: &Norms,
        lr: f64,
        scale: f64,
    ) -> Result<()> {
        let Some(device) = g.device() else { return Ok(()) };
        let _span = device.mark(Mark::Phase("optimiser"));
        let with_gradient: Vec<_> = params.into_iter().filter_map(|p| Some((g.get(p)?, p))).collect();
        for (g, p) in &with_gradient {
            if let Entry::Vacant(e) = self.state.entry(p.slot()) {
                let zeros = || device.zeros::<f32>(Class::Optim, g.len());
                e.insert(State { mean: zeros()?, square: zeros()?, steps: 0 });
            }
        }
        let (beta1, beta2, eps) = (self.beta1, self.beta2, self.eps);
        let (rule, groups) = (self.rule, &self.groups);
        let mut state: BTreeMap<usize, _> = self.state.iter_mut().map(|(slot, s)| (*slot, s)).collect();
        let mut parts = Vec::with_capacity(with_gradient.len());
        for (g, p) in with_gradient {
            let Some(s) = state.remove(&p.slot()) else {
                return Err(Error::Slot { name: p.name().into() });
            };
            s.steps += 1;
            let Role { decays, group } = p.role();
            let rule = groups.get(&group).copied().unwrap_or(rule);
            let step = adamw::Step {
                lr: lr * rule.rate,
                beta1,
                beta2,
                eps,
                t: s.steps,
                weight_decay: if decays { rule.weight_decay } else { 0.0 },
                grad_scale: scale * clip_factor(scale * norms.of(group), rule.clip),
            };
            let (w, m, v) = (p.buffer_mut(), &mut s.mean, &mut s.square);
            parts.push(adamw::Part { w, g, m, v, step });
        }
        Ok(adamw::step(device, &mut parts)?)
    }
}

/// What to multiply gradients with so that their norm is at most `max`: min(1, max / (norm +
/// 1e-6)), as `torch.nn.utils.clip_grad_norm_`. A `max` of 0 clips nothing.
pub(crate) fn clip_factor(norm: f64, max: f64) -> f64 {
    if max > 0.0 { (max / (norm + 1e-6)).min(1.0) } else { 1.0 }
}
