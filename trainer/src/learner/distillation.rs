//! Learning from a teacher beside the labels: from its outputs, and from its hidden states (PKD, Sun et
//! al. 2019; TinyBERT, Jiao et al. 2020).
use crate::{
    Error, Result,
    tasks::{Soft, Task, Top, soft_loss},
    text::{batch::Batch, example::IGNORED, taught::Taught},
};
use engraft_engine::{Act, Cx, Device, Fresh, Init, LinearRef, Param, ParamSet, Role, Rows, Source, Weight};

/// What a learner learns from the hidden states of its teacher.
#[derive(Clone, Debug, PartialEq)]
pub struct Likeness {
    /// Its own layers that learn, counted from 0, in order.
    pub layers: Vec<usize>,
    /// Channels of the teacher.
    pub channels: usize,
    /// What the mean over the layers counts beside the loss of the outputs.
    pub weight: f64,
    /// Decides how projections start, where the teacher has other channels.
    pub seed: u64,
}

/// How a learner learns from what its batches say of a teacher.
pub(super) struct Distillation {
    soft: Soft,
    hidden: Option<Hidden>,
}
struct Hidden {
    like: Likeness,
    /// Of each layer a matrix (the teacher's channels, its own), where these differ.
    projections: Vec<Param>,
}

/// A stream of random numbers of its own.
const STREAM: u64 = 0x7072_6f6a;

impl Distillation {
    /// From outputs and, if there is a likeness to learn, from hidden states; projections to them from
    /// so many channels are new, with places behind those of so many other weights.
    pub fn new(
        soft: Soft,
        like: Option<Likeness>,
        device: &Device,
        (channels, places): (usize, usize),
    ) -> Result<Distillation> {
        let Some(like) = like else { return Ok(Distillation { soft, hidden: None }) };
        let (mut set, mut projections) = (ParamSet::behind(places), vec![]);
        if channels != like.channels {
            let mut fresh = Fresh::new(device, &mut set, like.seed ^ STREAM);
            let (shape, start) = ([like.channels, channels], (channels as f32).sqrt().recip());
            for l in &like.layers {
                let name = format!("distillation.{l}.weight");
                let w = Source::New(&mut fresh).get(&name, &shape, Role::WEIGHT, Init::Normal(start));
                projections.push(w?);
            }
        }
        Ok(Distillation { soft, hidden: Some(Hidden { like, projections }) })
    }
    /// The layers whose hidden states are learned.
    pub fn layers(&self) -> &[usize] {
        self.hidden.as_ref().map_or(&[], |h| &h.like.layers)
    }
    /// What trains beside the learner and is not saved with it.
    pub fn projections(&self) -> &[Param] {
        self.hidden.as_ref().map_or(&[], |h| &h.projections)
    }
    /// The same, to be changed.
    pub fn projections_mut(&mut self) -> &mut [Param] {
        self.hidden.as_mut().map_or(&mut [], |h| &mut h.projections)
    }
    /// The sum over the labelled rows of a batch; `seen` are the hidden states behind
    /// [`Distillation::layers`].
    pub fn loss<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        (task, top): (&'m dyn Task, Top<'m>),
        (x, seen): (&Act, &[Act]),
        batch: &Batch,
    ) -> Result<Act> {
        let loss = soft_loss(cx, (task, top), x, batch, self.soft)?;
        match &self.hidden {
            None => Ok(loss),
            Some(hidden) => {
                let more = hidden.loss(cx, seen, batch)?;
                Ok(cx.add(&loss, &more)?)
            }
        }
    }
}
impl Hidden {
    /// β / (layers · channels) times Σ (h/‖h‖ - t)² over the labelled rows of all layers, where h are
    /// the hidden states, projected if need be, and t those of the teacher, of length 1.
    fn loss<'m>(&'m self, cx: &mut Cx<'m>, seen: &[Act], batch: &Batch) -> Result<Act> {
        let labelled = labelled(batch);
        let all = labelled.iter().zip(batch.counts()).all(|(rows, count)| rows.len() == count);
        let channels = self.like.channels;
        let mut sum: Option<Act> = None;
        for (k, x) in seen.iter().enumerate() {
            let x = if all { x.clone() } else { cx.take_rows(x, &Rows::These(labelled.clone().into()))? };
            let x = match self.projections.get(k) {
                Some(w) => cx.matmul(&x, LinearRef { w: w.get(), b: None, in_out: false })?,
                None => x,
            };
            let of_one = |(rows, taught): (&Vec<usize>, &Taught)| {
                let n = rows.len() * channels;
                taught.hidden.get(k * n..(k + 1) * n).unwrap_or_default().to_vec()
            };
            let targets: Vec<f32> = labelled.iter().zip(&batch.taught).flat_map(of_one).collect();
            let unit = cx.unit_rows(&x)?;
            let one = cx.squared_error(&unit, &targets)?.0;
            sum = Some(match sum {
                None => one,
                Some(sum) => cx.add(&sum, &one)?,
            });
        }
        let sum = sum.ok_or_else(|| Error::Model("no layer is to be like the teacher's".into()))?;
        let by = self.like.weight / (seen.len() * channels) as f64;
        Ok(cx.scale(sum, by as f32)?)
    }
}

/// Of each example the rows that are read and have a label.
pub(super) fn labelled(batch: &Batch) -> Vec<Vec<usize>> {
    let mut labels = batch.labels.iter();
    let of_one = |count: usize| -> Vec<usize> {
        labels.by_ref().take(count).enumerate().filter(|(_, l)| **l != IGNORED).map(|(i, _)| i).collect()
    };
    batch.counts().map(of_one).collect()
}
