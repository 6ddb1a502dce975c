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
use super::{
    BnConfig, Config, Method, PostAdd, Residual, Scaling, TrainedScaling, invertible, overlaid, read, written,
};
use crate::{
    At, AtClose, Common, Error, Here, Module, Narrow, Place, Result, Rules, Scale, State, Up, View,
    files::older, grammar::Fields,
};
use engraft_engine::{
    self as engine, Act, Activation, Cx, Frozen, Init, Linear, LinearRef, Norm, Param, Parameters, Role,
    SiteKind, Source, Tensor, Weight,
};
use serde_json::Value;
use std::sync::Arc;

/// The registry row.
pub(super) const METHOD: Method = Method {
    names: &[
        "houlsby",
        "double_seq_bn",
        "pfeiffer",
        "seq_bn",
        "parallel",
        "par_bn",
        "scaled-parallel",
        "scaled_par_bn",
        "scaled_parallel",
        "seq_bn_inv",
        "pfeiffer+inv",
        "double_seq_bn_inv",
        "houlsby+inv",
    ],
    architecture: None,
    preset: |name, fields| {
        let preset = BnConfig::preset(name)
            .ok_or_else(|| Error::Config(format!("there is no bottleneck adapter `{name}`")))?;
        Ok(Box::new(overlaid(&preset, fields)?))
    },
    read: |mut fields, version| {
        older::bottleneck(&mut fields)?;
        if version.is_none() {
            // files older than the `version` field used these names for the other formula
            match fields.get("non_linearity").and_then(Value::as_str) {
                Some("gelu") => drop(fields.insert("non_linearity".into(), "gelu_new".into())),
                Some("gelu_orig") => drop(fields.insert("non_linearity".into(), "gelu".into())),
                _ => {}
            }
        }
        Ok(Box::new(read::<BnConfig>(fields)?))
    },
    peft: None, // PEFT has no bottlenecks
};

/// The epsilon of an adapter's own norms.
const EPS: f32 = 1e-5;

/// A bottleneck of width B on C channels.
#[derive(Debug)]
pub struct Bottleneck<P: Weight> {
    config: Arc<BnConfig>,
    act: Activation,
    ln_before: Option<Norm<P>>,
    down: Linear<P>,
    up: Linear<P>,
    scaling: Option<P>,
    ln_after: Option<Norm<P>>,
}

impl<P: Weight> Bottleneck<P> {
    pub(super) const COLLECTION: &'static str = "adapters";

    /// The bottleneck of (channels, width) whose tensors are named under `path`.
    pub(super) fn build(
        config: &BnConfig,
        (channels, width): (usize, usize),
        path: &str,
        from: &mut Source<'_, '_>,
    ) -> Result<Bottleneck<P>> {
        let (down, up) = config.init_weights.of();
        let (zero, one) = (Init::Constant(0.0), Init::Constant(1.0));
        let index = u8::from(config.ln_before);
        if config.ln_before {
            // the library's Sequential puts the norm in front: it is adapter_down.0, and adapter_norm_before too
            from.mark(&format!("{path}.adapter_down.0.weight"));
            from.mark(&format!("{path}.adapter_down.0.bias"));
        }
        let norm = |from: &mut Source<'_, '_>, is_on: bool, name: &str| {
            is_on.then(|| from.norm(&format!("{path}.{name}"), channels, EPS)).transpose()
        };
        Ok(Bottleneck {
            act: config.activation()?,
            ln_before: norm(from, config.ln_before, "adapter_norm_before")?,
            down: from.linear(
                &format!("{path}.adapter_down.{index}"),
                (channels, width),
                down,
                Some(zero),
            )?,
            up: from.linear(&format!("{path}.adapter_up"), (width, channels), up, Some(zero))?,
            scaling: match config.scaling {
                Scaling::Fixed(_) => None,
                Scaling::Trained(how) => {
                    let len = if how == TrainedScaling::Learned { 1 } else { channels };
                    Some(from.get(&format!("{path}.scaling"), &[len], Role::WEIGHT, one)?)
                }
            },
            ln_after: norm(from, config.ln_after, "adapter_norm_after")?,
            config: Arc::new(config.clone()),
        })
    }
}
impl<P: Weight> Module for Bottleneck<P> {
    fn view(&self) -> View<'_> {
        View::Close(self)
    }
    fn collection(&self) -> &'static str {
        Self::COLLECTION
    }
    /// The norm in front has two names.
    fn each<'a>(&'a self, f: &mut dyn FnMut(String, &'a Tensor)) {
        let f = &mut |name, w: &'a P| f(name, w.tensor());
        let index = u8::from(self.ln_before.is_some());
        if let Some(n) = &self.ln_before {
            n.each("adapter_norm_before", f);
            n.each("adapter_down.0", f);
        }
        self.down.each(&format!("adapter_down.{index}"), f);
        self.up.each("adapter_up", f);
        self.scaling.iter().for_each(|s| f("scaling".into(), s));
        self.ln_after.iter().for_each(|n| n.each("adapter_norm_after", f));
    }
    fn freeze(self: Box<Self>) -> Box<dyn Module> {
        let Bottleneck { config, act, ln_before, down, up, scaling, ln_after } = *self;
        Box::new(Bottleneck {
            config,
            act,
            ln_before: ln_before.map(Norm::freeze),
            down: down.freeze(),
            up: up.freeze(),
            scaling: scaling.map(P::freeze),
            ln_after: ln_after.map(Norm::freeze),
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
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.ln_before.iter_mut().for_each(|m| m.visit_mut(f));
        self.down.visit_mut(f);
        self.up.visit_mut(f);
        self.scaling.iter_mut().for_each(|m| m.visit_mut(f));
        self.ln_after.iter_mut().for_each(|m| m.visit_mut(f));
    }
}

impl<P: Weight> Bottleneck<P> {
    /// True if its work is the residual plus its two layers.
    fn is_plain(&self) -> bool {
        let c = &self.config;
        let is_scaled = self.scaling.is_some() || !matches!(c.scaling, Scaling::Fixed(1.0));
        !is_scaled && c.dropout == 0.0 && !c.is_parallel && self.ln_after.is_none()
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
        let x = match &self.ln_before {
            Some(n) => cx.normalise(&x, n.get())?,
            None => x,
        };
        let c = &self.config;
        let (down, up) = (self.down.get(), self.up.get());
        if self.is_plain() {
            return cx.bottleneck(&x, down, self.act, up, Some(&res)); // the sum costs no pass of its own
        }
        let up = cx.bottleneck(&x, down, self.act, up, None)?; // (T, C)
        let up = match (&self.scaling, &c.scaling) {
            (Some(w), _) => cx.mul_row(&up, w.get())?,
            (None, Scaling::Fixed(s)) if *s != 1.0 => cx.scale(up, *s as f32)?,
            _ => up,
        };
        let y = cx.dropout(up, c.dropout as f32, here.site, 1)?;
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
    fn hidden<'m>(&'m self, cx: &mut Cx<'m>, _: Here<'m>, x: &Act) -> engine::Result<Act> {
        let a = match &self.ln_before {
            Some(n) => {
                let x = cx.normalise(x, n.get())?;
                cx.matmul(&x, self.down.get())?
            }
            None => cx.matmul(x, self.down.get())?,
        };
        cx.activate(&a, self.act)
    }
    fn up<'m>(&'m self, _: &mut Cx<'m>, _: Here<'m>) -> engine::Result<Up<'m>> {
        let scaling = match (&self.scaling, &self.config.scaling) {
            (Some(w), _) => Scale::Row(w.get()),
            (None, Scaling::Fixed(s)) => Scale::Fixed(*s as f32),
            (None, Scaling::Trained(_)) => Scale::Fixed(1.0),
        };
        Ok(Up { layer: self.up.get(), scaling })
    }
    fn is_parallel(&self) -> bool {
        self.config.is_parallel
    }
    fn layers<'m>(&'m self) -> Option<(LinearRef<'m>, Activation, LinearRef<'m>)> {
        let is_alone = self.is_plain() && self.ln_before.is_none();
        is_alone.then(|| (self.down.get(), self.act, self.up.get()))
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

impl Config for BnConfig {
    fn check(&self) -> Result<()> {
        let refuse =
            |field: &str| Err(Error::Config(format!("`{field}` of a bottleneck adapter is not supported")));
        self.activation()?;
        self.reduction_factor.check()?;
        invertible::check(self)?;
        match () {
            () if self.phm_layer => refuse("phm_layer"),
            () if self.use_gating => refuse("use_gating"),
            () if self.stochastic_depth.is_some_and(|p| p != 0.0) => refuse("stochastic_depth"),
            () if !(self.dropout >= 0.0 && (self.dropout as f32) < 1.0) => {
                Err(Error::Config(format!("`dropout` is {}, expected 0 to below 1", self.dropout)))
            }
            () if matches!(self.scaling, Scaling::Fixed(s) if !(s as f32).is_finite()) => {
                Err(Error::Config("`scaling` is not a finite number".into()))
            }
            () if !(self.mh_adapter || self.output_adapter || self.cross_adapter) => Err(Error::Config(
                "neither `mh_adapter` nor `output_adapter` is set: there is nothing to train".into(),
            )),
            () => Ok(()),
        }
    }
    fn leave_out(&self) -> Vec<usize> {
        self.leave_out.clone()
    }
    fn common(&self, place: &Place<'_>, to: &mut Common, from: &mut Source<'_, '_>) -> Result<()> {
        invertible::common(self, place, to, from)
    }
    fn build(&self, place: &Place<'_>, from: &mut Source<'_, '_>) -> Result<Vec<Box<dyn Module>>> {
        let SiteKind::Close { channels } = place.info.kind else {
            return invertible::build(self, place.info.site);
        };
        if !self.stands_at(place.info.site) {
            return Ok(vec![]);
        }
        let width = self.reduction_factor.width(channels, place.info.site.layer)?;
        let path = place.module(Bottleneck::<Param>::COLLECTION);
        Ok(vec![match place.trains {
            true => Box::new(Bottleneck::<Param>::build(self, (channels, width), &path, from)?),
            false => Box::new(Bottleneck::<Frozen>::build(self, (channels, width), &path, from)?),
        }])
    }
    fn adapterhub(&self) -> Result<Fields> {
        written(self)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Reduction, *};

    #[test]
    fn presets_read_back_as_they_were_written() {
        for name in ["houlsby", "pfeiffer", "parallel", "scaled-parallel"] {
            let c = BnConfig::preset(name).unwrap();
            c.check().unwrap();
            let text = serde_json::to_string(&c).unwrap();
            assert_eq!(serde_json::from_str::<BnConfig>(&text).unwrap(), c, "{name}");
        }
        assert!(
            serde_json::to_string(&BnConfig::houlsby()).unwrap().contains("\"scaling\":1.0"),
            "a float, as the library wants"
        );
    }
    #[test]
    fn any_width_can_be_asked_for() {
        for channels in [30, 32, 192, 384, 768, 1000] {
            for width in 1..=channels {
                assert_eq!(
                    Reduction::to_width(channels, width).width(channels, 3).unwrap(),
                    width,
                    "{channels} to {width}"
                );
            }
        }
    }
    #[test]
    fn reductions_by_layer() {
        let r: Reduction = serde_json::from_str(r#"{"default": 8, "2": 16.0}"#).unwrap();
        assert_eq!((r.width(32, 0).unwrap(), r.width(32, 2).unwrap()), (4, 2));
        let r: Reduction = serde_json::from_str(r#"{"2": 16.0}"#).unwrap();
        assert!(r.width(32, 0).unwrap_err().to_string().contains("layer 0"));
        assert_eq!(Reduction::Factor(100.0).width(32, 0).unwrap(), 1);
    }
    #[test]
    fn what_is_not_computed_is_refused() {
        let base = serde_json::to_value(BnConfig::houlsby()).unwrap();
        for (field, value) in [
            ("phm_layer", serde_json::json!(true)),
            ("inv_adapter", serde_json::json!("glow")),
            ("use_gating", serde_json::json!(true)),
            ("stochastic_depth", serde_json::json!(0.1)),
            ("non_linearity", serde_json::json!("xielu")),
            ("dropout", serde_json::json!(1.0)),
        ] {
            let mut v = base.clone();
            v[field] = value;
            let c: BnConfig = serde_json::from_value(v).unwrap();
            assert!(c.check().unwrap_err().to_string().contains(field), "{field}");
        }
        let mut v = base;
        v["a_new_field"] = serde_json::json!(1);
        assert!(serde_json::from_value::<BnConfig>(v).unwrap_err().to_string().contains("a_new_field"));
    }
}
