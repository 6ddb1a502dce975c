//! A frozen model and what is grafted onto it to be trained.
pub mod anchor;
pub mod backbone;
mod below;
mod distillation;
mod earlier;
mod examine;
pub mod graft;
mod learn;
#[expect(clippy::module_inception, reason = "what the others are there for")]
pub mod learner;
mod mixed;
pub mod opening;
mod part;
pub mod places;
pub mod prefix;
mod rehearsal;
mod stream;
mod teaching;
mod weights;

pub use backbone::Backbone;
pub(crate) use below::Below;
pub use distillation::Likeness;
pub use examine::Output;
pub use graft::Graft;
pub use learner::{Learner, ParameterCount};
pub use mixed::{answers_of_each, losses_of_each};
pub(crate) use mixed::{learn_of_each, numbered};
pub use opening::Opening;
pub use part::{NewPart, Part};
pub use places::Places;
pub use prefix::Prefix;
pub use rehearsal::{Rehearsal, Remembered};
