//! From texts to batches of tokens.
pub mod batch;
pub mod tokenizer;
