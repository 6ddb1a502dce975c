//! Several tasks in one run: what each of them is.
use super::checks::refused;
use super::listing::Mark;
use super::table::{Options, Settings};
use super::variant::Variant;
use engraft::run::sampling::Sampling;
use engraft::{Error, Result};

impl Settings {
    /// The tasks of these settings by their names, in order, each with settings as if it ran by
    /// itself but for what says that it does not; none if there is one task alone.
    pub fn tasks(&self) -> Result<Vec<(String, Self)>> {
        let mut all = self.tasks.clone().unwrap_or_default();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        let alone = Options {
            tasks: None,
            shared: None,
            sampling: None,
            order: None,
            task_weight: None,
            ewc: None,
            fisher_examples: None,
            replay: None,
            replay_share: None,
            ..self.to_options()
        };
        let one = |v: &Variant| -> Result<Self> {
            let mut own = Options::own(&v.own, &[Mark::Each, Mark::Task], &[])?;
            let weight = own.task_weight.take().or(self.task_weight);
            let mut rest = alone.clone();
            if weight.is_some() && !self.shared {
                let why =
                    "a task with an adapter of its own learns from its own loss alone: it is for --shared";
                return Err(Error::Option { option: "task-weight", value: "given".into(), why: why.into() });
            }
            if weight.is_some() && self.order.is_some() {
                return Err(Error::Exclusive { one: "order", other: "task-weight" });
            }
            if self.shared && self.order.is_none() {
                if own.metric.is_some() && self.metric.is_some() {
                    let why = "what the best is best at is given for the run and for a task of it".into();
                    return Err(Error::Option { option: "metric", value: "given twice".into(), why });
                }
                rest.metric = None;
            }
            if own.eval.is_none() && rest.eval.is_none() {
                (rest.eval_every, rest.patience) = (None, None);
            }
            let settings = own.over(rest).resolve()?;
            if settings.train.is_none() {
                return Err(Error::Needs { option: "tasks", needs: "train" });
            }
            settings.check_one_set("a task of several")?;
            let (name, out) = (Some(v.name.clone()), self.out.join(&v.name));
            let (tasks, order) = (self.tasks.clone(), self.order.clone());
            let (shared, sampling, task_weight) = (self.shared, self.sampling, weight);
            Ok(Self { name, out, tasks, order, shared, sampling, task_weight, ..settings })
        };
        all.iter().map(|v| Ok((v.name.clone(), one(v).map_err(|e| e.within("task", &v.name))?))).collect()
    }
}

impl Options {
    /// Checks what is only for several tasks.
    pub(super) fn check_tasks(&self) -> Result<()> {
        if let (Some(order), Some(tasks)) = (&self.order, &self.tasks) {
            let sorted = |mut names: Vec<String>| {
                names.sort_unstable();
                names
            };
            let names = sorted(tasks.iter().map(|task| task.name.clone()).collect());
            if sorted(order.clone()) != names {
                let why = format!("it names each of the tasks once: {}", names.join(", "));
                return Err(refused("order", order.join(","), why));
            }
            for (other, given) in
                [("sampling", self.sampling.is_some()), ("task-weight", self.task_weight.is_some())]
            {
                if given {
                    return Err(Error::Exclusive { one: "order", other });
                }
            }
        }
        match self.sampling {
            Some(sampling) if self.no_shuffle == Some(true) && sampling != Sampling::PROPORTIONAL => {
                let why = "without shuffling every example comes once, which is `proportional`";
                Err(refused("sampling", sampling, why))
            }
            _ => Ok(()),
        }
    }
}
