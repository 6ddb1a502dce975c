//! From texts and words to batches of tokens.
pub mod batch;
pub mod blocks;
mod cut;
pub mod example;
pub mod examples;
pub mod ints;
pub mod tokenizer;
pub mod windows;
