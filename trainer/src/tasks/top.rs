//! What stands on the last hidden states.
use crate::{Error, Result};
use engraft_adapters::Head;
use engraft_engine::{Act, Cx, LinearRef, Site};
use engraft_models::{Kind, Model};

/// A head on a model, or the model's own language-modelling head.
#[derive(Clone, Copy)]
pub struct Top<'m> {
    model: &'m dyn Model,
    head: Option<&'m Head>,
    fills: bool,
}

impl<'m> Top<'m> {
    /// A head, or if there is none the model's own.
    pub fn new(model: &'m dyn Model, head: Option<&'m Head>) -> Top<'m> {
        Top { model, head, fills: false }
    }
    /// The same for a task that says what is hidden: then a model of hidden tokens answers without a
    /// head.
    pub fn filling(self, fills: bool) -> Top<'m> {
        Top { fills, ..self }
    }
    /// What the last layer reads, (rows, width), and the last layer, (width) to (classes). `x` are
    /// rows of the last hidden states.
    pub fn last(&self, cx: &mut Cx<'m>, x: &Act) -> Result<(Act, LinearRef<'m>)> {
        cx.enter(Site::head());
        let info = self.model.info();
        let Some(head) = self.head else {
            let missing = || Error::Model("the model has no language-modelling head of its own".into());
            let does = info.predicts_next() || (self.fills && info.has_lm_head);
            let own = if does { self.model.to_vocabulary(cx, x)? } else { None };
            return own.ok_or_else(missing);
        };
        let info = self.model.info();
        let is_scaled = info.is_tied && matches!(info.kind, Kind::EncoderDecoder { .. });
        let pooled = match head.config().use_pooler() {
            true => self.model.pool(cx, x)?,
            false if is_scaled && head.config().reads_scaled() => {
                cx.scale(x.clone(), (info.channels as f32).sqrt().recip())?
            }
            false => x.clone(),
        };
        let features = head.features(cx, &pooled, info.head_dropout)?;
        if !head.config().says_tokens() {
            return Ok((features, head.last(None)?));
        }
        // what is changed behind the embeddings is undone in front of the vocabulary; it may share
        // the table of embeddings
        let embedded = match info.predicts_next() {
            true => self.model.to_vocabulary(cx, &features)?,
            false => self.model.to_embeddings(cx, &features)?,
        };
        match embedded {
            Some((x, layer)) => Ok((x, head.last(None).or_else(|_| head.last(Some(layer.w)))?)),
            None => Ok((features, head.last(None)?)),
        }
    }
    /// A number for each class of each row: (rows, classes).
    pub fn logits(&self, cx: &mut Cx<'m>, x: &Act) -> Result<Act> {
        let (features, last) = self.last(cx, x)?;
        Ok(cx.matmul(&features, last)?)
    }
}
