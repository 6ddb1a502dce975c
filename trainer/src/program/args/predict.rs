//! The arguments of `engraft predict`.
use std::path::PathBuf;

use clap::Args;

use super::Answering;
use super::shared::{Grafted, Reading, RunArgs, at_least_one};

/// `engraft predict`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("texts").required(true).args(["text", "input"]))]
pub struct Predict {
    /// The model.
    #[command(flatten)]
    pub grafted: Grafted,
    /// Texts, one an argument; words are split at spaces. What looks like a flag is a text as in
    /// --text=--flag
    #[arg(long, value_name = "T", num_args = 1.., conflicts_with_all = ["text_column", "text_pair_column", "adapter_column"])]
    pub text: Vec<String>,
    /// Texts in files, as `engraft train` takes them
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub input: Vec<PathBuf>,
    /// Tokens that are named for each one that is hidden (masked-lm) [default: 5]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub best: Option<usize>,
    /// How to generate.
    #[command(flatten)]
    pub answering: Answering,
    /// How the file is read.
    #[command(flatten)]
    pub reading: Reading,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}
