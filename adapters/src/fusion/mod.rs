//! Several adapters' outputs, mixed by weights that train.
use crate::{Here, Narrow, State};
use engraft_engine::{self as engine, Act, Cx, Param, Parameters, Site, Tensor};
use std::{collections::BTreeMap, fmt};

/// A fused adapter, as a fusion sees it at the end of a sub-layer: what it computes in its bottleneck, and the way up.
#[derive(Clone)]
pub struct Child<'m> {
    /// Which of the fusion's adapters it is.
    pub index: usize,
    /// What it computes in its bottleneck, (T, B).
    pub a: Act,
    /// Its bottleneck.
    pub narrow: &'m dyn Narrow,
    /// What the bottleneck is told.
    pub here: Here<'m>,
}

/// What mixes adapters' outputs at the end of a sub-layer.
pub trait Mixer: Parameters + fmt::Debug + Send + Sync {
    /// The mixed output, with the residual that was entered with. `h` is the sub-layer's output, `entered` what the last of
    /// the adapters read and the residual that it is added to.
    fn mix<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        s: Site,
        h: &Act,
        entered: &State,
        children: &[Child<'m>],
    ) -> engine::Result<Act>;
    /// Calls `f` on every tensor, with its name within the fusion.
    fn each<'a>(&'a self, f: &mut dyn FnMut(String, &'a Tensor));
}

/// A fusion: what mixes at each site.
#[derive(Debug)]
pub struct Fusion {
    name: String,
    mixers: BTreeMap<Site, Box<dyn Mixer>>,
}
impl Fusion {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// What mixes at a site.
    pub fn at(&self, s: Site) -> Option<&dyn Mixer> {
        self.mixers.get(&s).map(|m| &**m)
    }
}
impl Parameters for Fusion {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.mixers.values().for_each(|m| m.visit(f));
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.mixers.values_mut().for_each(|m| m.visit_mut(f));
    }
}
