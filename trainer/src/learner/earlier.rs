//! What a learner keeps of tasks that it learned before, against forgetting.
use super::{anchor::Anchor, below::Below, learner::Learner, rehearsal::Rehearsal};
use crate::{Error, Result};
use engraft_engine::{Activations, Gradients, Param, Parameters, Pass};
use std::path::Path;

impl Learner {
    /// From now on its adapters are held near what a run left in a directory, with a strength from 0
    /// ([`anchor`](super::anchor)).
    pub fn hold(&mut self, directory: &Path, strength: f64) -> Result<()> {
        let all = self.adapter_parameters();
        if all.is_empty() {
            let why = "no adapter trains that could be held near what was learned".into();
            return Err(Error::Option { option: "ewc", value: strength.to_string(), why });
        }
        let anchor = Anchor::load(directory, strength, &all, self.backbone().device())?;
        self.anchors.push(anchor);
        Ok(())
    }
    /// From now on every step learns some examples of earlier tasks again.
    pub fn rehearse(&mut self, rehearsal: Rehearsal) {
        self.rehearsal = Some(rehearsal);
    }
    /// What is learned again.
    pub(crate) fn rehearsal(&self) -> Option<&Rehearsal> {
        self.rehearsal.as_ref()
    }
    /// Everything that trains in its adapters.
    pub(crate) fn adapter_parameters(&self) -> Vec<&Param> {
        let mut all = vec![];
        self.adapters().visit(&mut |p| all.push(p));
        all
    }
    /// Adds to gradients those of what holds the adapters.
    pub(super) fn pull(&self, into: &mut Gradients) -> Result<()> {
        let all = self.adapter_parameters();
        let mut both = self.anchors.iter().flat_map(|anchor| all.iter().map(move |p| (anchor, p)));
        both.try_for_each(|(anchor, p)| anchor.pull(p, into))
    }
    /// Adds to the gradients of a step, by its number, those of what is learned again beside so many
    /// examples; its loss, as it counts in the step.
    pub(crate) fn learn_again(
        &self,
        (step, beside): (u64, usize),
        mut pass: impl FnMut() -> Pass,
        policy: &Activations,
        into: &mut Gradients,
    ) -> Result<f64> {
        let mut loss = 0.0;
        for (part, batch, counts) in self.rehearsal.iter().flat_map(|r| r.draw(step, beside)) {
            let weight = counts / batch.labelled() as f64;
            let below = (&mut Below::default(), false);
            let (sum, _) = self.learn((part, &batch, 0), pass(), policy, weight as f32, into, below)?;
            loss += weight * sum;
        }
        Ok(loss)
    }
}
