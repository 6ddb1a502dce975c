//! A gain for each output of the layers that project queries, keys and values: y = (x Wᵀ + b) ∘ v,
//! v starting at ones.
use engraft_adapters::{
    AtLinear, Fields, Here, Inner, Module, Place, Result, View,
    methods::{Config, Method, overlaid, read, written},
};
use engraft_engine::{
    self as engine, Act, Cx, Frozen, Init, LinearRef, Param, Parameters, Point, Role, Site, SiteKind, Source,
    Tensor, Weight,
};
use serde::{Deserialize, Serialize};

/// The row for a registry of one's own.
pub static METHOD: Method = Method {
    names: &["gain"],
    architecture: Some("gain"),
    preset: |_, fields| Ok(Box::new(overlaid(&GainConfig::default(), fields)?)),
    read: |fields, _| Ok(Box::new(read::<GainConfig>(fields)?)),
    peft: None,
};

/// Where gains stand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GainConfig {
    /// Layers without one.
    pub leave_out: Vec<usize>,
}

impl Config for GainConfig {
    fn leave_out(&self) -> Vec<usize> {
        self.leave_out.clone()
    }
    fn build(&self, place: &Place<'_>, from: &mut Source<'_, '_>) -> Result<Vec<Box<dyn Module>>> {
        let SiteKind::Linear { output, .. } = place.info.kind else { return Ok(vec![]) };
        let Site { layer, point, .. } = place.info.site;
        let is_input = matches!(point, Point::Q | Point::K | Point::V | Point::Qkv);
        if !is_input || self.leave_out.contains(&layer) {
            return Ok(vec![]);
        }
        let name = format!("{}.v", place.module("gains"));
        let module: Box<dyn Module> = match place.trains {
            true => Box::new(Gain::<Param>::build(&name, output, from)?),
            false => Box::new(Gain::<Frozen>::build(&name, output, from)?),
        };
        Ok(vec![module])
    }
    fn adapterhub(&self) -> Result<Fields> {
        let mut fields = written(self)?;
        fields.insert("architecture".into(), "gain".into());
        Ok(fields)
    }
}

#[derive(Debug)]
struct Gain<P: Weight> {
    v: P,
}
impl<P: Weight> Gain<P> {
    fn build(name: &str, outputs: usize, from: &mut Source<'_, '_>) -> Result<Gain<P>> {
        Ok(Gain { v: from.get(name, &[outputs], Role::WEIGHT, Init::Constant(1.0))? })
    }
}
impl<P: Weight> AtLinear for Gain<P> {
    fn linear<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        _: Here<'m>,
        x: &Act,
        _: &LinearRef<'m>,
        inner: Inner<'_, 'm>,
    ) -> engine::Result<Act> {
        let y = inner(cx, x)?;
        cx.mul_row(&y, self.v.get())
    }
}
impl<P: Weight> Module for Gain<P> {
    fn view(&self) -> View<'_> {
        View::Linear(self)
    }
    fn collection(&self) -> &'static str {
        "gains"
    }
    fn each<'a>(&'a self, f: &mut dyn FnMut(String, &'a Tensor)) {
        f("v".into(), self.v.tensor());
    }
    fn freeze(self: Box<Self>) -> Box<dyn Module> {
        Box::new(Gain { v: self.v.freeze() })
    }
}
impl<P: Weight> Parameters for Gain<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.v.visit(f);
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.v.visit_mut(f);
    }
}
