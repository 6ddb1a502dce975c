//! Invertible adapters (Pfeiffer et al. 2020, MAD-X): a change of the embeddings that is undone in
//! front of a language model's last layer. The channels are in two halves, each changed by what a
//! network makes of the other: NICE (Dinh et al. 2015), or GLOW (Kingma and Dhariwal 2018) with the
//! soft clamp of Ardizzone et al. 2019 (arXiv:1907.02392):
//!
//! ```text
//! NICE  y₁ = x₁ + F(x₂),  y₂ = x₂ + G(y₁)               x₂ = y₂ - G(y₁),  x₁ = y₁ - F(x₂)
//! GLOW  (s, t) = s₂(x₂),  y₁ = e(s) ∘ x₁ + t            (s, t) = s₁(y₁),  x₂ = e(-s) ∘ (y₂ - t)
//!       (s, t) = s₁(y₁),  y₂ = e(s) ∘ x₂ + t            (s, t) = s₂(x₂),  x₁ = e(-s) ∘ (y₁ - t)
//! F, G, s₁, s₂ = W₂ f(W₁ x + b₁) + b₂                   e(s) = exp(3.18 atan(s / 5))
//! ```
//! They are a part of a bottleneck adapter's configuration. AdapterHub makes, saves and loads GLOW, but
//! `adapters` 1.3.0 cannot compute it: on the way there its block takes the halves of x for s and t, and
//! both ways it takes tokens for channels.
use super::BnConfig;
use crate::{AtStream, Common, Error, Here, Module, Place, Result, View};
use engraft_engine::{
    self as engine, Act, Activation, Cx, Init, LinearRef, Param, Parameters, Role, Site, SiteKind, Source,
    Tensor,
};

/// What AdapterHub's checkpoints call them.
const COLLECTION: &str = "invertible_adapters";

/// The tensors of a network.
type Net = [&'static str; 4];

/// How one half changes the other.
#[derive(Clone, Copy, Debug)]
enum Coupling {
    /// By a sum.
    Nice,
    /// By a product and a sum.
    Glow,
}
impl Coupling {
    /// What a configuration asks for, and how much narrower the networks are than what they read.
    fn of(config: &BnConfig) -> Result<Option<(Coupling, f64)>> {
        let Some(name) = &config.inv_adapter else { return Ok(None) };
        let coupling = match name.as_str() {
            "nice" => Coupling::Nice,
            "glow" => Coupling::Glow,
            _ => {
                return Err(Error::Config(format!("`inv_adapter` is `{name}`; there are `nice` and `glow`")));
            }
        };
        match config.inv_adapter_reduction_factor {
            Some(factor) if factor.is_finite() && factor > 0.0 => Ok(Some((coupling, factor))),
            factor => {
                let factor = factor.map_or("missing".to_string(), |f| f.to_string());
                Err(Error::Config(format!(
                    "`inv_adapter_reduction_factor` is {factor}, expected a number above 0"
                )))
            }
        }
    }
    /// The networks that read the second half and the first.
    fn nets(self) -> [Net; 2] {
        match self {
            Coupling::Nice => [
                ["F.0.weight", "F.0.bias", "F.2.weight", "F.2.bias"],
                ["G.0.weight", "G.0.bias", "G.2.weight", "G.2.bias"],
            ],
            Coupling::Glow => [
                ["s2.0.weight", "s2.0.bias", "s2.2.weight", "s2.2.bias"],
                ["s1.0.weight", "s1.0.bias", "s1.2.weight", "s1.2.bias"],
            ],
        }
    }
    /// Outputs of a network for each channel that it changes.
    fn outputs(self) -> usize {
        match self {
            Coupling::Nice => 1,
            Coupling::Glow => 2,
        }
    }
    /// A half (T, C) after its change by what the network of the other one gave, or before it.
    fn change<'m>(self, cx: &mut Cx<'m>, x: &Act, given: Act, inverse: bool) -> engine::Result<Act> {
        let c = x.cols();
        let (s, t) = match self {
            Coupling::Nice => (None, given),
            Coupling::Glow => (Some(cx.take_columns(&given, 0..c)?), cx.take_columns(&given, c..2 * c)?),
        };
        if inverse {
            let t = cx.scale(t, -1.0)?;
            let x = cx.add(x, &t)?;
            let Some(s) = s else { return Ok(x) };
            let s = cx.scale(s, -1.0)?;
            return cx.gated(&s, Activation::SoftExp, &x);
        }
        match s {
            Some(s) => {
                let x = cx.gated(&s, Activation::SoftExp, x)?;
                cx.add(&x, &t)
            }
            None => cx.add(x, &t),
        }
    }
}

/// Refuses what cannot be computed.
pub(super) fn check(config: &BnConfig) -> Result<()> {
    Coupling::of(config).map(drop)
}
/// The weights, which serve both directions.
pub(super) fn common(
    config: &BnConfig,
    place: &Place<'_>,
    to: &mut Common,
    from: &mut Source<'_, '_>,
) -> Result<()> {
    let (Some((coupling, factor)), SiteKind::Stream { channels }) = (Coupling::of(config)?, place.info.kind)
    else {
        return Ok(());
    };
    let (first, second) = (channels / 2, channels - channels / 2);
    // they belong to the words: in an encoder-decoder to those of the encoder
    let place = &place.beside(Site::WORDS).unwrap_or(*place);
    let [of_second, of_first] = coupling.nets();
    for (names, input, changed) in [(of_second, second, first), (of_first, first, second)] {
        let (width, output) = ((input as f64 / factor).floor() as usize, coupling.outputs() * changed);
        if !(1..=1 << 20).contains(&width) {
            return Err(Error::Config(format!(
                "`inv_adapter_reduction_factor` {factor} makes {width} channels of {input}"
            )));
        }
        let (normal, zero) = (Init::Normal(0.02), Init::Constant(0.0));
        to.get(place, (COLLECTION, names[0]), (&[width, input], Role::WEIGHT, normal), from)?;
        to.get(place, (COLLECTION, names[1]), (&[width], Role::BIAS, zero), from)?;
        to.get(place, (COLLECTION, names[2]), (&[output, width], Role::WEIGHT, normal), from)?;
        to.get(place, (COLLECTION, names[3]), (&[output], Role::BIAS, zero), from)?;
    }
    Ok(())
}
/// The module at a site: forward behind the embeddings, backward in front of a head.
pub(super) fn build(config: &BnConfig, site: Site) -> Result<Vec<Box<dyn Module>>> {
    let inverse = site == Site::head();
    let Some((coupling, _)) = Coupling::of(config)?.filter(|_| inverse || site == Site::EMBED) else {
        return Ok(vec![]);
    };
    Ok(vec![Box::new(Block { coupling, act: config.activation()?, inverse })])
}

/// A coupling of two halves in one direction.
#[derive(Debug)]
struct Block {
    coupling: Coupling,
    act: Activation,
    inverse: bool,
}
impl Block {
    /// What a network makes of a half.
    fn net<'m>(&self, cx: &mut Cx<'m>, common: &'m Common, names: Net, x: &Act) -> engine::Result<Act> {
        let w = |i: usize| common.weight((COLLECTION, names[i]));
        let h = cx.matmul(x, LinearRef { w: w(0), b: Some(w(1)), in_out: false })?;
        let h = cx.activate(&h, self.act)?;
        cx.matmul(&h, LinearRef { w: w(2), b: Some(w(3)), in_out: false })
    }
}
impl AtStream for Block {
    fn stream<'m>(&'m self, cx: &mut Cx<'m>, here: Here<'m>, x: Act) -> engine::Result<Act> {
        let (c, common, inverse) = (x.cols(), here.common, self.inverse);
        let mut halves = [cx.take_columns(&x, 0..c / 2)?, cx.take_columns(&x, c / 2..c)?];
        let nets = self.coupling.nets();
        // the half that was changed last is changed back first
        for i in if inverse { [1, 0] } else { [0, 1] } {
            let given = self.net(cx, common, nets[i], &halves[1 - i])?;
            halves[i] = self.coupling.change(cx, &halves[i], given, inverse)?;
        }
        cx.join_columns(&[&halves[0], &halves[1]])
    }
}
impl Module for Block {
    fn view(&self) -> View<'_> {
        View::Stream(self)
    }
    fn collection(&self) -> &'static str {
        COLLECTION
    }
    fn each<'a>(&'a self, _: &mut dyn FnMut(String, &'a Tensor)) {}
    fn freeze(self: Box<Self>) -> Box<dyn Module> {
        self
    }
}
impl Parameters for Block {
    fn visit<'a>(&'a self, _: &mut dyn FnMut(&'a Param)) {}
    fn visit_mut<'a>(&'a mut self, _: &mut dyn FnMut(&'a mut Param)) {}
}
