//! The arguments of `engraft compare`.
use super::shared::at_least_one;
use clap::Args;
use std::path::PathBuf;

/// `engraft compare`.
#[derive(Debug, Args)]
pub struct Compare {
    /// What `engraft eval --predictions` wrote
    #[arg(value_name = "FILE")]
    pub first: PathBuf,
    /// The same of other runs, on the same examples; with several of them the probabilities are
    /// corrected for their number (Holm)
    #[arg(value_name = "FILE", num_args = 1.., required = true)]
    pub others: Vec<PathBuf>,
    /// The score to compare by; all that they have if not given
    #[arg(long, value_name = "SCORE")]
    pub metric: Option<String>,
    /// Samples that are drawn
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = at_least_one)]
    pub trials: usize,
    /// The seed of the samples
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub seed: u64,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
