//! The arguments of `engraft memory`.
use super::shared::{StorageArgs, at_least_one};
use crate::program::choose::one_of;
use crate::program::options::{ActivationsChoice, MODEL, Methods, ReductionFactor};
use clap::Args;
use engraft::run::adapter_drop::AdapterDrop;
use std::path::PathBuf;

/// `engraft memory`.
#[derive(Debug, Clone, Args)]
pub struct Memory {
    /// The backbone; a prediction needs its config.json, and takes weights that are not
    /// there to be f32
    #[arg(long, value_name = MODEL)]
    pub model: PathBuf,
    /// How it is stored.
    #[command(flatten)]
    pub stored: StorageArgs,
    /// Texts in the batch
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = at_least_one)]
    pub batch: usize,
    /// Tokens of each text; 128, or as many as the model takes, if not given
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub length: Option<usize>,
    /// Tokens of each target of seq2seq; 128 if not given
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub max_target_length: Option<usize>,
    /// What is learned, which decides the head and what is read of each text
    #[arg(long, value_name = "TASK")]
    pub task: Option<String>,
    /// What is trained below the head: adapters as --adapter of `engraft train` takes them, `head`
    /// and `full`; one of each method if not given
    #[arg(long, value_name = "METHODS")]
    pub methods: Option<Methods>,
    /// Width of the bottleneck; the preset's if not given
    #[arg(long, value_name = "N", value_parser = at_least_one, conflicts_with = "reduction_factor")]
    pub bottleneck: Option<usize>,
    /// Hidden size divided by the bottleneck's width; per layer as in `8,0=4,2=16`
    #[arg(long, value_name = "F")]
    pub reduction_factor: Option<ReductionFactor>,
    /// Leave the adapters of so many lower layers out of every step, drawn anew from 0 to this or
    /// from a range as 1-5 (AdapterDrop): the steps that leave out the fewest are shown
    #[arg(long, value_name = "N")]
    pub adapter_drop: Option<AdapterDrop>,
    /// What every layer keeps for the backward pass
    #[arg(long, value_delimiter = ',', value_parser = one_of::<ActivationsChoice>(), default_value = "f32,recompute")]
    pub activations: Vec<ActivationsChoice>,
    /// Take the steps really, each in a process of its own, and compare; fails if a byte differs
    #[arg(long)]
    pub measure: bool,
    /// Threads to use; 0 for one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
    /// Print one JSON object
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Print CSV
    #[arg(long)]
    pub csv: bool,
    /// Measure in this very process and print what was found: what `--measure` starts
    #[arg(long, hide = true)]
    pub here: bool,
}
