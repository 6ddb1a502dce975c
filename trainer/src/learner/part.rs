//! What a learner learns: a task and the head that does it; of several a learner has one adapter
//! for all of them.
use crate::{Error, Result, tasks::Task};
use engraft_adapters::{Head, HeadConfig};

/// A task with its head.
pub struct Part {
    pub(super) name: String,
    pub(super) head: Option<Head>,
    pub(super) task: Box<dyn Task>,
    pub(super) weight: f64,
}

impl Part {
    /// The only one of a learner, by the name of its head if it has one.
    pub(super) fn saved(head: Option<Head>, task: Box<dyn Task>) -> Part {
        let name = head.as_ref().map(|h| h.name().to_string()).unwrap_or_default();
        Part { name, head, task, weight: 1.0 }
    }
    /// The name of its head, and of what it learns among others.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// The head; none where the model's own serves.
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }
    /// What is learned.
    pub fn task(&self) -> &dyn Task {
        &*self.task
    }
    /// What the mean loss of its labels counts in a step.
    pub fn weight(&self) -> f64 {
        self.weight
    }
}

/// A task that is to be learned beside others, with one adapter.
pub struct NewPart {
    /// Its name, and that of its head.
    pub name: String,
    /// The new head; none to read the model's own language-modelling head.
    pub head: Option<Box<dyn HeadConfig>>,
    /// What is learned.
    pub task: Box<dyn Task>,
    /// What the mean loss of its labels counts in a step, above 0.
    pub weight: f64,
}

/// Refuses parts of which two have one name, or whose weights are none.
pub(super) fn check(parts: &[NewPart]) -> Result<()> {
    if parts.is_empty() {
        return Err(Error::Model("there is no task to learn".into()));
    }
    for (i, part) in parts.iter().enumerate() {
        if parts[..i].iter().any(|other| other.name == part.name) {
            return Err(Error::Model(format!("two tasks are called `{}`", part.name)));
        }
        if !(part.weight > 0.0 && part.weight.is_finite()) {
            let why = format!("the weight of `{}` is {}: it is a number above 0", part.name, part.weight);
            return Err(Error::Model(why));
        }
    }
    Ok(())
}
