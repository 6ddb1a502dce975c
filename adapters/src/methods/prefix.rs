//! Prefix tuning (Li & Liang 2021): trained keys and values in front of those of the tokens, in
//! every layer.
//!
//! ```text
//! [P_K; K], [P_V; V]        all P = W₂ f(W₁ e + b₁) + b₂, e a row for each place of the prefix; or, flat, trained as they are
//! ```
//! The rows of all layers come from one generator, whose weights the modules share. AdapterHub's
//! prefixes have no positions: those of the tokens are what they are without a prefix. PEFT's do,
//! and the tokens stand behind them.
use super::{
    Config, Method, PeftMethod, overlaid,
    peft_prompt::{self, OfPeft},
    prefix_module::{self, CROSS, ENCODER, Kind, OWN, Prefixes},
    read, written,
};
use crate::{Common, Error, Module, Place, Result, grammar::Fields};
use engraft_engine::{
    Activation, Cx, Init, Part, Pass, Plain, Role, Site, SiteInfo, SiteKind, Source, checkpoint::TensorData,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The registry row.
pub(super) const METHOD: Method = Method {
    names: &["prefix_tuning", "prefix_tuning_flat"],
    architecture: Some("prefix_tuning"),
    preset: |name, fields| {
        let preset = PrefixConfig { flat: name.ends_with("flat"), ..PrefixConfig::default() };
        Ok(Box::new(overlaid(&preset, fields)?))
    },
    read: |fields, _| {
        peft_prompt::not_ours(&fields)?;
        Ok(Box::new(read::<PrefixConfig>(fields)?))
    },
    peft: Some(PeftMethod { name: PEFT, read: |fields| Ok(Box::new(of_peft(fields)?)) }),
};
const PEFT: &str = "PREFIX_TUNING";

/// Prefix tuning, as AdapterHub describes it, with PEFT's positions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrefixConfig {
    /// Channels between W₁ and W₂, unless it is flat.
    pub bottleneck_size: usize,
    /// Prefixes at the cross-attention of an encoder-decoder; other models have none.
    pub cross_prefix: bool,
    /// Dropout of keys and values while training.
    pub dropout: f64,
    /// Prefixes in the encoder of an encoder-decoder; other models do not ask.
    pub encoder_prefix: bool,
    /// The rows train as they are, without a generator.
    pub flat: bool,
    /// The library's seed for new weights; it says nothing about loaded ones.
    pub init_weights_seed: Option<u64>,
    /// Layers without a prefix.
    pub leave_out: Vec<usize>,
    /// f, between W₁ and W₂.
    pub non_linearity: String,
    /// Rows of the prefix.
    pub prefix_length: usize,
    /// Keys and values have one gate; with `use_gating`.
    pub shared_gating: bool,
    /// Keys and values are multiplied by σ(w x + b), averaged over the tokens of a sequence
    /// (UniPELT, Mao et al. 2022).
    pub use_gating: bool,
    /// The rows have positions and the tokens stand behind them, as in PEFT. AdapterHub has no such
    /// field.
    #[serde(skip_serializing)]
    pub has_positions: bool,
}
impl Default for PrefixConfig {
    fn default() -> PrefixConfig {
        PrefixConfig {
            bottleneck_size: 512,
            cross_prefix: true,
            dropout: 0.0,
            encoder_prefix: true,
            flat: false,
            init_weights_seed: None,
            leave_out: vec![],
            non_linearity: "tanh".into(),
            prefix_length: 30,
            shared_gating: true,
            use_gating: false,
            has_positions: false,
        }
    }
}

impl PrefixConfig {
    /// f.
    fn activation(&self) -> Result<Activation> {
        let name = self.non_linearity.to_lowercase();
        Activation::from_name(&name).ok_or_else(|| {
            Error::Config(format!("`non_linearity` is `{}`, which is not supported", self.non_linearity))
        })
    }
    /// Whether attentions of this kind have a prefix.
    fn has(&self, kind: &Kind) -> bool {
        match kind {
            _ if *kind == CROSS => self.cross_prefix,
            _ if *kind == ENCODER => self.encoder_prefix,
            _ => true,
        }
    }
    /// The sites of a model at which a generator makes the prefixes, in order.
    fn places<'s>(
        &'s self,
        kind: &'static Kind,
        sites: &'s [SiteInfo],
    ) -> impl Iterator<Item = (Site, usize)> + 's {
        let own = sites.iter().filter(|i| i.module == i.site && !self.leave_out.contains(&i.site.layer));
        let here = own.filter(move |i| Kind::of(i.site, sites) == kind && self.has(kind));
        here.filter_map(|i| match i.kind {
            SiteKind::Prefix { channels } => Some((i.site, channels)),
            _ => None,
        })
    }
    /// How the rows of layer number `index` of those that have a prefix of this kind are made.
    fn rows(&self, kind: &'static Kind, sites: &[SiteInfo], index: usize) -> Result<Prefixes> {
        let places = || self.places(kind, sites);
        let (of, channels) = (places().count(), places().next().map_or(0, |(_, c)| c));
        let act = if self.flat { None } else { Some(self.activation()?) };
        Ok(Prefixes { kind, length: self.prefix_length, index, of, channels, act })
    }
    fn generator(
        &self,
        kind: &'static Kind,
        place: &Place<'_>,
        to: &mut Common,
        from: &mut Source<'_, '_>,
        name: Option<&str>,
    ) -> Result<()> {
        // of the layers, whose embeddings may be narrower
        let channels = |i: &SiteInfo| match i.kind {
            SiteKind::Stream { channels } if i.site == Site::layer(0) => Some(channels),
            _ => None,
        };
        let Some(c) = place.base.sites.iter().find_map(channels) else { return Ok(()) };
        let columns: usize = self.places(kind, place.base.sites).map(|(_, channels)| 2 * channels).sum();
        if columns == 0 {
            return Ok(());
        }
        let (p, b) = (self.prefix_length, self.bottleneck_size);
        match (self.flat, name) {
            (true, Some(name)) => {
                to.get_named(place, kind.flat, name, (&[p, columns], Role::WEIGHT, Init::Normal(1.0)), from)
            }
            (true, None) => to.get(place, kind.flat, (&[p * columns], Role::WEIGHT, Init::Normal(1.0)), from),
            (false, _) => {
                let (down, up) = ((c as f32).sqrt().recip(), (b as f32).sqrt().recip());
                let uniform = Init::KaimingUniform;
                to.get(place, kind.rows, (&[p, c], Role::WEIGHT, Init::Normal(1.0)), from)?;
                to.get(place, kind.down, (&[b, c], Role::WEIGHT, uniform), from)?;
                to.get(place, kind.down_bias, (&[b], Role::BIAS, Init::Uniform(down)), from)?;
                to.get(place, kind.up, (&[columns, b], Role::WEIGHT, uniform), from)?;
                to.get(place, kind.up_bias, (&[columns], Role::BIAS, Init::Uniform(up)), from)
            }
        }
    }
}
impl Config for PrefixConfig {
    fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::Config(what));
        self.activation()?;
        match () {
            () if !(1..=peft_prompt::LONGEST).contains(&self.prefix_length) => wrong(format!(
                "`prefix_length` is {}, expected 1 to {}",
                self.prefix_length,
                peft_prompt::LONGEST
            )),
            () if !self.flat && !(1..=1 << 20).contains(&self.bottleneck_size) => {
                wrong(format!("`bottleneck_size` is {}, expected 1 to {}", self.bottleneck_size, 1 << 20))
            }
            () if !(self.dropout >= 0.0 && (self.dropout as f32) < 1.0) => {
                wrong(format!("`dropout` is {}, expected 0 to below 1", self.dropout))
            }
            () => Ok(()),
        }
    }
    fn leave_out(&self) -> Vec<usize> {
        self.leave_out.clone()
    }
    fn common(&self, place: &Place<'_>, to: &mut Common, from: &mut Source<'_, '_>) -> Result<()> {
        let kinds = [&ENCODER, &OWN, &CROSS];
        let sites = place.base.sites;
        if !kinds.iter().any(|kind| self.places(kind, sites).next().is_some()) {
            return Err(Error::Config(
                "no layer of this model has a prefix: there is nothing to train".into(),
            ));
        }
        if self.has_positions && sites.iter().any(|i| i.site.part == Part::Memory) {
            return Err(Error::Config(
                "PEFT's prefixes with positions are not supported on an encoder-decoder; AdapterHub's are"
                    .into(),
            ));
        }
        let peft = (self.flat && self.has_positions).then_some(peft_prompt::TENSOR);
        kinds.into_iter().try_for_each(|kind| self.generator(kind, place, to, from, peft))
    }
    fn reads_places(&self, layer: usize) -> bool {
        // a gate reads every row of a sequence
        self.use_gating && !self.leave_out.contains(&layer)
    }
    fn build(&self, place: &Place<'_>, from: &mut Source<'_, '_>) -> Result<Vec<Box<dyn Module>>> {
        if place.info.site == Site::WORDS && self.has_positions {
            return Ok(vec![prefix_module::places_behind(self.prefix_length)]);
        }
        if !matches!(place.info.kind, SiteKind::Prefix { .. }) {
            return Ok(vec![]);
        }
        // the library's files hold the generator once more at every attention, left out or not
        let path = place.module("prefix_tuning.pool.prefix_tunings");
        let all = [&ENCODER, &OWN, &CROSS].into_iter().flat_map(Kind::tensors);
        all.for_each(|tensor| from.mark(&format!("{path}.{tensor}")));
        let (site, sites) = (place.info.site, place.base.sites);
        let kind = Kind::of(site, sites);
        let Some(index) = self.places(kind, sites).position(|(s, _)| s == site) else {
            return Ok(vec![]);
        };
        let gates = match (self.use_gating, self.shared_gating) {
            (false, _) => 0,
            (true, shared) => {
                if shared {
                    1
                } else {
                    2
                }
            }
        };
        // what a gate reads is the stream
        let channels = sites.iter().find_map(|i| match i.kind {
            SiteKind::Stream { channels } if i.site == Site::layer(0) => Some(channels),
            _ => None,
        });
        let rows = self.rows(kind, sites, index)?;
        let channels = channels.unwrap_or(rows.channels);
        Ok(vec![prefix_module::build(rows, self.dropout as f32, gates, channels, place, from)?])
    }
    fn adapterhub(&self) -> Result<Fields> {
        if self.has_positions {
            return Err(Error::Config(
                "AdapterHub's format has no prefixes with positions; PEFT's has".into(),
            ));
        }
        let mut fields = written(self)?;
        fields.insert("architecture".into(), "prefix_tuning".into());
        Ok(fields)
    }
    fn peft(&self, sites: &[SiteInfo]) -> Result<Fields> {
        let cannot = |what: &str| Err(Error::Config(format!("PEFT's format has no {what}")));
        match () {
            () if !self.has_positions => cannot("prefixes without positions"),
            () if self.use_gating => cannot("prefixes with gates"),
            () if !self.leave_out.is_empty() => cannot("layers without a prefix"),
            () => {
                let layers = self.places(&OWN, sites).count();
                let mut fields = peft_prompt::fields(PEFT, self.prefix_length, layers, sites);
                fields.insert("encoder_hidden_size".into(), json!(self.bottleneck_size));
                fields.insert("prefix_projection".into(), json!(!self.flat));
                fields.insert("init_weights".into(), json!(null));
                Ok(fields)
            }
        }
    }
    /// The keys and values of all layers as they are: PEFT's checkpoints have no generator.
    fn peft_tensors<'c>(&self, common: &'c Common) -> Result<Vec<(String, TensorData<'c>)>> {
        let name = peft_prompt::TENSOR.to_string();
        if self.flat {
            let Some(t) = common.tensor(OWN.flat) else { return Ok(vec![]) };
            let shape = [self.prefix_length, t.elements() / self.prefix_length];
            return Ok(vec![(name, TensorData::f32(&t.to_f32()?, &shape))]);
        }
        let Some(columns) = common.tensor(OWN.up).map(|t| t.shape()[0]) else { return Ok(vec![]) };
        let device = common.tensor(OWN.up).map(|t| t.buffer().device().clone());
        let Some(device) = device else { return Ok(vec![]) };
        // half of them keys and half of them values, as if all belonged to one layer
        let (length, channels) = (self.prefix_length, columns / 2);
        let all = Prefixes { kind: &OWN, length, index: 0, of: 1, channels, act: Some(self.activation()?) };
        let mut cx = Cx::new(&device, &Plain, Pass::infer());
        let values = all.generated(&mut cx, common)?.read()?;
        Ok(vec![(name, TensorData::f32(&values, &[length, columns]))])
    }
}

/// What PEFT's `adapter_config.json` says. The tensors of a file are those that train, with or
/// without `prefix_projection`.
fn of_peft(fields: Fields) -> Result<OfPeft<PrefixConfig>> {
    let also = ["encoder_hidden_size", "prefix_projection", "init_weights"];
    let prefix_length = peft_prompt::length(&fields, &also)?;
    let config = PrefixConfig { prefix_length, flat: true, has_positions: true, ..PrefixConfig::default() };
    Ok(OfPeft { fields, config })
}
