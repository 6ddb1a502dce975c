//! Values that options take out of a short list.
use engraft::{
    Storage,
    adapters::{Compat, Format},
    engine::{Compute, Keep},
};

choices! {
    /// Where adapters stand in a layer.
    pub enum PlacementChoice {
        /// After attention
        Attention = "attention",
        /// After the feed-forward block
        Output = "output",
        /// After both
        Both = "both",
    }
    /// How a new adapter is initialised; biases are 0.
    pub enum AdapterInit {
        /// Weights N(0, 0.02)
        Bert = "bert",
        /// Down uniform by Kaiming with a = sqrt(5), up 0
        MamAdapter = "mam_adapter" | "mam-adapter",
        /// Weights N(0, 0.01), cut at two standard deviations
        Houlsby = "houlsby",
        /// Down N(0, 0.02), up N(0, 0.001)
        NearIdentity = "near-identity",
    }
    /// The head over the backbone.
    pub enum Head {
        /// As AdapterHub has it for the task
        Hub = "hub" | "classification",
        /// One layer, as the model's library has it: for classification over the pooled output
        Linear = "linear",
    }
    /// Whose results count where a library is not what it documents.
    pub enum CompatChoice {
        /// What is documented
        Documented = "documented",
        /// What AdapterHub's `adapters` 1.3.0 computes
        Adapters130 = "adapters-1.3.0",
    }
    /// Whose files they are.
    pub enum FormatChoice {
        /// AdapterHub's `adapters`
        AdapterHub = "adapterhub",
        /// Hugging Face's PEFT
        Peft = "peft",
    }
    /// In what arithmetic the products with the frozen backbone are computed.
    pub enum BackboneCompute {
        /// In f32
        F32 = "f32",
        /// Forward in 8-bit integers, gradients in f32
        Int8Forward = "int8-forward",
        /// Forward and gradients in 8-bit integers
        Int8 = "int8",
    }
    /// Where to compute.
    pub enum Backend {
        /// The processor
        Cpu = "cpu",
        /// The first CUDA device
        Cuda = "cuda",
    }
    /// What layers keep for the backward pass.
    pub enum ActivationsChoice {
        /// What it needs, as it is
        F32 = "f32",
        /// The same, rounded to bf16: an approximation
        Bf16 = "bf16",
        /// Each layer's input; the rest is computed again, to the same bits
        Recompute = "recompute",
    }
    /// What the matrices of many adapters are held in.
    pub enum AdapterDtype {
        /// Single precision
        F32 = "f32",
        /// The upper half of single precision
        Bf16 = "bf16",
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
impl From<ActivationsChoice> for Keep {
    fn from(a: ActivationsChoice) -> Keep {
        match a {
            ActivationsChoice::F32 => Keep::F32,
            ActivationsChoice::Bf16 => Keep::Bf16,
            ActivationsChoice::Recompute => Keep::Recompute,
        }
    }
}
impl From<AdapterDtype> for Storage {
    fn from(dtype: AdapterDtype) -> Storage {
        match dtype {
            AdapterDtype::F32 => Storage::F32,
            AdapterDtype::Bf16 => Storage::Bf16,
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
impl From<CompatChoice> for Compat {
    fn from(c: CompatChoice) -> Self {
        match c {
            CompatChoice::Documented => Self::Documented,
            CompatChoice::Adapters130 => Self::Adapters130,
        }
    }
}
impl From<FormatChoice> for Format {
    fn from(f: FormatChoice) -> Self {
        match f {
            FormatChoice::AdapterHub => Self::AdapterHub,
            FormatChoice::Peft => Self::Peft,
        }
    }
}
