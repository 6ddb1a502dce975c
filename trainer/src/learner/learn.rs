//! What a learner learns of a batch: a loss and its gradients.
use super::{below::Below, distillation::Distillation, learner::Learner, part::Part};
use crate::{Error, Result, text::batch::Batch};
use engraft_adapters::Fusion;
use engraft_engine::{Activations, Class, Cx, Device, Gradients, Pass, Plain};

impl Learner {
    /// The summed loss of a batch in training without the adapters of `dropped` lower layers, for one
    /// of its parts or for another head that reads what its adapters make, and the bytes that each
    /// layer kept; `weight` times its gradients are added to `into`.
    pub(crate) fn learn(
        &self,
        (part, batch, dropped): (&Part, &Batch, usize),
        pass: Pass,
        policy: &Activations,
        weight: f32,
        into: &mut Gradients,
        below: (&mut Below, bool),
    ) -> Result<(f64, Vec<usize>)> {
        let device = self.backbone().device();
        device.install(|| {
            let active = self.active_in_training(batch, dropped)?;
            let mut cx = Cx::new(device, &active, pass).with_activations(policy);
            let taught = match (&self.distillation, batch.taught.is_empty()) {
                (_, true) => None,
                (Some(how), false) => Some(how),
                (None, false) => {
                    let what = "a batch is taught, and nothing says how its learner learns from that";
                    return Err(Error::Model(what.into()));
                }
            };
            let layers = taught.map_or(&[][..], Distillation::layers);
            let (x, seen) = self.states(&mut cx, batch, pass, below, layers)?;
            let (task, top) = (part.task(), self.top_of(part));
            let loss = match taught {
                None => task.loss(&mut cx, top, &x, batch)?,
                Some(d) => d.loss(&mut cx, (task, top), (&x, &seen), batch)?,
            };
            drop((x, seen));
            let value = loss.read()?.first().copied().unwrap_or_default();
            let kept = cx.kept_by_layer().to_vec();
            if value.is_finite() {
                cx.backward(&loss, one(device, weight)?, into)?;
            }
            Ok((f64::from(value), kept))
        })
    }
    /// Adds to the gradients of a step those of the penalties of fusions that train, and of what holds
    /// adapters near earlier tasks.
    pub(crate) fn penalise(&self, into: &mut Gradients) -> Result<()> {
        let device = self.backbone().device();
        for (_, mixer) in self.adapters().fusions().flat_map(Fusion::mixers) {
            let mut cx = Cx::new(device, &Plain, Pass::gradients());
            if let Some(loss) = mixer.penalty(&mut cx)? {
                cx.backward(&loss, one(device, 1.0)?, into)?;
            }
        }
        self.pull(into)
    }
}

/// A single number on a device.
pub(super) fn one(device: &Device, value: f32) -> Result<engraft_engine::Buffer> {
    Ok(device.upload(Class::Scratch, &[value]).map_err(engraft_engine::Error::from)?)
}
