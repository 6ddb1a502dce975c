//! What `engraft` does without arguments.
use crate::program::options::Options;
use std::path::Path;

/// Where the demonstration goes unless said otherwise.
pub const OUT: &str = "engraft-demo";
/// A text to try a trained demonstration on.
pub const SAMPLE: &str = "The sleeping car was impressive, but the website was not pleasant this morning.";

/// The settings of the demonstration in `out`, for whatever the user does not say.
pub fn options(out: &Path) -> Options {
    Options {
        model: Some(out.join("backbone")),
        train: Some(vec![out.join("data/train.tsv")]),
        eval: Some(vec![out.join("data/eval.tsv")]),
        out: Some(out.into()),
        bottleneck: Some(32),
        epochs: Some(5),
        lr: Some(2e-3),
        max_length: Some(64),
        ..Options::default()
    }
}
