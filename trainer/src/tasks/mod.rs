//! What is learned: how records become examples, what of the hidden states is read, the loss, and
//! how well it went.
//!
//! A task is a file here and a line in [`TASKS`]; one of another crate implements [`Task`] and is
//! handed to [`Backbone::learner`](crate::learner::Backbone::learner).
mod by_record;
mod causal_lm;
mod classes;
mod classification;
pub mod extraction;
mod masked_lm;
mod masking;
mod multi_label;
mod multiple_choice;
mod one_line;
mod outputs;
mod prompted;
mod question_answering;
mod registry;
mod regression;
mod rows;
mod said;
mod seq2seq;
mod soft;
mod tagging;
mod task;
mod texts;
mod tokens;
mod top;

pub use causal_lm::{Blocks, CausalLm};
pub use classification::Classification;
pub use masked_lm::MaskedLm;
pub use masking::Masking;
pub use multi_label::MultiLabel;
pub use multiple_choice::MultipleChoice;
pub use one_line::one_line;
pub use outputs::Outputs;
pub use prompted::Prompted;
pub use question_answering::QuestionAnswering;
pub use registry::TASKS;
pub use regression::Regression;
pub use seq2seq::Seq2Seq;
pub use soft::Soft;
pub(crate) use soft::{loss as soft_loss, outputs};
pub use tagging::Tagging;
pub use task::{
    Anew, Answer, Carry, Evaluated, Given, Known, Learn, Prediction, Purpose, Said, Task, TaskType, Told,
};
pub use top::Top;
