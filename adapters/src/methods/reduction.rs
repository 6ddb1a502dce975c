//! How narrow a bottleneck is (`reduction_factor`).
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How much narrower the bottleneck is than the model: one factor, or one for each layer with a
/// `default`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "`reduction_factor` is neither a number nor numbers by layer")]
pub enum Reduction {
    /// The same factor in every layer.
    Factor(f64),
    /// Factors by layer number; `default` for the others.
    PerLayer(BTreeMap<String, f64>),
}

impl Reduction {
    /// The factor that makes a bottleneck of `width` out of `channels`.
    pub fn to_width(channels: usize, width: usize) -> Reduction {
        let exact = channels as f64 / width as f64;
        let factor = if Self::divide(channels, exact) == width {
            exact
        } else {
            channels as f64 / (width as f64 + 0.5)
        };
        Reduction::Factor(factor)
    }
    /// The bottleneck's width at a layer: ⌊channels / factor⌋, at least 1.
    pub fn width(&self, channels: usize, layer: usize) -> Result<usize> {
        let factor = match self {
            Reduction::Factor(f) => *f,
            Reduction::PerLayer(map) => {
                *map.get(&layer.to_string()).or(map.get("default")).ok_or_else(|| {
                    Error::Config(format!("`reduction_factor` names neither layer {layer} nor a `default`"))
                })?
            }
        };
        if !(factor.is_finite() && factor > 0.0) {
            return Err(Error::Config(format!("`reduction_factor` is {factor}, expected a number above 0")));
        }
        match Self::divide(channels, factor).max(1) {
            // far beyond anything useful, and sizes still multiply without overflow
            width if width > 1 << 20 => Err(Error::Config(format!(
                "`reduction_factor` {factor} makes bottlenecks of {width} channels"
            ))),
            width => Ok(width),
        }
    }
    /// Python's `int(channels // factor)`: the floor of the exact quotient, not of the rounded one.
    fn divide(channels: usize, factor: f64) -> usize {
        let c = channels as f64;
        ((c - c % factor) / factor).round() as usize
    }
    pub(super) fn check(&self) -> Result<()> {
        if let Reduction::PerLayer(map) = self
            && let Some(key) = map.keys().find(|k| *k != "default" && k.parse::<usize>().is_err())
        {
            return Err(Error::Config(format!(
                "`reduction_factor` has the key `{key}`, expected a layer number or `default`"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
