//! From texts and words to batches of tokens.
pub mod batch;
pub mod blocks;
pub mod example;
pub mod tokenizer;
pub mod windows;
