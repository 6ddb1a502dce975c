//! Frozen and trainable weights, packed activations, the tape, and the boundary between
//! models and adapters.
//!
//! One fact shapes this crate: **the backbone is a constant**. A [`Frozen`] weight has no gradient,
//! no optimiser state and no way to be changed. The tape of a pass ([`Cx`]) records an operation
//! only if a [`Param`] or something computed from one takes part in it, and an operation saves only
//! what a trained weight needs: a frozen linear layer saves nothing.
//!
//! * [`weight`]: `Frozen` and `Param` in storage, [`W`] at the point of use; [`Source`]: where a
//!   module's weights come from
//! * [`act`]: an activation is (tokens, channels) and carries its packing: there is no padding and
//!   no batch argument
//! * [`tape`]: a pass: what models call and adapters answer, recording, the backward pass;
//!   [`gradients`]: what comes of it
//! * [`keeping`]: what a layer keeps for the backward pass; [`segment`]: layers that
//!   are computed again
//! * [`ops`]: the differentiable operations, one file each
//! * [`site`]: the places where a model asks and an adapter answers
//! * [`checkpoint`]: safetensors in and out
//! * [`optim`]: AdamW, which takes `Param`s and nothing else; [`sgd`]: plain gradient descent
//! * [`output`]: files that are written whole or not at all
#![forbid(unsafe_code)]

pub mod act;
pub mod cache;
pub mod checkpoint;
mod error;
pub mod gradients;
pub mod init;
pub mod keeping;
mod layers;
mod node;
pub mod ops;
pub mod optim;
pub mod output;
mod pending;
mod profile_scope;
mod saved;
pub mod segment;
pub mod sgd;
pub mod site;
mod source;
pub mod tape;
mod tensor;
pub mod weight;

pub use act::{Act, Seq, pack};
pub use cache::KvCache;
pub use checkpoint::{Checkpoint, LinearForm, Load};
pub use engraft_kernels::{
    self as kernels, Buffer, Class, Device, Storage, activation::Activation, cross_entropy::IGNORED,
};
pub use error::{Error, Result};
pub use gradients::{Gradients, Grads, Norms};
pub use init::Init;
pub use keeping::{Activations, Keep};
pub use layers::{Linear, LinearRef, Norm, NormKind, NormRef};
pub use ops::{LowRank, Rows};
pub use optim::{AdamW, Moments, Rule};
pub use pending::Pending;
pub use sgd::Sgd;
pub use site::{Part, Point, Prefix, Site, SiteInfo, SiteKind, SiteNorm};
pub use source::{Fresh, Source};
pub use tape::{Backward, Cx, Hooks, Pass, Plain, first_touched};
pub use tensor::{Compute, Tensor};
pub use weight::{Frozen, Group, Param, ParamSet, Parameters, Role, W, Weight};
