//! The tokens of prompts that are made of sources.
use super::{
    cut,
    tokenizer::{TokenizedText, Tokenizer},
};
use crate::{
    data::Dataset,
    error::{Error, Result},
};
use std::{borrow::Cow, ops::Range};
use tokenizers::{EncodeInput, Encoding, TruncationDirection};

impl Tokenizer {
    /// The tokens of what stands around each record's text and of the text itself, special tokens
    /// included, at most so many: of a text that is too long as much is left as there is room for.
    /// An error if there is no room for any of it.
    pub fn encode_prompts(
        &self,
        data: &Dataset,
        (before, behind): (&str, &str),
        most: usize,
    ) -> Result<Vec<TokenizedText>> {
        let whole = self.unlimited(&self.whole, false)?;
        let sources = data.records.iter().map(|r| cut::shortened(r.text(), || self.splits()));
        let sources: Vec<Cow<'_, str>> = sources.collect();
        let prompts: Vec<String> = sources.iter().map(|s| format!("{before}{s}{behind}")).collect();
        let inputs = prompts.iter().map(|p| EncodeInput::from(p.as_str())).collect();
        let encodings = self.ask(|| whole.encode_batch(inputs, true))?;
        let all = encodings.into_iter().zip(prompts).zip(&sources).zip(&data.records);
        all.map(|(((mut encoding, mut prompt), source), record)| {
            let (mut left, from) = (source.len(), before.len());
            let mut too_many = encoding.len().saturating_sub(most);
            let is_cut = too_many > 0;
            while too_many > 0 {
                let keep = self.less(&encoding, &prompt, from..from + left, too_many).ok_or_else(|| {
                    let why = format!("the prompt has room for {most} tokens, and what stands around the text takes all of it");
                    Error::line(&data.path, record.line, why)
                })?;
                left = keep.len();
                prompt = format!("{before}{}{behind}", &prompt[keep]);
                encoding = self.ask(|| whole.encode(prompt.as_str(), true))?;
                too_many = encoding.len().saturating_sub(most);
            }
            let tokens = TokenizedText { is_cut, ..self.tokens(&encoding)? };
            match tokens.ids.is_empty() {
                true => Err(Error::line(&data.path, record.line, format!("{} makes no token of it", self.name))),
                false => Ok(tokens),
            }
        })
        .collect()
    }
    /// What is left of the part of a prompt, in bytes, without so many of its tokens at the end at
    /// which texts are cut; none if it has no more than these.
    fn less(
        &self,
        encoding: &Encoding,
        prompt: &str,
        part: Range<usize>,
        tokens: usize,
    ) -> Option<Range<usize>> {
        let special = encoding.get_special_tokens_mask();
        let own = encoding
            .get_offsets()
            .iter()
            .zip(special)
            .filter(|(o, special)| **special == 0 && part.contains(&o.0) && o.0 < o.1);
        let own: Vec<(usize, usize)> = own.map(|(o, _)| *o).collect();
        let left = own.len().checked_sub(tokens).filter(|left| *left > 0)?;
        let (mut start, mut end) = (part.start, part.end);
        match self.inner.get_truncation().map_or(TruncationDirection::Right, |t| t.direction) {
            TruncationDirection::Right => end = own[left].0,
            TruncationDirection::Left => start = own[tokens - 1].1,
        }
        // a character may take several tokens
        while !prompt.is_char_boundary(end) {
            end -= 1;
        }
        while !prompt.is_char_boundary(start) {
            start += 1;
        }
        (start < end).then_some(start..end)
    }
}
