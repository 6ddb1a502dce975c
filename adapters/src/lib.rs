//! What is grafted onto a frozen model: adapters by several methods, task heads, and their files.
//!
//! An adapter answers the hooks of `engraft_engine` at the sites a model lists; it knows nothing
//! else of the model. Its weights train, or do not ([`Adapter::freeze`]) and then record nothing.
//!
//! * [`methods`]: bottlenecks, LoRA: one file each, and the registry; [`grammar`]: configuration
//!   strings
//! * [`adapter`]: a method's modules under one name
//! * [`compose`]: several adapters at once: [`AdapterSet`], [`Setup`]; [`fusion`]: their outputs,
//!   mixed by weights that train
//! * [`heads`]: classification, tagging, language modelling: one file each, and the registry
//! * [`files`], [`export`]: what AdapterHub's `adapters` and PEFT read and write, in safetensors
//! * [`arithmetic`]: several adapters made into one; [`svd`]: what decomposes matrices for it
//! * [`pruning`]: neurons of bottlenecks left out for good
//! * [`merge`]: adapters added to a copy of a model's weights, and taken out again
#![forbid(unsafe_code)]

pub mod adapter;
pub mod arithmetic;
mod base;
mod common;
pub mod compose;
mod error;
pub mod export;
pub mod files;
pub mod fusion;
pub mod grammar;
pub mod heads;
mod loading;
pub mod merge;
pub mod methods;
mod module;
pub mod pruning;
pub mod svd;

pub use adapter::Adapter;
pub use base::{Base, Place};
pub use common::{Common, SharedWeight};
pub use compose::{Active, AdapterSet, Compat, Setup};
pub use error::{Error, Result};
pub use files::{Format, Host};
pub use fusion::{AdapterShare, Fusion, FusionConfig, Member, Shares, SiteShares};
pub use grammar::Fields;
pub use heads::{Head, HeadConfig, HeadLayers};
pub use loading::Loading;
pub use merge::Merged;
pub use methods::{
    BnConfig, Bottleneck, Config, Lora, LoraConfig, Method, Methods, Placement, Reduction, Residual, Scaling,
    Start, parse,
};
pub use module::{
    At, AtClose, AtLinear, AtNorm, AtPrefix, AtStream, Dense, Factors, Here, Inner, Module, Narrow, Replaced,
    Rules, Scale, State, Up, View,
};
