//! BitFit (Ben Zaken et al. 2022): the biases of the backbone's linear layers and norms train, or
//! some of them.
//!
//! Neither AdapterHub nor PEFT has it. The files are laid out as AdapterHub's: `architecture` is
//! `bitfit`, and the tensors are `{module}.bitfit.{adapter}.bias`, whole biases rather than what
//! was added to them. The pooler of a BERT is no part of it.
use super::{
    Config, Method, overlaid,
    own_weights::{NormNames, OwnBias, own_norm},
    read, written,
};
use crate::{Error, Module, Place, Result, grammar::Fields};
use engraft_engine::{Frozen, Param, Part, Point, Site, SiteKind, Source};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// The registry row.
pub(super) const METHOD: Method = Method {
    names: &["bitfit"],
    architecture: Some(NAME),
    preset: |_, fields| Ok(Box::new(overlaid(&BitFitConfig::default(), fields)?)),
    read: |fields, _| Ok(Box::new(read::<BitFitConfig>(fields)?)),
    peft: None,
};
const NAME: &str = "bitfit";

/// A kind of bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bias {
    /// Of the query projections.
    Q,
    /// Of the key projections: a softmax does not see them, so that nothing comes of training them.
    K,
    /// Of the value projections.
    V,
    /// Of the projections behind attentions.
    O,
    /// Of the first feed-forward projections.
    Intermediate,
    /// Of the second feed-forward projections.
    Output,
    /// Of the norms.
    Norm,
}
impl Bias {
    /// All kinds.
    pub const ALL: [Bias; 7] =
        [Bias::Q, Bias::K, Bias::V, Bias::O, Bias::Intermediate, Bias::Output, Bias::Norm];
}

/// Which biases train.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BitFitConfig {
    /// Biases of these kinds; the paper's subset is `[q, intermediate]`.
    pub biases: Vec<Bias>,
    /// Layers whose biases stay as they are.
    pub leave_out: Vec<usize>,
}
impl Default for BitFitConfig {
    fn default() -> BitFitConfig {
        BitFitConfig { biases: Bias::ALL.to_vec(), leave_out: vec![] }
    }
}

/// False for the norms in front of the first layer and behind the last one.
pub(super) fn is_in_layer(s: Site) -> bool {
    !matches!(s.part, Part::Embed | Part::Head | Part::Memory)
}

impl BitFitConfig {
    /// The columns of a linear layer whose bias trains.
    fn columns(&self, s: Site, (output, parts): (usize, usize)) -> Vec<Range<usize>> {
        let kinds: &[Bias] = match s.point {
            Point::Q => &[Bias::Q],
            Point::K => &[Bias::K],
            Point::V => &[Bias::V],
            Point::Qkv => &[Bias::Q, Bias::K, Bias::V],
            Point::O => &[Bias::O],
            Point::Up | Point::Gate => &[Bias::Intermediate],
            Point::Down => &[Bias::Output],
            _ => &[],
        };
        let width = output / parts.max(1);
        let mut columns: Vec<Range<usize>> = vec![];
        for (i, _) in kinds.iter().take(parts).enumerate().filter(|(_, k)| self.biases.contains(k)) {
            let here = i * width..(i + 1) * width;
            match columns.last_mut().filter(|last| last.end == here.start) {
                Some(last) => last.end = here.end,
                None => columns.push(here),
            }
        }
        columns
    }
}
impl Config for BitFitConfig {
    fn check(&self) -> Result<()> {
        match self.biases.is_empty() {
            true => Err(Error::Config("`biases` is empty: there is nothing to train".into())),
            false => Ok(()),
        }
    }
    fn leave_out(&self) -> Vec<usize> {
        self.leave_out.clone()
    }
    fn build(&self, place: &Place<'_>, from: &mut Source<'_, '_>) -> Result<Vec<Box<dyn Module>>> {
        let site = place.info.site;
        if is_in_layer(site) && self.leave_out.contains(&site.layer) {
            return Ok(vec![]);
        }
        match place.info.kind {
            SiteKind::Linear { output, parts, bias: true, .. } => {
                let columns = self.columns(site, (output, parts));
                if columns.is_empty() {
                    return Ok(vec![]);
                }
                Ok(vec![match place.trains {
                    true => Box::new(OwnBias::<Param>::build(place, NAME, columns, from)?),
                    false => Box::new(OwnBias::<Frozen>::build(place, NAME, columns, from)?),
                }])
            }
            SiteKind::Norm { channels } | SiteKind::Close { channels }
                if self.biases.contains(&Bias::Norm) =>
            {
                let Some(path) = place.norm() else { return Ok(vec![]) };
                let names = NormNames { collection: NAME, peft: None, weight: false };
                own_norm(place, names, channels, &format!("{path}.{NAME}.{}", place.adapter), from)
            }
            _ => Ok(vec![]),
        }
    }
    fn adapterhub(&self) -> Result<Fields> {
        let mut fields = written(self)?;
        fields.insert("architecture".into(), NAME.into());
        Ok(fields)
    }
}
