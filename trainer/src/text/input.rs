//! What a model reads of a batch.
use super::{
    batch::Batch,
    example::{IGNORED, Reads},
};
use crate::error::{Error, Result};
use engraft_models::{Kind, ModelInfo, Target, Tokens};
use std::borrow::Cow;

impl Batch {
    /// What a model reads. The decoder of an encoder-decoder reads what [`Reads::Decoded`] says, or
    /// the input again, behind its start token and without the last one. An error if that token is
    /// not known, or if another kind of model is to read what it has no decoder for.
    pub fn input_for(&self, model: &ModelInfo) -> Result<Cow<'_, Tokens>> {
        let Kind::EncoderDecoder { start: own, padding, .. } = model.kind else {
            return match self.reads.iter().any(|reads| reads.decoded() > 0) {
                true => Err(Error::Model(format!("{} has no decoder beside an encoder", model.family))),
                false => Ok(Cow::Borrowed(&self.input)),
            };
        };
        let missing = |field: &str| Error::Model(format!("the model's config.json has no `{field}`"));
        let (mut target, mut inputs) = (Target::default(), &self.input.ids[..]);
        let reads = self.reads.iter().flat_map(|reads| std::iter::repeat_n(reads, reads.sequences()));
        for (reads, n) in reads.zip(&self.input.lengths) {
            let (input, rest) = inputs.split_at(*n);
            inputs = rest;
            let (start, tokens) = match reads {
                Reads::Decoded { start, tokens } => (*start, &tokens[..]),
                _ => (None, &input[..n.saturating_sub(1)]),
            };
            target.ids.push(start.or(own).ok_or_else(|| missing("decoder_start_token_id"))?);
            for id in tokens {
                let id = if *id == IGNORED { padding } else { Some(*id) };
                target.ids.push(id.ok_or_else(|| missing("pad_token_id"))?);
            }
            target.lengths.push(1 + tokens.len());
        }
        Ok(Cow::Owned(Tokens { target: Some(target), ..self.input.clone() }))
    }
}
