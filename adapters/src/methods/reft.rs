//! ReFT (Wu et al. 2024): an intervention behind layers, at the first and the last tokens of a
//! sequence.
//!
//! ```text
//! h + Rᵀ (f(W h + b) - R h)        LoReFT: R has orthonormal rows      NoReFT: R is free      DiReFT: without R h, R is free
//! ```
use super::{
    Config, Method, overlaid, read,
    reft_module::{self, Reft},
    written,
};
use crate::{Common, Error, Module, Place, Result, grammar::Fields};
use engraft_engine::{Activation, Part, Point, SiteKind, Source};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The registry row.
pub(super) const METHOD: Method = Method {
    names: &["loreft", "noreft", "direft"],
    architecture: Some("reft"),
    preset: |name, fields| {
        let (orthogonality, subtract_projection) = (name == "loreft", name != "direft");
        let preset = ReftConfig { orthogonality, subtract_projection, ..ReftConfig::default() };
        Ok(Box::new(overlaid(&preset, fields)?))
    },
    read: |fields, _| Ok(Box::new(read::<ReftConfig>(fields)?)),
    peft: None, // PEFT has none
};

/// The layers behind which there are interventions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "`layers` is neither `all` nor a list of layers")]
pub enum Layers {
    /// `all`.
    All(Every),
    /// These.
    These(Vec<usize>),
}
/// The word for every layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Every {
    /// `all`.
    All,
}

/// ReFT, as AdapterHub describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReftConfig {
    /// Dropout of what an intervention gives while training.
    pub dropout: f64,
    /// The type of the library's tensors: only f32 is supported.
    pub dtype: Option<String>,
    /// The library's seed for new weights; it says nothing about loaded ones.
    pub init_weights_seed: Option<u64>,
    /// Behind which layers.
    pub layers: Layers,
    /// f; none: nothing.
    pub non_linearity: Option<String>,
    /// R has orthonormal rows.
    pub orthogonality: bool,
    /// Interventions behind layers; without it there are none.
    pub output_reft: bool,
    /// First tokens.
    pub prefix_positions: usize,
    /// Rows of W and of R.
    pub r: usize,
    /// Last tokens.
    pub suffix_positions: usize,
    /// First and last tokens have the same weights.
    pub tied_weights: bool,
    /// R h is subtracted. AdapterHub forgets this field when it writes a file, and takes it for
    /// true when it reads one.
    #[serde(skip_serializing_if = "Clone::clone")]
    pub subtract_projection: bool,
}
impl Default for ReftConfig {
    /// LoReFT.
    fn default() -> ReftConfig {
        ReftConfig {
            dropout: 0.05,
            dtype: None,
            init_weights_seed: None,
            layers: Layers::All(Every::All),
            non_linearity: None,
            orthogonality: true,
            output_reft: true,
            prefix_positions: 3,
            r: 1,
            suffix_positions: 0,
            tied_weights: false,
            subtract_projection: true,
        }
    }
}
impl ReftConfig {
    /// f.
    fn activation(&self) -> Result<Option<Activation>> {
        let Some(name) = &self.non_linearity else { return Ok(None) };
        match Activation::from_name(&name.to_lowercase()) {
            Some(act) => Ok(Some(act)),
            None => Err(Error::Config(format!("`non_linearity` is `{name}`, which is not supported"))),
        }
    }
    fn is_behind(&self, layer: usize) -> bool {
        self.output_reft
            && match &self.layers {
                Layers::All(_) => true,
                Layers::These(all) => all.contains(&layer),
            }
    }
}
impl Config for ReftConfig {
    fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::Config(what));
        self.activation()?;
        match () {
            () if self.r == 0 => wrong("`r` is 0, expected a rank from 1".into()),
            () if self.prefix_positions == 0 && self.suffix_positions == 0 => {
                wrong("`prefix_positions` and `suffix_positions` are 0: there is nothing to train".into())
            }
            () if self.dtype.as_ref().is_some_and(|t| t != "float32") => {
                wrong("`dtype` of a ReFT is not supported".into())
            }
            () if !(self.dropout >= 0.0 && (self.dropout as f32) < 1.0) => {
                wrong(format!("`dropout` is {}, expected 0 to below 1", self.dropout))
            }
            () => Ok(()),
        }
    }
    fn reads_places(&self, layer: usize) -> bool {
        self.is_behind(layer)
    }
    fn common(&self, place: &Place<'_>, _: &mut Common, _: &mut Source<'_, '_>) -> Result<()> {
        let layers = place.base.sites.iter().map(|i| i.site.layer + 1).max().unwrap_or(0);
        match &self.layers {
            Layers::These(all) if all.iter().any(|l| *l >= layers) => {
                Err(Error::Config(format!("`layers` is {all:?}; the model has {layers}")))
            }
            _ => Ok(()),
        }
    }
    fn build(&self, place: &Place<'_>, from: &mut Source<'_, '_>) -> Result<Vec<Box<dyn Module>>> {
        let (site, kind) = (place.info.site, place.info.kind);
        let SiteKind::Stream { channels } = kind else { return Ok(vec![]) };
        if (site.part, site.point) != (Part::Layer, Point::Close) || !self.is_behind(site.layer) {
            return Ok(vec![]);
        }
        if self.r > channels || (self.orthogonality && self.r == channels) {
            return Err(Error::Config(format!("`r` is {}, expected a rank below {channels}", self.r)));
        }
        let how = Reft {
            prefix: self.prefix_positions,
            suffix: self.suffix_positions,
            is_tied: self.tied_weights,
            subtracts: self.subtract_projection,
            act: self.activation()?,
            dropout: self.dropout as f32,
        };
        Ok(vec![reft_module::build(how, (channels, self.r), self.orthogonality, place, from)?])
    }
    fn adapterhub(&self) -> Result<Fields> {
        let mut fields = written(self)?;
        fields.insert("architecture".into(), Value::from("reft"));
        Ok(fields)
    }
}
