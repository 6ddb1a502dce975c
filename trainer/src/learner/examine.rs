//! What a pass computes, to be looked at.
use super::{learn::one, learner::Learner};
use crate::{
    Result,
    text::{batch::Batch, example::Example},
};
use engraft_engine::{Cx, Gradients, Pass, Rows};
use ndarray::Array2;

/// What a pass gives, in host memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// (tokens, channels).
    pub hidden: Array2<f32>,
    /// (rows that the task reads, classes).
    pub logits: Array2<f32>,
    /// The mean loss of the rows that have a label, if one has.
    pub loss: Option<f32>,
}

impl Learner {
    /// A pass without dropout, and one more for the hidden states if not all of them are read; if
    /// gradients are asked for, those of the mean loss for every trained tensor are added.
    pub fn examine(&self, examples: &[Example], gradients: Option<&mut Gradients>) -> Result<Output> {
        let batch: Batch = examples.iter().cloned().collect();
        let device = self.backbone().device();
        let pass = if gradients.is_some() { Pass::gradients() } else { Pass::infer() };
        device.install(|| {
            let (model, top) = (self.backbone().model(), self.top());
            let active = self.active(&batch)?;
            let mut cx = Cx::new(device, &active, pass);
            let (rows, input) = (batch.rows(model.info()), batch.input_for(model.info())?);
            let x = model.forward(&mut cx, &input, &rows)?;
            // what stands for a sequence may be a row in front of its tokens, which is none of theirs
            let hidden = match rows {
                Rows::All => x.to_array()?,
                _ => {
                    let mut cx = Cx::new(device, &active, Pass::infer());
                    model.forward(&mut cx, &input, &Rows::All)?.to_array()?
                }
            };
            let logits = top.logits(&mut cx, &x)?.to_array()?;
            let mut out = Output { hidden, logits, loss: None };
            let count = batch.labelled();
            if count > 0 {
                let loss = self.task().loss(&mut cx, top, &x, &batch)?;
                out.loss = loss.read()?.first().map(|sum| sum / count as f32);
                if let Some(into) = gradients {
                    drop(x);
                    cx.backward(&loss, one(device, 1.0 / count as f32)?, into)?;
                }
            }
            Ok(out)
        })
    }
}
