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
        self.answers(data, most, self.special_tokens(), &|whole, encoding| {
            self.tokens(&self.ask(|| whole.post_process(encoding, None, true))?)
        })
    }
    /// The same where the answer goes on from a text: no special tokens but `end`, if there is one.
    pub fn encode_continuations(
        &self,
        data: &Dataset,
        most: usize,
        end: Option<u32>,
    ) -> Result<Vec<TokenizedText>> {
        let mut all = self.answers(data, most, usize::from(end.is_some()), &|_, e| self.tokens(&e))?;
        for tokens in &mut all {
            tokens.ids.extend(end);
            tokens.types.resize(tokens.ids.len(), 0);
        }
        Ok(all)
    }
    /// The tokens of what is learned from of each record's answers, cut to so many with the special
    /// ones, which `with_special` adds.
    fn answers(
        &self,
        data: &Dataset,
        most: usize,
        special: usize,
        with_special: &dyn Fn(&tokenizers::Tokenizer, Encoding) -> Result<TokenizedText>,
    ) -> Result<Vec<TokenizedText>> {
        let whole = self.unlimited(&self.whole, false)?;
        let too_few = || Error::Option {
            option: "max-target-length",
            value: most.to_string(),
            why: format!("{} adds {special} special tokens to a text", self.name),
        };
        let room = most.checked_sub(special).filter(|room| *room > 0).ok_or_else(too_few)?;
        let side = self.inner.get_truncation().map_or(TruncationDirection::Right, |t| t.direction);
        let short = |r| cut::shortened(Cow::from(r), || self.splits());
        let firsts = data.records.iter().map(|r| r.answers().first().map_or("", String::as_str));
        let texts: Vec<_> = firsts.map(short).collect();
        let inputs = texts.iter().map(|text| EncodeInput::from(&**text)).collect();
        let encodings = self.ask(|| whole.encode_batch_fast(inputs, false))?;
        let one = |(mut encoding, record): (Encoding, &Record)| {
            let is_cut = encoding.len() > room;
            encoding.truncate(room, 0, side);
            let tokens = TokenizedText { is_cut, ..with_special(whole, encoding)? };
            if tokens.ids.is_empty() {
                let why = format!("{} makes no token of the target", self.name);
                return Err(Error::line(&data.path, record.line, why));
            }
            Ok(tokens)
        };
        encodings.into_iter().zip(&data.records).map(one).collect()
    }
}
