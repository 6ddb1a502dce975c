//! Invertible adapters (Pfeiffer et al. 2020, MAD-X): a change of the embeddings that is undone in
//! front of a language model's last layer. NICE (Dinh et al. 2015), with the channels in two
//! halves:
//!
//! ```text
//! y₁ = x₁ + F(x₂),  y₂ = x₂ + G(y₁)        x₂ = y₂ - G(y₁),  x₁ = y₁ - F(x₂)        F, G = W₂ f(W₁ x + b₁) + b₂
//! ```
//! They are a part of a bottleneck adapter's configuration.
use super::BnConfig;
use crate::{AtStream, Common, Error, Here, Module, Place, Result, View};
use engraft_engine::{
    self as engine, Act, Activation, Cx, Init, LinearRef, Param, Parameters, Role, Site, SiteKind, Source,
    Tensor,
};

/// What AdapterHub's checkpoints call them.
const COLLECTION: &str = "invertible_adapters";
/// The tensors of F and of G.
const F: [&str; 4] = ["F.0.weight", "F.0.bias", "F.2.weight", "F.2.bias"];
const G: [&str; 4] = ["G.0.weight", "G.0.bias", "G.2.weight", "G.2.bias"];

/// Refuses what cannot be computed.
pub(super) fn check(config: &BnConfig) -> Result<()> {
    let Some(kind) = &config.inv_adapter else { return Ok(()) };
    match (kind.as_str(), config.inv_adapter_reduction_factor) {
        ("nice", Some(factor)) if factor.is_finite() && factor > 0.0 => Ok(()),
        ("nice", factor) => {
            let factor = factor.map_or("missing".to_string(), |f| f.to_string());
            Err(Error::Config(format!(
                "`inv_adapter_reduction_factor` is {factor}, expected a number above 0"
            )))
        }
        ("glow", _) => Err(Error::Config(
            "`inv_adapter` is `glow`, which AdapterHub itself cannot compute: `nice` is supported".into(),
        )),
        _ => Err(Error::Config(format!("`inv_adapter` is `{kind}`; only `nice` is supported"))),
    }
}
/// The weights, which serve both directions.
pub(super) fn common(
    config: &BnConfig,
    place: &Place<'_>,
    to: &mut Common,
    from: &mut Source<'_, '_>,
) -> Result<()> {
    let (Some(factor), SiteKind::Stream { channels }) =
        (config.inv_adapter_reduction_factor.filter(|_| config.inv_adapter.is_some()), place.info.kind)
    else {
        return Ok(());
    };
    let (first, second) = (channels / 2, channels - channels / 2);
    // they belong to the words: in an encoder-decoder to those of the encoder
    let place = &place.beside(Site::WORDS).unwrap_or(*place);
    for (names, input, output) in [(F, second, first), (G, first, second)] {
        let width = (input as f64 / factor).floor() as usize;
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
    let is_here = config.inv_adapter.is_some() && (site == Site::EMBED || site == Site::head());
    let nice = || Ok(Nice { act: config.activation()?, inverse: site == Site::head() });
    is_here.then(nice).into_iter().map(|n| n.map(|n| Box::new(n) as Box<dyn Module>)).collect()
}

/// A NICE block in one direction.
#[derive(Debug)]
struct Nice {
    act: Activation,
    inverse: bool,
}
impl Nice {
    /// F or G.
    fn net<'m>(&self, cx: &mut Cx<'m>, common: &'m Common, names: [&str; 4], x: &Act) -> engine::Result<Act> {
        let w = |i: usize| common.weight((COLLECTION, names[i]));
        let h = cx.matmul(x, LinearRef { w: w(0), b: Some(w(1)), in_out: false })?;
        let h = cx.activate(&h, self.act)?;
        cx.matmul(&h, LinearRef { w: w(2), b: Some(w(3)), in_out: false })
    }
}
impl AtStream for Nice {
    fn stream<'m>(&'m self, cx: &mut Cx<'m>, here: Here<'m>, x: Act) -> engine::Result<Act> {
        let (c, common) = (x.cols(), here.common);
        let (mut first, mut second) = (cx.take_columns(&x, 0..c / 2)?, cx.take_columns(&x, c / 2..c)?);
        if self.inverse {
            let g = self.net(cx, common, G, &first)?;
            let g = cx.scale(g, -1.0)?;
            second = cx.add(&second, &g)?;
            let f = self.net(cx, common, F, &second)?;
            let f = cx.scale(f, -1.0)?;
            first = cx.add(&first, &f)?;
        } else {
            let f = self.net(cx, common, F, &second)?;
            first = cx.add(&first, &f)?;
            let g = self.net(cx, common, G, &first)?;
            second = cx.add(&second, &g)?;
        }
        cx.join_columns(&[&first, &second])
    }
}
impl Module for Nice {
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
impl Parameters for Nice {
    fn visit<'a>(&'a self, _: &mut dyn FnMut(&'a Param)) {}
    fn visit_mut<'a>(&'a mut self, _: &mut dyn FnMut(&'a mut Param)) {}
}
