//! Frozen and trainable weights, packed activations, the tape, and the boundary between models and adapters.
//!
//! One fact shapes this crate: **the backbone is a constant**. A [`Frozen`] weight has no gradient, no optimiser state and
//! no way to be changed. The tape of a pass ([`Cx`]) records an operation only if a [`Param`] or something computed from one
//! takes part in it, and an operation saves only what a trained weight needs: a frozen linear layer saves nothing.
//!
//! * [`weight`]: `Frozen` and `Param` in storage, [`W`] at the point of use; [`Source`]: where a module's weights come from
//! * [`act`]: an activation is (tokens, channels) and carries its packing: there is no padding and no batch argument
//! * [`tape`]: recording and the backward pass; [`segment`]: what a layer keeps for it
//! * [`ops`]: the differentiable operations, one file each
//! * [`site`]: where a model asks and an adapter answers
//! * [`checkpoint`]: safetensors in and out
//! * [`optim`]: AdamW, which takes `Param`s and nothing else
//! * [`output`]: files that are written whole or not at all
#![forbid(unsafe_code)]

pub mod act;
pub mod checkpoint;
mod error;
pub mod init;
mod kept;
mod layers;
pub mod ops;
pub mod optim;
pub mod output;
pub mod segment;
pub mod site;
mod source;
mod spot;
pub mod tape;
mod tensor;
pub mod weight;

pub use act::{Act, Seq, pack};
pub use checkpoint::{Checkpoint, LinearForm, Load};
pub use engraft_kernels::{self as kernels, Buffer, Class, Device, Storage, activation::Activation};
pub use error::{Error, Result};
pub use init::Init;
pub use layers::{Linear, LinearRef, Norm, NormKind, NormRef};
pub use ops::{Pending, Rows};
pub use optim::{AdamW, Rule};
pub use segment::{Activations, Keep};
pub use site::{Hooks, Part, Plain, Point, Prefix, Site, SiteInfo, SiteKind, first_touched};
pub use source::{Fresh, Source};
pub use tape::{Backward, Cx, Gradients, Grads, Norms, Pass};
pub use tensor::{Compute, Tensor};
pub use weight::{Frozen, Group, Param, ParamSet, Parameters, Role, W, Weight};
