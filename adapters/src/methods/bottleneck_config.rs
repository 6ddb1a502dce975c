//! The configuration of a bottleneck adapter: AdapterHub's `BnConfig`, field by field.
use super::Reduction;
use crate::{Error, Result};
use engraft_engine::{Activation, Init, Part, Point, Site};
use serde::{Deserialize, Serialize};

/// What the adapter's output is multiplied with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "`scaling` is neither a number nor `learned` nor `channel`")]
pub enum Scaling {
    /// A constant.
    Fixed(f64),
    /// A trained number (`learned`) or one for each channel (`channel`).
    Trained(TrainedScaling),
}
/// A scaling that trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrainedScaling {
    /// One number.
    Learned,
    /// One for each channel.
    Channel,
}

/// Which residual the adapter's output is added to (`residual_before_ln`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "`residual_before_ln` is neither true nor false nor `post_add`")]
pub enum Residual {
    /// `true`: the sub-layer's output. `false`: what the bottleneck reads.
    BeforeNorm(bool),
    /// `"post_add"`: the sub-layer's output plus its residual, before the norm.
    Named(PostAdd),
}
/// The one residual that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PostAdd {
    /// `"post_add"`.
    #[serde(rename = "post_add")]
    PostAdd,
}

/// How new weights start (`init_weights`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// Both projections N(0, 0.02²).
    Bert,
    /// Down uniform as PyTorch's linear layers, up zero (He et al. 2022).
    MamAdapter,
    /// Both truncated N(0, 0.01²) within two deviations (Houlsby et al. 2019).
    Houlsby,
    /// Down N(0, 0.02²), up N(0, 0.001²): nearly the identity. In AdapterHub's files this is
    /// written as `bert`, as it says nothing about a trained adapter.
    #[serde(rename(serialize = "bert"))]
    NearIdentity,
}
impl Start {
    /// (down, up).
    pub(super) fn of(self) -> (Init, Init) {
        match self {
            Start::Bert => (Init::Normal(0.02), Init::Normal(0.02)),
            Start::MamAdapter => (Init::KaimingUniform, Init::Constant(0.0)),
            Start::Houlsby => {
                let t = Init::TruncatedNormal { deviation: 0.01, bound: 0.02 };
                (t, t)
            }
            Start::NearIdentity => (Init::Normal(0.02), Init::Normal(0.001)),
        }
    }
    /// (weight, bias) of a gate on so many channels; Houlsby's start leaves it as PyTorch makes it.
    pub(super) fn of_gate(self, channels: usize) -> (Init, Init) {
        match self {
            Start::Houlsby => (Init::KaimingUniform, Init::Uniform(1.0 / (channels as f32).sqrt())),
            _ => (Init::Normal(0.02), Init::Constant(0.0)),
        }
    }
}

/// The sub-layers behind which adapters stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Behind self-attention.
    Attention,
    /// Behind the feed-forward network.
    Output,
    /// Behind both.
    Both,
}

/// A bottleneck adapter, as AdapterHub describes it. Fields that engraft does not compute are
/// refused unless they are at the value that changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BnConfig {
    /// The residual around the bottleneck is added before the adapter's own norm.
    #[serde(default)]
    pub adapter_residual_before_ln: bool,
    /// Adapters behind cross-attention, in models that have it.
    #[serde(default)]
    pub cross_adapter: bool,
    /// Dropout of the adapter's output while training.
    #[serde(default)]
    pub dropout: f64,
    /// The W_i of hypercomplex projections are products of two matrices.
    #[serde(default = "phm::yes", rename = "factorized_phm_W")]
    pub factorized_phm_w: Option<bool>,
    /// The rule of hypercomplex products is a product of two matrices in its turn.
    #[serde(default = "phm::no")]
    pub factorized_phm_rule: Option<bool>,
    /// The name of the distribution of new W_i; the library draws them from one normal distribution
    /// whatever it is.
    #[serde(default = "phm::nonlinearity")]
    pub hypercomplex_nonlinearity: Option<String>,
    /// How new weights start.
    #[serde(default = "defaults::start")]
    pub init_weights: Start,
    /// The library's seed for new weights; it says nothing about loaded ones.
    #[serde(default)]
    pub init_weights_seed: Option<u64>,
    /// Invertible adapters behind the embeddings: `nice` or `glow`.
    #[serde(default)]
    pub inv_adapter: Option<String>,
    /// How much narrower the networks of invertible adapters are than their halves; unused without
    /// `inv_adapter`.
    #[serde(default)]
    pub inv_adapter_reduction_factor: Option<f64>,
    /// The bottleneck reads the sub-layer's input instead of its output.
    #[serde(default)]
    pub is_parallel: bool,
    /// The rule trains. (The library says so too, and trains it all the same.)
    #[serde(default = "phm::yes")]
    pub learn_phm: Option<bool>,
    /// Layers without adapters.
    #[serde(default)]
    pub leave_out: Vec<usize>,
    /// A new LayerNorm behind the bottleneck.
    #[serde(default)]
    pub ln_after: bool,
    /// A new LayerNorm in front of the bottleneck.
    #[serde(default)]
    pub ln_before: bool,
    /// Adapters behind self-attention.
    pub mh_adapter: bool,
    /// Between the projections, by name.
    pub non_linearity: String,
    /// The model's residual and norm are applied behind the adapter.
    #[serde(default = "defaults::yes")]
    pub original_ln_after: bool,
    /// The model's residual and norm are applied in front of the adapter.
    #[serde(default)]
    pub original_ln_before: bool,
    /// Adapters behind the feed-forward network.
    pub output_adapter: bool,
    /// Hypercomplex projections have a bias.
    #[serde(default = "phm::yes")]
    pub phm_bias: Option<bool>,
    /// The distribution of a new rule: `normal` or `uniform`.
    #[serde(default = "phm::c_init")]
    pub phm_c_init: Option<String>,
    /// n: how many A_i there are, and how large they are.
    #[serde(default = "phm::dim")]
    pub phm_dim: usize,
    /// The deviation of a new shared rule that is normal.
    #[serde(default = "phm::range")]
    pub phm_init_range: Option<f64>,
    /// Compacter's hypercomplex projections: the fields with `phm` in their names describe them.
    #[serde(default)]
    pub phm_layer: bool,
    /// The rank of the W_i where they are products.
    #[serde(default = "phm::rank")]
    pub phm_rank: Option<usize>,
    /// How narrow the bottleneck is.
    pub reduction_factor: Reduction,
    /// Which residual the bottleneck's output is added to.
    #[serde(default = "defaults::residual")]
    pub residual_before_ln: Residual,
    /// What the bottleneck's output is multiplied with.
    #[serde(default = "defaults::scaling")]
    pub scaling: Scaling,
    /// The W_i are those of the whole adapter.
    #[serde(default = "phm::no", rename = "shared_W_phm")]
    pub shared_w_phm: Option<bool>,
    /// The rule is that of the whole adapter.
    #[serde(default = "phm::yes")]
    pub shared_phm_rule: Option<bool>,
    /// The probability with which the bottleneck of a whole sequence is dropped while training.
    #[serde(default)]
    pub stochastic_depth: Option<f64>,
    /// UniPELT's gate: what the bottleneck adds is weighted sequence by sequence.
    #[serde(default)]
    pub use_gating: bool,
}

mod defaults {
    use super::{Residual, Scaling, Start};
    pub fn yes() -> bool {
        true
    }
    pub fn start() -> Start {
        Start::Bert
    }
    pub fn residual() -> Residual {
        Residual::BeforeNorm(true)
    }
    pub fn scaling() -> Scaling {
        Scaling::Fixed(1.0)
    }
}
/// What the library writes for Compacter's fields where they are unused.
mod phm {
    pub fn yes() -> Option<bool> {
        Some(true)
    }
    pub fn no() -> Option<bool> {
        Some(false)
    }
    pub fn nonlinearity() -> Option<String> {
        Some("glorot-uniform".into())
    }
    pub fn c_init() -> Option<String> {
        Some("normal".into())
    }
    pub fn dim() -> usize {
        4
    }
    pub fn range() -> Option<f64> {
        Some(1e-4)
    }
    pub fn rank() -> Option<usize> {
        Some(1)
    }
}

impl BnConfig {
    fn base(reduction: Reduction, non_linearity: &str) -> BnConfig {
        BnConfig {
            adapter_residual_before_ln: false,
            cross_adapter: false,
            dropout: 0.0,
            factorized_phm_w: phm::yes(),
            factorized_phm_rule: phm::no(),
            hypercomplex_nonlinearity: phm::nonlinearity(),
            init_weights: Start::Bert,
            init_weights_seed: None,
            inv_adapter: None,
            inv_adapter_reduction_factor: None,
            is_parallel: false,
            learn_phm: phm::yes(),
            leave_out: vec![],
            ln_after: false,
            ln_before: false,
            mh_adapter: false,
            non_linearity: non_linearity.into(),
            original_ln_after: true,
            original_ln_before: false,
            output_adapter: true,
            phm_bias: phm::yes(),
            phm_c_init: phm::c_init(),
            phm_dim: phm::dim(),
            phm_init_range: phm::range(),
            phm_layer: false,
            phm_rank: phm::rank(),
            reduction_factor: reduction,
            residual_before_ln: Residual::BeforeNorm(true),
            scaling: Scaling::Fixed(1.0),
            shared_w_phm: phm::no(),
            shared_phm_rule: phm::yes(),
            stochastic_depth: Some(0.0),
            use_gating: false,
        }
    }
    /// `double_seq_bn` (Houlsby et al. 2019): behind both sub-layers, before residual and norm;
    /// reduction 16, swish.
    pub fn houlsby() -> BnConfig {
        BnConfig { mh_adapter: true, ..BnConfig::base(Reduction::Factor(16.0), "swish") }
    }
    /// `seq_bn` (Pfeiffer et al. 2021): behind the feed-forward network only, the model's norm
    /// before and after; reduction 16, relu.
    pub fn pfeiffer() -> BnConfig {
        BnConfig { original_ln_before: true, ..BnConfig::base(Reduction::Factor(16.0), "relu") }
    }
    /// `par_bn` (He et al. 2022): beside the feed-forward network, times 4; reduction 2, relu,
    /// up-projection from zero.
    pub fn parallel() -> BnConfig {
        BnConfig {
            is_parallel: true,
            scaling: Scaling::Fixed(4.0),
            init_weights: Start::MamAdapter,
            ..BnConfig::base(Reduction::Factor(2.0), "relu")
        }
    }
    /// [`BnConfig::parallel`] with one trained number as scaling.
    pub fn scaled_parallel() -> BnConfig {
        BnConfig { scaling: Scaling::Trained(TrainedScaling::Learned), ..BnConfig::parallel() }
    }
    /// The same with invertible adapters (Pfeiffer et al. 2020).
    pub fn with_invertible(self) -> BnConfig {
        BnConfig { inv_adapter: Some("nice".into()), inv_adapter_reduction_factor: Some(2.0), ..self }
    }
    /// Adapter+ (Steitz and Roth 2024): behind the feed-forward network and its norm, a scale for
    /// each channel, whole sequences dropped; reduction 96, gelu.
    pub fn adapter_plus() -> BnConfig {
        BnConfig {
            original_ln_before: true,
            original_ln_after: false,
            residual_before_ln: Residual::BeforeNorm(false),
            scaling: Scaling::Trained(TrainedScaling::Channel),
            stochastic_depth: Some(0.1),
            init_weights: Start::Houlsby,
            ..BnConfig::base(Reduction::Factor(96.0), "gelu")
        }
    }
    /// Compacter (Karimi Mahabadi et al. 2021): [`BnConfig::houlsby`] with hypercomplex
    /// projections; reduction 32, gelu.
    pub fn compacter() -> BnConfig {
        BnConfig { mh_adapter: true, phm_layer: true, ..BnConfig::base(Reduction::Factor(32.0), "gelu") }
    }
    /// Compacter++: [`BnConfig::pfeiffer`] with hypercomplex projections; reduction 32, gelu.
    pub fn compacter_plus_plus() -> BnConfig {
        BnConfig { mh_adapter: false, original_ln_before: true, ..BnConfig::compacter() }
    }
    /// A preset by engraft's or AdapterHub's name.
    pub fn preset(name: &str) -> Option<BnConfig> {
        Some(match name {
            "houlsby" | "double_seq_bn" => BnConfig::houlsby(),
            "pfeiffer" | "seq_bn" => BnConfig::pfeiffer(),
            "parallel" | "par_bn" => BnConfig::parallel(),
            "scaled-parallel" | "scaled_par_bn" | "scaled_parallel" => BnConfig::scaled_parallel(),
            "seq_bn_inv" | "pfeiffer+inv" => BnConfig::pfeiffer().with_invertible(),
            "double_seq_bn_inv" | "houlsby+inv" => BnConfig::houlsby().with_invertible(),
            "adapter-plus" | "adapter_plus" => BnConfig::adapter_plus(),
            "compacter" => BnConfig::compacter(),
            "compacter++" => BnConfig::compacter_plus_plus(),
            _ => return None,
        })
    }
    /// Puts adapters behind these sub-layers.
    pub fn place(&mut self, at: Placement) {
        self.mh_adapter = at != Placement::Output;
        self.output_adapter = at != Placement::Attention;
    }
    /// The non-linearity between the projections.
    pub fn activation(&self) -> Result<Activation> {
        let name = self.non_linearity.to_lowercase();
        Activation::from_name(&name).ok_or_else(|| {
            Error::Config(format!("`non_linearity` is `{}`, which is not supported", self.non_linearity))
        })
    }
    /// The probability with which the bottleneck of a sequence is dropped.
    pub(super) fn depth(&self) -> f32 {
        self.stochastic_depth.unwrap_or_default() as f32
    }
    /// The bottleneck's width at a layer.
    pub(super) fn width(&self, channels: usize, layer: usize) -> Result<usize> {
        let width = self.reduction_factor.width(channels, layer)?;
        if self.phm_layer {
            self.check_divides(channels, width)?;
        }
        Ok(width)
    }
    /// True if an adapter of this configuration stands at a site.
    pub fn stands_at(&self, s: Site) -> bool {
        let here = match (s.part, s.point) {
            (Part::Attn, Point::Close) => self.mh_adapter,
            (Part::Cross, Point::Close) => self.cross_adapter,
            (Part::Ffn, Point::Close) => self.output_adapter,
            _ => false,
        };
        here && !self.leave_out.contains(&s.layer)
    }
}
