//! Every task.
use super::{
    causal_lm, classification, masked_lm, multi_label, multiple_choice, question_answering, regression,
    seq2seq, tagging,
    task::{TaskType, Told},
};
use crate::error::{Error, Result};
use engraft_adapters::HeadConfig;
use engraft_models::ModelInfo;

/// Every task that the program knows; the first one unless something is said.
pub const TASKS: &[&TaskType] = &[
    &classification::TASK,
    &regression::TASK,
    &multi_label::TASK,
    &tagging::TASK,
    &causal_lm::TASK,
    &seq2seq::TASK,
    &question_answering::TASK,
    &multiple_choice::TASK,
    &masked_lm::TASK,
];

impl TaskType {
    /// The task of a name.
    pub fn named(name: &str) -> Result<&'static TaskType> {
        TASKS.iter().find(|t| t.name == name).copied().ok_or_else(|| {
            let names: Vec<_> = TASKS.iter().map(|t| t.name).collect();
            let why = format!("the tasks are {}", names.join(", "));
            Error::Option { option: "task", value: format!("`{name}`"), why }
        })
    }
    /// The task that a head does; that of the model's own head if there is none.
    pub fn of_head(head: Option<&dyn HeadConfig>, model: &ModelInfo) -> Result<&'static TaskType> {
        let suits = |t: &TaskType| (t.known)(vec![], &Told::default()).is_ok_and(|t| t.suits(model).is_ok());
        let does = |t: &&&TaskType| head.map_or_else(|| t.headless && suits(t), |head| (t.does)(head));
        TASKS.iter().find(does).copied().ok_or_else(|| {
            let head = head.map_or("no head".to_string(), |h| format!("a head of type `{}`", h.head_type()));
            Error::Model(format!("no task is done with {head} on {}", model.family))
        })
    }
}
