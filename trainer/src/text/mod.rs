//! From texts and words to batches of tokens.
mod added;
pub mod batch;
pub mod blocks;
pub mod companions;
mod configure;
pub mod example;
mod fields;
pub mod tokenizer;
mod tokenizer_class;
pub mod windows;
