//! Values that options take, each written the same as a flag and in a `run.toml`.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use clap::ValueEnum;
use engraft_engine::{Compute, Storage};
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ByteSize;
use crate::data::{Column, Header};
use crate::metrics::Metric;
use crate::prefix::Precision;
use crate::schedule::Decay;
use engraft_engine::Keep;

choices! {
    /// What is trained below the head. The four adapters are AdapterHub's presets of the bottleneck adapter.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
    pub enum Adapter {
        /// After attention and after the feed-forward block (Houlsby et al. 2019)
        #[value(alias = "double_seq_bn")]
        Houlsby,
        /// After the feed-forward block (Pfeiffer et al. 2020)
        #[value(alias = "seq_bn")]
        Pfeiffer,
        /// Beside the feed-forward block (He et al. 2021)
        #[value(alias = "par_bn")]
        Parallel,
        /// The same with a learned scale
        #[value(aliases = ["scaled_par_bn", "scaled_parallel"])]
        ScaledParallel,
        /// No adapter: the head alone
        None,
        /// No adapter: the whole backbone, for comparison
        Full,
    }
    
    /// Where adapters stand in a layer.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
    pub enum Placement {
        /// After attention
        Attention,
        /// After the feed-forward block
        Output,
        /// After both
        Both,
    }
    
    /// How a new adapter is initialised; biases are 0.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
    pub enum AdapterInit {
        /// Weights N(0, 0.02)
        Bert,
        /// Down uniform by Kaiming with a = sqrt(5), up 0
        #[value(name = "mam_adapter", alias = "mam-adapter")]
        MamAdapter,
        /// Weights N(0, 0.01), cut at two standard deviations
        Houlsby,
        /// Down N(0, 0.02), up N(0, 0.001)
        NearIdentity,
    }
    
    /// The head over the backbone.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
    pub enum Head {
        /// Two layers over the first token, as AdapterHub's classification head
        Classification,
        /// One layer over the pooled output, as BertForSequenceClassification
        Linear,
    }
    
    /// In what arithmetic the products with the frozen backbone are computed.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
    pub enum BackboneCompute {
        /// In f32
        F32,
        /// Forward in 8-bit integers, gradients in f32
        Int8Forward,
        /// Forward and gradients in 8-bit integers
        Int8,
    }
    
    impl From<BackboneCompute> for Compute {
        fn from(compute: BackboneCompute) -> Compute {
            match compute {
                BackboneCompute::F32 => Compute::F32,
                BackboneCompute::Int8Forward => Compute::Int8Forward,
                BackboneCompute::Int8 => Compute::Int8,
            }
        }
    }
    
    /// Where to compute.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
    pub enum Backend {
        /// The processor
        Cpu,
        /// The first CUDA device
        Cuda,
    }
    
    /// What layers keep for the backward pass.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
    pub enum Activations {
        /// What it needs, as it is
        F32,
        /// The same, rounded to bf16: an approximation
        Bf16,
        /// Each layer's input; the rest is computed again, to the same bits
        Recompute,
    }
    
    impl From<Activations> for Keep {
        fn from(a: Activations) -> Keep {
            match a {
                Activations::F32 => Keep::F32,
                Activations::Bf16 => Keep::Bf16,
                Activations::Recompute => Keep::Recompute,
            }
        }
    }
    
    /// What the matrices of a frozen backbone are stored as.
    pub enum BackboneDtype {
        /// Single precision
        F32 = "f32",
        /// The upper half of single precision
        Bf16 = "bf16",
        /// Half precision
        F16 = "f16",
        /// Integers of 8 bits with a scale for each output channel
        Int8 = "int8",
        /// NormalFloat of 4 bits in blocks of 64 with quantised scales, as QLoRA
        Nf4 = "nf4",
    }
}

impl From<BackboneCompute> for Compute {
    fn from(compute: BackboneCompute) -> Compute {
        match compute {
            BackboneCompute::F32 => Compute::F32,
            BackboneCompute::Int8Forward => Compute::Int8Forward,
            BackboneCompute::Int8 => Compute::Int8,
        }
    }
}

impl From<Activations> for Keep {
    fn from(a: Activations) -> Keep {
        match a {
            Activations::F32 => Keep::F32,
            Activations::Bf16 => Keep::Bf16,
            Activations::Recompute => Keep::Recompute,
        }
    }
}

impl From<BackboneDtype> for Storage {
    fn from(dtype: BackboneDtype) -> Storage {
        match dtype {
            BackboneDtype::F32 => Storage::F32,
            BackboneDtype::Bf16 => Storage::Bf16,
            BackboneDtype::F16 => Storage::F16,
            BackboneDtype::Int8 => Storage::Int8,
            BackboneDtype::Nf4 => Storage::Nf4,
        }
    }
}

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

impl ReductionFactor {
    /// The same in every layer.
    pub fn all(factor: f64) -> Self {
        Self { default: factor, layers: BTreeMap::new() }
    }

    /// That of one layer.
    pub fn of(&self, layer: usize) -> f64 {
        self.layers.get(&layer).copied().unwrap_or(self.default)
    }
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
pub enum Scaling {
    /// A constant.
    Fixed(f64),
    /// One number, trained.
    Learned,
    /// One per channel, trained.
    Channel,
}

impl FromStr for Scaling {
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

impl fmt::Display for Scaling {
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

/// Serde for types that are written as text; text that is a number is written as a number.
macro_rules! by_text {
    ($($ty:ty),*) => {$(
        impl Serialize for $ty {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let text = self.to_string();
                match (text.parse::<i64>(), text.parse::<f64>()) {
                    (Ok(number), _) if number.to_string() == text => serializer.serialize_i64(number),
                    (_, Ok(number)) if number.is_finite() && number.to_string() == text => {
                        serializer.serialize_f64(number)
                    }
                    _ => serializer.serialize_str(&text),
                }
            }
        }

        impl<'de> Deserialize<'de> for $ty {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Text)?.parse().map_err(D::Error::custom)
            }
        }
    )*};
}

by_text!(ByteSize, ReductionFactor, Scaling, Layers, ColumnName);

/// Takes a string or a number as text.
struct Text;

impl Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a number")
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_u64<E>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_f64<E>(self, number: f64) -> Result<String, E> {
        Ok(number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reduction_factors() {
        let factor: ReductionFactor = "8,0=4,2=16.5".parse().unwrap();
        assert_eq!([factor.of(0), factor.of(1), factor.of(2)], [4.0, 8.0, 16.5]);
        assert_eq!(factor.to_string(), "8,0=4,2=16.5");
        assert_eq!("16".parse(), Ok(ReductionFactor::all(16.0)));
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
        assert_eq!("4".parse(), Ok(Scaling::Fixed(4.0)));
        assert_eq!("learned".parse(), Ok(Scaling::Learned));
        assert!("NaN".parse::<Scaling>().is_err() && "all".parse::<Scaling>().is_err());
    }
}
