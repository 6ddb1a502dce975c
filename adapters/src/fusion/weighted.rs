//! A share for each adapter, the same for all tokens: y = Σ softmax(w)_i U_i + residual.
use super::{
    Child, Chosen, FusionConfig, Method, Mixed, Mixer, Residuals, boxed,
    matrices::{computed, ones},
    space::{Space, columns},
};
use crate::{
    Common, Error, Here, Place, Result, State,
    grammar::Fields,
    methods::{overlaid, read, written},
};
use engraft_engine::{
    self as engine, Act, Cx, Frozen, Init, Param, Parameters, Role, Source, Tensor, W, Weight,
};
use serde::{Deserialize, Serialize};

/// The registry row.
pub(super) const METHOD: Method = Method {
    names: &["weighted"],
    preset: |_, fields| boxed(overlaid(&WeightedConfig::default(), fields)),
    read: |fields| boxed(read::<WeightedConfig>(fields)),
};
/// What modules know the shared weights by, and what they are called in files.
const WEIGHTS: &str = "weights";

/// How weights start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightedStart {
    /// The same share for each adapter.
    #[default]
    Uniform,
    /// w from N(0, 1).
    Random,
}

/// A share for each adapter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WeightedConfig {
    /// One set of weights for all layers, instead of one for each place.
    pub shared: bool,
    /// The shares at the start, in the order of the adapters; none: what `start` says.
    pub shares: Option<Vec<f64>>,
    /// How weights start.
    pub start: WeightedStart,
}
impl WeightedConfig {
    /// The start of w for so many adapters.
    fn init(&self, n: usize) -> Result<Start> {
        match &self.shares {
            Some(shares) if shares.len() != n => Err(Error::Config(format!(
                "`shares` holds {} numbers, and there are {n} adapters",
                shares.len()
            ))),
            Some(shares) => Ok(Start::Values(shares.iter().map(|s| s.ln() as f32).collect())),
            None if self.start == WeightedStart::Random => Ok(Start::Drawn(Init::Normal(1.0))),
            None => Ok(Start::Drawn(Init::Constant(0.0))),
        }
    }
}
enum Start {
    Drawn(Init),
    Values(Vec<f32>),
}
impl Start {
    fn get<P: Weight>(self, name: &str, n: usize, from: &mut Source<'_, '_>) -> Result<P> {
        Ok(match self {
            Start::Drawn(init) => from.get(name, &[n], Role::BIAS, init)?,
            Start::Values(v) => from.get_from(name, &[n], Role::BIAS, || v)?,
        })
    }
}
impl FusionConfig for WeightedConfig {
    fn check(&self) -> Result<()> {
        let is_share = |s: &f64| s.is_finite() && *s > 0.0;
        match self.shares.iter().flatten().find(|s| !is_share(s)) {
            Some(s) => Err(Error::Config(format!("`shares` holds {s}, expected numbers above 0"))),
            None => Ok(()),
        }
    }
    fn is_shared(&self) -> bool {
        self.shared
    }
    fn common(
        &self,
        place: &Place<'_>,
        path: &str,
        n: usize,
        to: &mut Common,
        from: &mut Source<'_, '_>,
    ) -> Result<()> {
        if !self.shared {
            return Ok(());
        }
        let (name, start) = (format!("{path}.{WEIGHTS}"), self.init(n)?);
        match place.trains {
            true => to.put((WEIGHTS, ""), &name, start.get::<Param>(&name, n, from)?),
            false => to.put((WEIGHTS, ""), &name, start.get::<Frozen>(&name, n, from)?),
        }
    }
    fn build(
        &self,
        place: &Place<'_>,
        path: &str,
        n: usize,
        from: &mut Source<'_, '_>,
    ) -> Result<Box<dyn Mixer>> {
        if self.shared {
            return Ok(Box::new(Weighted::<Frozen>(None)));
        }
        let (name, start) = (format!("{path}.{WEIGHTS}"), self.init(n)?);
        Ok(match place.trains {
            true => Box::new(Weighted::<Param>(Some(start.get(&name, n, from)?))),
            false => Box::new(Weighted::<Frozen>(Some(start.get(&name, n, from)?))),
        })
    }
    fn fields(&self) -> Result<Fields> {
        let mut fields = written(self)?;
        fields.insert("method".into(), METHOD.names[0].into());
        Ok(fields)
    }
}

/// The weights of one site; none where all sites share them.
#[derive(Debug)]
struct Weighted<P: Weight>(Option<P>);
impl<P: Weight> Mixer for Weighted<P> {
    fn mix<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        here: Here<'m>,
        _: (&Act, &State),
        residuals: Residuals,
        children: &[Child<'m>],
        _: Option<&Chosen>,
    ) -> engine::Result<Mixed> {
        let w: W<'m> = self.0.as_ref().map_or_else(|| here.common.weight((WEIGHTS, "")), P::get);
        let w = cx.values(w)?;
        let w = columns(cx, &w, &children.iter().map(|c| c.index).collect::<Vec<_>>())?;
        let p = cx.softmax(&w, 1)?;
        let one = ones(cx, &residuals.after)?;
        let shares = cx.matmul(&one, computed(&p, true))?;
        let space = Space::of(cx, children)?;
        Ok(Mixed { of: space.mix(cx, &shares, None)?, shares })
    }
    fn each<'a>(&'a self, f: &mut dyn FnMut(String, &'a Tensor)) {
        self.0.iter().for_each(|w| f(WEIGHTS.into(), w.tensor()));
    }
    fn freeze(self: Box<Self>) -> Box<dyn Mixer> {
        Box::new(Weighted(self.0.map(P::freeze)))
    }
}
impl<P: Weight> Parameters for Weighted<P> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param)) {
        self.0.iter().for_each(|w| w.visit(f));
    }
    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param)) {
        self.0.iter_mut().for_each(|w| w.visit_mut(f));
    }
}
