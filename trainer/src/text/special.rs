//! Special tokens by what they are for, and texts with those around them.
use super::{configure::End, cut, tokenizer::Tokenizer};
use crate::{
    data::{Dataset, Record},
    error::{Error, Result},
};
use std::path::Path;
use tokenizers::EncodeInput;

impl Tokenizer {
    /// The token behind a text: `eos_token` of the tokenizer's files, that of its class, or
    /// `eos_token_id` of `config.json`. An error if the model has no room for the one that is named.
    pub fn end_of_text(&self) -> Result<Option<u32>> {
        match self.special.end {
            End::Named(id) => self.checked(id).map(Some),
            End::Usual(class, model) => {
                let fits = |id: &u32| (*id as usize) < self.vocabulary;
                Ok(class.filter(fits).or(model.filter(fits)))
            }
        }
    }
    /// The token in front of a text: `bos_token` of the tokenizer's files or of its class. An error
    /// if the model has no room for it.
    pub fn begin_of_text(&self) -> Result<Option<u32>> {
        self.special.begin.map(|id| self.checked(id)).transpose()
    }
    /// The token where another one is hidden: `mask_token` of the tokenizer's files or of its class.
    /// An error if the model has no room for it.
    pub fn mask(&self) -> Result<Option<u32>> {
        self.special.mask.map(|id| self.checked(id)).transpose()
    }
    /// Every token that stands for no part of a text, in order.
    pub fn special_ids(&self) -> &[u32] {
        &self.special.all
    }
    /// The special tokens in front of a text, and those behind it.
    pub fn around(&self) -> Result<(Vec<u32>, Vec<u32>)> {
        let whole = self.unlimited(&self.whole, false)?;
        let encoding = self.ask(|| whole.encode_fast("a", true))?;
        let (ids, own) = (self.tokens(&encoding)?.ids, encoding.get_special_tokens_mask());
        let first = own.iter().position(|special| *special == 0).unwrap_or(ids.len());
        let end = own.iter().rposition(|special| *special == 0).map_or(first, |last| last + 1);
        Ok((ids[..first].to_vec(), ids[end..].to_vec()))
    }
    /// Tokens of its vocabulary, those that were added to it with them.
    pub fn size(&self) -> u64 {
        self.inner.get_vocab_size(true).min(self.vocabulary) as u64
    }
    /// The text of every token.
    pub fn token_texts(&self) -> Result<Vec<String>> {
        (0..self.size() as u32)
            .map(|id| Ok(self.ask(|| self.inner.decode(&[id], false))?.trim().to_string()))
            .collect()
    }
    /// For every token whether it goes on with the word of the token in front of it. An error if its
    /// vocabulary does not say so.
    pub fn continuations(&self) -> Result<Vec<bool>> {
        let tokens = (0..self.size() as u32).map(|id| self.inner.id_to_token(id).unwrap_or_default());
        let tokens: Vec<String> = tokens.collect();
        let marked = |mark: &str| tokens.iter().filter(|t| t.starts_with(mark)).count();
        // of word pieces those are marked that go on, elsewhere those that begin
        let (goes_on, begins) = (marked("##"), ["\u{120}", "\u{2581}"].into_iter().max_by_key(|m| marked(m)));
        match begins.filter(|mark| marked(mark) > 0) {
            _ if goes_on > 0 => Ok(tokens.iter().map(|t| t.starts_with("##")).collect()),
            Some(mark) => Ok(tokens.iter().map(|t| !t.starts_with(mark)).collect()),
            None => {
                let why = "its tokens do not say where words begin, so words cannot be hidden as a whole";
                Err(Error::file(Path::new(&self.name), why))
            }
        }
    }
    /// The tokens of every record of a data set, whole and with the special tokens that stand around
    /// a text.
    pub fn encode_with_special<'a>(&'a self, data: &'a Dataset) -> Result<Vec<Vec<u32>>> {
        let whole = self.unlimited(&self.whole, false)?;
        let short = |r: &'a Record| cut::shortened(r.text(), || self.splits());
        let texts: Vec<_> = data.records.iter().map(short).collect();
        let inputs: Vec<EncodeInput<'_>> = texts.iter().map(|text| (&**text).into()).collect();
        let encodings = self.ask(|| whole.encode_batch_fast(inputs, true))?;
        encodings.iter().map(|encoding| Ok(self.tokens(encoding)?.ids)).collect()
    }
}
