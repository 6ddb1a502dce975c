//! One bottleneck: x + f(x W_d) W_u and everything a `BnConfig` can vary about it.
//!
//! ```text
//! enter   what the bottleneck reads (x) and what it adds to (res), from the sub-layer's output h and its residual r
//! run     up = scaling (W_u f(W_d x + b_d) + b_u), dropout, gate, own norms, + res
//! leave   the model's residual and norm
//!
//! houlsby   out = LN( up(h) + h + r )                 pfeiffer   out = LN( up(LN(h + r)) + h + r )
//! parallel  out = LN( h + up(r) + r )
//! ```
//! The rules are those of AdapterHub's `methods/modeling.py` (Poth et al. 2023). What a fusion
//! mixes is U = scaling (W_u a + b_u), as there: without the gate, and with nothing dropped.
//! Stochastic depth drops the bottleneck of whole sequences while training; the library's parallel
//! adapters pass over that field, here it counts for them too.
use super::{
    BnConfig, PostAdd, Residual, Scaling, TrainedScaling, gate::Gate, phm::Side, projection::Projection,
};
use crate::{At, AtClose, Here, Module, Narrow, Place, Result, Rules, Scale, State, Up, View};
use engraft_engine::{
    self as engine, Act, Activation, Cx, Frozen, Init, LinearRef, Norm, Param, Parameters, Role, Source,
    Tensor, Weight,
};
use std::sync::Arc;

/// The epsilon of an adapter's own norms.
const EPS: f32 = 1e-5;

/// A bottleneck of width B on C channels.
#[derive(Debug)]
pub struct Bottleneck<P: Weight> {
    config: Arc<BnConfig>,
    act: Activation,
    ln_before: Option<Norm<P>>,
    down: Projection<P>,
    up: Projection<P>,
    scaling: Option<P>,
    ln_after: Option<Norm<P>>,
    gate: Option<Gate<P>>,
}

/// The bottleneck of a configuration at a place with so many channels.
pub(super) fn build(
    config: &BnConfig,
    channels: usize,
    place: &Place<'_>,
    from: &mut Source<'_, '_>,
) -> Result<Box<dyn Module>> {
    let dims = (channels, config.width(channels, place.info.site.layer)?);
    let path = place.module(COLLECTION);
    Ok(match place.trains {
        true => Box::new(Bottleneck::<Param>::build(config, dims, &path, from)?),
        false => Box::new(Bottleneck::<Frozen>::build(config, dims, &path, from)?),
    })
}
/// What AdapterHub's checkpoints call the modules.
const COLLECTION: &str = "adapters";

impl<P: Weight> Bottleneck<P> {
    /// The bottleneck of (channels, width) whose tensors are named under `path`.
    fn build(
        config: &BnConfig,
        (channels, width): (usize, usize),
        path: &str,
        from: &mut Source<'_, '_>,
    ) -> Result<Bottleneck<P>> {
        let (down, up) = config.init_weights.of();
        let one = Init::Constant(1.0);
        let index = u8::from(config.ln_before);
        if config.ln_before {
            // the library's Sequential puts the norm in front: it is adapter_down.0, and
            // adapter_norm_before too
            from.mark(&format!("{path}.adapter_down.0.weight"));
            from.mark(&format!("{path}.adapter_down.0.bias"));
        }
        let norm = |from: &mut Source<'_, '_>, is_on: bool, name: &str| {
            is_on.then(|| from.norm(&format!("{path}.{name}"), channels, EPS)).transpose()
        };
        Ok(Bottleneck {
            act: config.activation()?,
            ln_before: norm(from, config.ln_before, "adapter_norm_before")?,
            down: Projection::build(
                config,
                Side::Down,
                (channels, width),
                &format!("{path}.adapter_down.{index}"),
                down,
                from,
            )?,
            up: Projection::build(
                config,
                Side::Up,
                (width, channels),
                &format!("{path}.adapter_up"),
                up,
                from,
            )?,
            scaling: match config.scaling {
                Scaling::Fixed(_) => None,
                Scaling::Trained(how) => {
                    let len = if how == TrainedScaling::Learned { 1 } else { channels };
                    Some(from.get(&format!("{path}.scaling"), &[len], Role::WEIGHT, one)?)
                }
            },
            ln_after: norm(from, config.ln_after, "adapter_norm_after")?,
            gate: match config.use_gating {
                true => Some(Gate::build((channels, 1), path, config.init_weights.of_gate(channels), from)?),
                false => None,
            },
            config: Arc::new(config.clone()),
        })
    }
}
impl<P: Weight> Module for Bottleneck<P> {
    fn view(&self) -> View<'_> {
        View::Close(self)
    }
    fn collection(&self) -> &'static str {
        COLLECTION
    }
    /// The norm in front has two names.
    fn each<'a>(&'a self, f: &mut dyn FnMut(String, &'a Tensor)) {
        let index = u8::from(self.ln_before.is_some());
        self.down.each(&format!("adapter_down.{index}"), f);
        self.up.each("adapter_up", f);
        let f = &mut |name, w: &'a P| f(name, w.tensor());
        if let Some(n) = &self.ln_before {
            n.each("adapter_norm_before", f);
            n.each("adapter_down.0", f);
        }
        self.scaling.iter().for_each(|s| f("scaling".into(), s));
        self.ln_after.iter().for_each(|n| n.each("adapter_norm_after", f));
        self.gate.iter().for_each(|g| g.each(f));
    }
    fn freeze(self: Box<Self>) -> Box<dyn Module> {
        let Bottleneck { config, act, ln_before, down, up, scaling, ln_after, gate } = *self;
        Box::new(Bottleneck {
            config,
            act,
            ln_before: ln_before.map(Norm::freeze),
            down: down.freeze(),
            up: up.freeze(),
            scaling: scaling.map(P::freeze),
            ln_after: ln_after.map(Norm::freeze),
            gate: gate.map(Gate::freeze),
        })
    }
}
impl<P: Weight> Parameters for Bottleneck<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.ln_before.iter().for_each(|m| m.visit(f));
        self.down.visit(f);
        self.up.visit(f);
        self.scaling.iter().for_each(|m| m.visit(f));
        self.ln_after.iter().for_each(|m| m.visit(f));
        self.gate.iter().for_each(|m| m.visit(f));
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.ln_before.iter_mut().for_each(|m| m.visit_mut(f));
        self.down.visit_mut(f);
        self.up.visit_mut(f);
        self.scaling.iter_mut().for_each(|m| m.visit_mut(f));
        self.ln_after.iter_mut().for_each(|m| m.visit_mut(f));
        self.gate.iter_mut().for_each(|m| m.visit_mut(f));
    }
}

impl<P: Weight> Bottleneck<P> {
    /// True if its work is the residual plus its two layers.
    fn is_plain(&self) -> bool {
        let c = &self.config;
        let is_scaled = self.scaling.is_some() || !matches!(c.scaling, Scaling::Fixed(1.0));
        let is_dropped = c.dropout > 0.0 || c.depth() > 0.0;
        !(is_scaled || is_dropped || c.is_parallel || self.ln_after.is_some() || self.gate.is_some())
    }
    fn norm_after<'m>(&'m self, cx: &mut Cx<'m>, y: Act) -> engine::Result<Act> {
        match &self.ln_after {
            Some(n) => cx.normalise(&y, n.get()),
            None => Ok(y),
        }
    }
}
impl<P: Weight> AtClose for Bottleneck<P> {
    fn enter<'m>(&'m self, cx: &mut Cx<'m>, h: &Act, at: &At<'_, 'm>) -> engine::Result<State> {
        let c = &self.config;
        if c.is_parallel {
            return Ok(State { x: at.r.clone(), res: at.r.clone() });
        }
        let mut x = h.clone();
        let mut sum = None;
        if c.original_ln_before {
            let s = if c.residual_before_ln == Residual::Named(PostAdd::PostAdd) {
                let s = cx.add(h, at.r)?;
                x = match &at.norm {
                    Some(n) => cx.normalise(&s, n.clone())?,
                    None => s.clone(),
                };
                s
            } else {
                x = cx.add_norm(h, at.r, at.norm.clone())?;
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
    fn run<'m>(&'m self, cx: &mut Cx<'m>, here: Here<'m>, State { x, res }: State) -> engine::Result<Act> {
        let gate = self.gate.as_ref().map(|g| g.of(cx, &x)).transpose()?; // (T, 1)
        let x = match &self.ln_before {
            Some(n) => cx.normalise(&x, n.get())?,
            None => x,
        };
        let c = &self.config;
        let (down, up) = (self.down.get(cx, here)?, self.up.get(cx, here)?);
        if self.is_plain() {
            return cx.bottleneck(&x, down, self.act, up, Some(&res)); // the sum costs no pass of its own
        }
        let up = cx.bottleneck(&x, down, self.act, up, None)?; // (T, C)
        let up = cx.drop_sequences(up, c.depth(), here.site, 2)?;
        let up = match (&self.scaling, &c.scaling) {
            (Some(w), _) => cx.mul_row(&up, w.get())?,
            (None, Scaling::Fixed(s)) if *s != 1.0 => cx.scale(up, *s as f32)?,
            _ => up,
        };
        let y = cx.dropout(up, c.dropout as f32, here.site, 1)?;
        let y = match &gate {
            Some(gate) => cx.spread(&y, gate, &[y.cols()].into())?,
            None => y,
        };
        match (c.is_parallel, c.adapter_residual_before_ln) {
            (true, _) => self.norm_after(cx, y),
            (false, true) => cx.add_norm(&y, &res, self.ln_after.as_ref().map(Norm::get)),
            (false, false) => {
                let y = self.norm_after(cx, y)?;
                cx.add(&y, &res)
            }
        }
    }
    fn leave<'m>(&'m self, cx: &mut Cx<'m>, x: Act, h: &Act, at: &At<'_, 'm>) -> engine::Result<Act> {
        let x = if self.config.is_parallel { cx.add(&x, h)? } else { x };
        Ok(if self.config.original_ln_after { cx.add_norm(&x, at.r, at.norm.clone())? } else { x })
    }
    fn idle<'m>(&'m self, cx: &mut Cx<'m>, State { res, .. }: State) -> engine::Result<Act> {
        if self.config.is_parallel { cx.scale(res, 0.0) } else { Ok(res) }
    }
    fn narrow(&self) -> Option<&dyn Narrow> {
        Some(self)
    }
}
impl<P: Weight> Narrow for Bottleneck<P> {
    fn hidden<'m>(&'m self, cx: &mut Cx<'m>, here: Here<'m>, x: &Act) -> engine::Result<Act> {
        let down = self.down.get(cx, here)?;
        let a = match &self.ln_before {
            Some(n) => {
                let x = cx.normalise(x, n.get())?;
                cx.matmul(&x, down)?
            }
            None => cx.matmul(x, down)?,
        };
        cx.activate(&a, self.act)
    }
    fn up<'m>(&'m self, cx: &mut Cx<'m>, here: Here<'m>) -> engine::Result<Up<'m>> {
        let scaling = match (&self.scaling, &self.config.scaling) {
            (Some(w), _) => Scale::Row(w.get()),
            (None, Scaling::Fixed(s)) => Scale::Fixed(*s as f32),
            (None, Scaling::Trained(_)) => Scale::Fixed(1.0),
        };
        Ok(Up { layer: self.up.get(cx, here)?, scaling })
    }
    fn is_parallel(&self) -> bool {
        self.config.is_parallel
    }
    fn layers<'m>(&'m self) -> Option<(LinearRef<'m>, Activation, LinearRef<'m>)> {
        let is_alone = self.is_plain() && self.ln_before.is_none();
        let layers = (self.down.plain()?, self.act, self.up.plain()?);
        is_alone.then_some(layers)
    }
    fn rules(&self) -> Option<Rules> {
        let c = &self.config;
        let adds_to_output = match c.residual_before_ln {
            Residual::BeforeNorm(of_output) => of_output,
            Residual::Named(_) => return None,
        };
        let rules =
            Rules { norm_before: c.original_ln_before, adds_to_output, norm_after: c.original_ln_after };
        (!c.is_parallel).then_some(rules)
    }
}
