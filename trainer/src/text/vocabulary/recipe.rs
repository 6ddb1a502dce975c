//! A tokenizer in its parts.

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokenizers::{
    AddedToken, DecoderWrapper, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper,
};

use crate::text::charsmap::check_within;
use crate::text::guarded::guarded;

/// What a converter makes: the model, and the rest as `tokenizer.json` would have it (null for what
/// is not there).
pub(in crate::text) struct Recipe {
    pub model: ModelWrapper,
    pub normalizer: Value,
    pub pre_tokenizer: Value,
    pub post_processor: Value,
    pub decoder: Value,
    /// Tokens that the vocabulary file itself says are not to be cut.
    pub added: Vec<AddedToken>,
}

impl Recipe {
    /// Makes the tokenizer.
    pub fn make(self) -> Result<tokenizers::Tokenizer, String> {
        check_within(&self.normalizer)?;
        let mut tokenizer = tokenizers::Tokenizer::new(self.model);
        tokenizer
            .with_normalizer(part::<NormalizerWrapper>(self.normalizer)?)
            .with_pre_tokenizer(part::<PreTokenizerWrapper>(self.pre_tokenizer)?)
            .with_post_processor(part::<PostProcessorWrapper>(self.post_processor)?)
            .with_decoder(part::<DecoderWrapper>(self.decoder)?);
        guarded(|| Ok(tokenizer.add_tokens(&self.added)))?;
        Ok(tokenizer)
    }
}

/// A part of the tokenizer, of this JSON; none for null.
fn part<T: DeserializeOwned>(json: Value) -> Result<Option<T>, String> {
    guarded(|| Ok(serde_json::from_value(json)?))
}
