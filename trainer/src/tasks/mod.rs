//! What is learned: how records become examples, what of the hidden states is read, the loss, and how well it went.
//!
//! A task is a file here and a line in [`TASKS`]; one of another crate implements [`Task`] and is handed to
//! [`Backbone::learner`](crate::learner::Backbone::learner).
mod causal_lm;
mod classes;
mod classification;
mod registry;
mod tagging;
mod task;
mod top;

pub use causal_lm::CausalLm;
pub use classification::Classification;
pub use registry::TASKS;
pub use tagging::Tagging;
pub use task::{Answer, Evaluated, Given, Prediction, Purpose, Task, TaskType};
pub use top::Top;
