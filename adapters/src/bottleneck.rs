//! One bottleneck: x + f(x W_d) W_u and everything a `BnConfig` can vary about it.
//!
//! ```text
//! enter   what the bottleneck reads (x) and what it adds to (res), from the sub-layer's output h and its residual r
//! run     up = scaling (W_u f(W_d x + b_d) + b_u), dropout, own norms, + res
//! leave   the model's residual and norm
//!
//! houlsby   out = LN( up(h) + h + r )                 pfeiffer   out = LN( up(LN(h + r)) + h + r )
//! parallel  out = LN( h + up(r) + r )
//! ```
//! The rules are those of AdapterHub's `methods/modeling.py` (Poth et al. 2023).
use crate::{
    BnConfig, Result, Scaling,
    config::{Residual, TrainedScaling},
};
use engraft_engine::{
    Act, Activation, Cx, Frozen, Init, Linear, LinearRef, Norm, NormRef, Param, Parameters, Role, Site,
    Source, W, Weight,
};

/// The epsilon of an adapter's own norms.
const EPS: f32 = 1e-5;

/// A bottleneck of width B on C channels.
#[derive(Debug)]
pub struct Bottleneck<P: Weight> {
    ln_before: Option<Norm<P>>,
    down: Linear<P>,
    up: Linear<P>,
    scaling: Option<P>,
    ln_after: Option<Norm<P>>,
}

/// What flows through the adapters of one site.
pub(crate) struct State {
    /// What the bottleneck reads, then what it gives.
    pub x: Act,
    /// What its output is added to.
    pub res: Act,
}
/// The site's own side: the sub-layer's residual and the model's norm.
#[derive(Clone, Copy)]
pub(crate) struct At<'a, 'm> {
    pub r: &'a Act,
    pub norm: Option<&'a NormRef<'m>>,
}

/// What a new bottleneck is made of.
pub(crate) struct New<'a> {
    pub config: &'a BnConfig,
    pub channels: usize,
    pub width: usize,
    pub path: &'a str,
}

impl Bottleneck<Param> {
    /// Trains no more.
    pub fn freeze(self) -> Bottleneck<Frozen> {
        Bottleneck {
            ln_before: self.ln_before.map(Norm::freeze),
            down: self.down.freeze(),
            up: self.up.freeze(),
            scaling: self.scaling.map(Param::freeze),
            ln_after: self.ln_after.map(Norm::freeze),
        }
    }
}

impl<P: Weight> Bottleneck<P> {
    /// Made or loaded under `n.path`.
    pub(crate) fn build(n: New<'_>, from: &mut Source<'_, '_>) -> Result<Bottleneck<P>> {
        let (c, b, path) = (n.channels, n.width, n.path);
        let (down, up) = n.config.init_weights.of();
        let zero = Some(Init::Constant(0.0));
        // the library's Sequential puts the norm in front: it is adapter_down.0, and adapter_norm_before too
        let index = u8::from(n.config.ln_before);
        if n.config.ln_before {
            from.mark(&format!("{path}.adapter_down.0.weight"));
            from.mark(&format!("{path}.adapter_down.0.bias"));
        }
        let norm = |from: &mut Source<'_, '_>, on: bool, name: &str| match on {
            true => from.norm(&format!("{path}.{name}"), c, EPS).map(Some),
            false => Ok(None),
        };
        let scaling = |from: &mut Source<'_, '_>, n: usize| {
            from.get(&format!("{path}.scaling"), &[n], Role::WEIGHT, Init::Constant(1.0)).map(Some)
        };
        Ok(Bottleneck {
            ln_before: norm(from, n.config.ln_before, "adapter_norm_before")?,
            down: from.linear(&format!("{path}.adapter_down.{index}"), (c, b), down, zero)?,
            up: from.linear(&format!("{path}.adapter_up"), (b, c), up, zero)?,
            scaling: match n.config.scaling {
                Scaling::Fixed(_) => None,
                Scaling::Trained(TrainedScaling::Learned) => scaling(from, 1)?,
                Scaling::Trained(TrainedScaling::Channel) => scaling(from, c)?,
            },
            ln_after: norm(from, n.config.ln_after, "adapter_norm_after")?,
        })
    }
    /// Every weight under its checkpoint name; the norm in front under both of its names.
    pub(crate) fn each<'a>(&'a self, path: &str, f: &mut dyn FnMut(String, &'a P)) {
        let index = u8::from(self.ln_before.is_some());
        if let Some(n) = &self.ln_before {
            n.each(&format!("{path}.adapter_norm_before"), f);
            n.each(&format!("{path}.adapter_down.0"), f);
        }
        self.down.each(&format!("{path}.adapter_down.{index}"), f);
        self.up.each(&format!("{path}.adapter_up"), f);
        self.scaling.iter().for_each(|s| f(format!("{path}.scaling"), s));
        self.ln_after.iter().for_each(|n| n.each(&format!("{path}.adapter_norm_after"), f));
    }
    /// Borrowed for a pass.
    pub(crate) fn get<'m>(&'m self, config: &'m BnConfig, act: Activation) -> BottleneckRef<'m> {
        BottleneckRef {
            config,
            act,
            ln_before: self.ln_before.as_ref().map(Norm::get),
            down: self.down.get(),
            up: self.up.get(),
            scaling: self.scaling.as_ref().map(P::get),
            ln_after: self.ln_after.as_ref().map(Norm::get),
        }
    }
}
impl<P: Weight> Parameters for Bottleneck<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.ln_before.iter().for_each(|m| m.visit(f));
        self.down.visit(f);
        self.up.visit(f);
        self.scaling.iter().for_each(|m| m.visit(f));
        self.ln_after.iter().for_each(|m| m.visit(f));
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.ln_before.iter_mut().for_each(|m| m.visit_mut(f));
        self.down.visit_mut(f);
        self.up.visit_mut(f);
        self.scaling.iter_mut().for_each(|m| m.visit_mut(f));
        self.ln_after.iter_mut().for_each(|m| m.visit_mut(f));
    }
}

/// A [`Bottleneck`] borrowed for a pass.
pub(crate) struct BottleneckRef<'m> {
    config: &'m BnConfig,
    act: Activation,
    ln_before: Option<NormRef<'m>>,
    down: LinearRef<'m>,
    up: LinearRef<'m>,
    scaling: Option<W<'m>>,
    ln_after: Option<NormRef<'m>>,
}

impl<'m> BottleneckRef<'m> {
    /// What the bottleneck reads, and what it adds to.
    pub fn enter(&self, cx: &mut Cx<'m>, h: &Act, at: At<'_, 'm>) -> engraft_engine::Result<State> {
        let c = self.config;
        if c.is_parallel {
            return Ok(State { x: at.r.clone(), res: at.r.clone() });
        }
        let mut x = h.clone();
        let mut sum = None;
        if c.original_ln_before {
            let s = if c.residual_before_ln == Residual::Named(crate::config::PostAdd::PostAdd) {
                let s = cx.add(h, at.r)?;
                x = match at.norm {
                    Some(n) => cx.normalise(&s, n.clone())?,
                    None => s.clone(),
                };
                s
            } else {
                x = cx.add_norm(h, at.r, at.norm.cloned())?;
                x.clone()
            };
            sum = Some(s);
        }
        let res = match &c.residual_before_ln {
            Residual::BeforeNorm(true) => h.clone(),
            Residual::BeforeNorm(false) => x.clone(),
            Residual::Named(_) => sum.unwrap_or_else(|| h.clone()),
        };
        Ok(State { x, res })
    }
    /// The bottleneck and its residual.
    pub fn run(&self, cx: &mut Cx<'m>, s: State, site: Site) -> engraft_engine::Result<Act> {
        let State { x, res } = s;
        let x = match &self.ln_before {
            Some(n) => cx.normalise(&x, n.clone())?,
            None => x,
        };
        let c = self.config;
        let plain = self.scaling.is_none() && matches!(c.scaling, Scaling::Fixed(1.0)) && c.dropout == 0.0;
        if plain && !c.is_parallel && self.ln_after.is_none() {
            return cx.bottleneck(&x, self.down.clone(), self.act, self.up.clone(), Some(&res)); // the sum costs no pass of its own
        }
        let up = cx.bottleneck(&x, self.down.clone(), self.act, self.up.clone(), None)?; // (T, C)
        let up = match (&self.scaling, &self.config.scaling) {
            (Some(w), _) => cx.mul_row(&up, w.clone())?,
            (None, Scaling::Fixed(s)) if *s != 1.0 => cx.scale(up, *s as f32)?,
            _ => up,
        };
        let y = cx.dropout(up, self.config.dropout as f32, site, 1)?;
        let norm = |cx: &mut Cx<'m>, y: Act| match &self.ln_after {
            Some(n) => cx.normalise(&y, n.clone()),
            None => Ok(y),
        };
        Ok(match (self.config.is_parallel, self.config.adapter_residual_before_ln, &self.ln_after) {
            (true, ..) => norm(cx, y)?,
            (false, true, n) => cx.add_norm(&y, &res, n.clone())?,
            (false, false, _) => {
                let y = norm(cx, y)?;
                cx.add(&y, &res)?
            }
        })
    }
    /// Back into the model.
    pub fn leave(&self, cx: &mut Cx<'m>, x: Act, h: &Act, at: At<'_, 'm>) -> engraft_engine::Result<Act> {
        let x = if self.config.is_parallel { cx.add(&x, h)? } else { x };
        Ok(if self.config.original_ln_after { cx.add_norm(&x, at.r, at.norm.cloned())? } else { x })
    }
}
