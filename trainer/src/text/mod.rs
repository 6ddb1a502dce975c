//! From texts and words to batches of tokens.
mod added;
pub mod batch;
pub mod blocks;
mod charsmap;
pub mod companions;
mod configure;
mod cut;
mod decode;
pub mod example;
pub mod examples;
mod fields;
mod guarded;
pub mod ints;
pub mod shuffle;
mod splits;
pub mod tokenizer;
mod tokenizer_class;
pub mod windows;
