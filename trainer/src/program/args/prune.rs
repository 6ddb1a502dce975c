//! The arguments of `engraft prune`.
use super::shared::{Grafted, Reading, RunArgs, at_least_one};
use crate::program::choose::one_of;
use clap::Args;
use engraft::data::Column;
use std::path::PathBuf;

engraft::choices! {
    /// What is left out of an adapter.
    pub enum Parts {
        /// Neurons of its bottlenecks, for good: smaller adapters are written
        Neurons = "neurons",
        /// The adapters of whole layers, which `--leave-out` and `--skip-layers` leave out
        Layers = "layers",
    }
    /// What a neuron is worth.
    pub enum Worth {
        /// The norms of its weights, multiplied
        Magnitude = "magnitude",
        /// What the loss of the data changes by, to first order, if it is left out
        Effect = "effect",
    }
}

/// `engraft prune`.
#[derive(Debug, Args)]
pub struct Prune {
    /// The model.
    #[command(flatten)]
    pub grafted: Grafted,
    /// Data with labels, as `engraft train` takes it, on which what is left is evaluated
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    pub data: Vec<PathBuf>,
    /// What is left out
    #[arg(long, value_name = "PARTS", value_parser = one_of::<Parts>(), default_value = "neurons")]
    pub what: Parts,
    /// The shares of all neurons that are left out
    #[arg(long, value_name = "SHARE", value_delimiter = ',', default_value = "0.25,0.5,0.75")]
    pub shares: Vec<f64>,
    /// Which neurons go first: those worth least
    #[arg(long, value_name = "WORTH", value_parser = one_of::<Worth>(), default_value = "magnitude")]
    pub by: Worth,
    /// Leave out the least of all layers, instead of the same share in each
    #[arg(long)]
    pub across: bool,
    /// Batches from which effects are learned
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = at_least_one)]
    pub batches: usize,
    /// Where the smaller adapters are written, one in a directory for each share
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// The column of the label or of the words' labels
    #[arg(long, value_name = "COLUMN", help_heading = "Data")]
    pub label_column: Option<Column>,
    /// How the file is read.
    #[command(flatten)]
    pub reading: Reading,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}
