//! Who learns from a teacher, and who teaches.
use super::{
    below::Below,
    distillation::{Distillation, Likeness},
    learner::Learner,
};
use crate::{
    Error, Result,
    tasks::{Soft, outputs},
    text::{batch::Batch, example::Reads},
};
use engraft_engine::{Cx, Pass};
use engraft_models::Kind;
use ndarray::Array2;

impl Learner {
    /// From now on it learns from what batches say of a teacher ([`Batch::taught`]), beside their
    /// labels; of its hidden states too, if there is a likeness to learn. The projections of these
    /// are drawn anew, train with it and are not saved with it. An error if the task is none that
    /// is learned from a teacher, or a layer none that learns.
    pub fn set_distillation(&mut self, soft: Soft, like: Option<Likeness>) -> Result<()> {
        outputs(self.task())?;
        like.iter().try_for_each(|like| self.check(like))?;
        self.distillation = None; // the places of new projections are behind those of all else
        let mut places = 0;
        self.visit(&mut |p| places = places.max(p.slot() + 1));
        let (device, channels) = (self.backbone().device(), self.backbone().model().info().channels);
        self.distillation = Some(Distillation::new(soft, like, device, (channels, places))?);
        Ok(())
    }
    /// Refuses layers that do not learn, or are in no order.
    fn check(&self, like: &Likeness) -> Result<()> {
        let (info, first) = (self.backbone().model().info(), self.first_layer()?);
        let mut before = None;
        for l in &like.layers {
            let why = if matches!(info.kind, Kind::EncoderDecoder { .. }) {
                "an encoder-decoder has no one stream of hidden states".into()
            } else if *l >= info.layers {
                format!("the model has {} layers, counted from 0", info.layers)
            } else if *l < first {
                format!("nothing below layer {first} trains")
            } else if before.replace(l).is_some_and(|before| before >= l) {
                "layers are named once, in their order".into()
            } else {
                continue;
            };
            return Err(Error::Option { option: "distill-hidden", value: format!("layer {l}"), why });
        }
        Ok(())
    }
    /// What a teacher says of the rows that are read of a batch, without dropout: its logits, (rows,
    /// outputs), and the hidden states behind some layers, (rows, channels).
    pub(crate) fn teach(&self, batch: &Batch, layers: &[usize]) -> Result<(Array2<f32>, Vec<Array2<f32>>)> {
        if batch.reads.iter().any(|reads| matches!(reads, Reads::Choices(_))) {
            return Err(Error::Model("an example of several sequences is not taught".into()));
        }
        let device = self.backbone().device();
        device.install(|| {
            let (active, pass) = (self.active(batch)?, Pass::infer());
            let mut cx = Cx::new(device, &active, pass);
            let (x, seen) = self.states(&mut cx, batch, pass, (&mut Below::default(), false), layers)?;
            let seen = seen.iter().map(|x| Ok(x.to_array()?)).collect::<Result<_>>()?;
            Ok((self.top().logits(&mut cx, &x)?.to_array()?, seen))
        })
    }
}

#[cfg(test)]
mod tests;
