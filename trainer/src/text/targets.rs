//! The tokens of texts that are to be said.
use super::{
    cut,
    tokenizer::{TokenizedText, Tokenizer},
};
use crate::{
    data::{Dataset, Record},
    error::{Error, Result},
};
use std::borrow::Cow;
use tokenizers::{EncodeInput, Encoding, TruncationDirection};

impl Tokenizer {
    /// The tokens of what the records of a data set are to be answered with, special tokens
    /// included, each cut to so many.
    pub fn encode_targets(&self, data: &Dataset, most: usize) -> Result<Vec<TokenizedText>> {
        let (whole, special) = (self.unlimited(&self.whole, false)?, self.special_tokens());
        let too_few = || Error::Option {
            option: "max-target-length",
            value: most.to_string(),
            why: format!("{} adds {special} special tokens to a text", self.name),
        };
        let room = most.checked_sub(special).filter(|room| *room > 0).ok_or_else(too_few)?;
        let side = self.inner.get_truncation().map_or(TruncationDirection::Right, |t| t.direction);
        let short = |r| cut::shortened(Cow::from(r), || self.splits());
        let texts: Vec<_> = data.records.iter().map(|r| short(r.answer())).collect();
        let inputs = texts.iter().map(|text| EncodeInput::from(&**text)).collect();
        let encodings = self.ask(|| whole.encode_batch_fast(inputs, false))?;
        let one = |(mut encoding, record): (Encoding, &Record)| {
            let is_cut = encoding.len() > room;
            encoding.truncate(room, 0, side);
            let whole = self.ask(|| whole.post_process(encoding, None, true))?;
            let tokens = TokenizedText { is_cut, ..self.tokens(&whole)? };
            if tokens.ids.is_empty() {
                let why = format!("{} makes no token of the target", self.name);
                return Err(Error::line(&data.path, record.line, why));
            }
            Ok(tokens)
        };
        encodings.into_iter().zip(&data.records).map(one).collect()
    }
}
