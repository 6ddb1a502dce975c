//! Values that options take and that are written as text, the same as a flag and in a `run.toml`.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Hidden size divided by the bottleneck's width, perhaps per layer.
///
/// As text `16` or `8,0=4,2=16`: 8 everywhere but in layers 0 and 2.
#[derive(Debug, Clone, PartialEq)]
pub struct ReductionFactor {
    /// In every layer not listed.
    pub default: f64,
    /// By layer, counted from 0.
    pub layers: BTreeMap<usize, f64>,
}

impl FromStr for ReductionFactor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let factor = |text: &str| match text.trim().parse::<f64>() {
            Ok(factor) if factor > 0.0 && factor.is_finite() => Ok(factor),
            _ => Err(format!("`{text}` is no reduction factor: a number above 0, or `8,0=4,2=16` by layer")),
        };
        let mut parts = text.split(',');
        let default = factor(parts.next().unwrap_or_default())?;
        let mut layers = BTreeMap::new();
        for part in parts {
            let (layer, value) =
                part.split_once('=').ok_or_else(|| format!("`{part}` is not `LAYER=FACTOR`"))?;
            let layer = layer.trim().parse().map_err(|_| format!("`{layer}` is no layer"))?;
            if layers.insert(layer, factor(value)?).is_some() {
                return Err(format!("layer {layer} stands twice"));
            }
        }
        Ok(Self { default, layers })
    }
}

impl fmt::Display for ReductionFactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.default)?;
        self.layers.iter().try_for_each(|(layer, factor)| write!(f, ",{layer}={factor}"))
    }
}

/// A factor for the adapter's output.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ScalingChoice {
    /// A constant.
    Fixed(f64),
    /// One number, trained.
    Learned,
    /// One per channel, trained.
    Channel,
}

impl FromStr for ScalingChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse::<f64>()) {
            ("learned", _) => Ok(Self::Learned),
            ("channel", _) => Ok(Self::Channel),
            (_, Ok(factor)) if factor.is_finite() => Ok(Self::Fixed(factor)),
            _ => Err(format!("`{text}` is no scaling: a number, `learned` or `channel`")),
        }
    }
}

impl fmt::Display for ScalingChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(factor) => write!(f, "{factor}"),
            Self::Learned => f.write_str("learned"),
            Self::Channel => f.write_str("channel"),
        }
    }
}

/// Some layers, counted from 0, as text `3-5,7`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layers(Vec<RangeInclusive<usize>>);

impl Layers {
    /// Whether `layer` is among them.
    pub fn contains(&self, layer: usize) -> bool {
        self.0.iter().any(|range| range.contains(&layer))
    }

    /// The last of them.
    pub fn last(&self) -> usize {
        self.0.iter().map(|range| *range.end()).max().unwrap_or(0)
    }
}

impl FromStr for Layers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("`{text}` are no layers: write them as `3-5,7`");
        let number = |text: &str| text.trim().parse::<usize>().map_err(|_| refused());
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range = number(first)?..=number(last)?;
            if range.is_empty() { Err(refused()) } else { Ok(range) }
        };
        text.split(',').map(range).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{comma}{first}")?,
                (first, last) => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

engraft::by_text!(ReductionFactor, ScalingChoice, Layers);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reduction_factors() {
        let factor: ReductionFactor = "8,0=4,2=16.5".parse().unwrap();
        assert_eq!((factor.default, factor.layers[&0], factor.layers[&2]), (8.0, 4.0, 16.5));
        assert_eq!(factor.to_string(), "8,0=4,2=16.5");
        let all = ReductionFactor { default: 16.0, layers: BTreeMap::new() };
        assert_eq!("16".parse(), Ok(all));
        for bad in ["", "0", "-1", "x", "8,4", "8,a=4", "8,0=4,0=5", "8,0=0", "inf"] {
            assert!(bad.parse::<ReductionFactor>().is_err(), "{bad}");
        }
    }

    #[test]
    fn layer_lists() {
        let layers: Layers = "3-5,7".parse().unwrap();
        let found: Vec<usize> = (0..10).filter(|&layer| layers.contains(layer)).collect();
        assert_eq!((found, layers.last(), layers.to_string()), (vec![3, 4, 5, 7], 7, "3-5,7".into()));
        for bad in ["", "5-3", "a", "1,,2", "-1", "1-"] {
            assert!(bad.parse::<Layers>().is_err(), "{bad}");
        }
    }

    #[test]
    fn scalings() {
        assert_eq!("4".parse(), Ok(ScalingChoice::Fixed(4.0)));
        assert_eq!("learned".parse(), Ok(ScalingChoice::Learned));
        assert!("NaN".parse::<ScalingChoice>().is_err() && "all".parse::<ScalingChoice>().is_err());
    }
}
