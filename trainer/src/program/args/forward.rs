//! The arguments of `engraft forward`.
use super::shared::StorageArgs;
use crate::program::choose::one_of;
use crate::program::options::{Backend, CompatChoice, Layers, MODEL};
use clap::Args;
use std::path::PathBuf;

/// `engraft forward`.
#[derive(Debug, Args)]
pub struct Forward {
    /// The backbone
    #[arg(long, value_name = MODEL)]
    pub model: PathBuf,
    /// How it is stored.
    #[command(flatten)]
    pub stored: StorageArgs,
    /// An adapter's directory
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// Layers whose adapters do not answer, counted from 0, as in `0-2,5` (AdapterDrop)
    #[arg(long, value_name = "LAYERS", requires = "adapter")]
    pub skip_layers: Option<Layers>,
    /// Compute compositions as a library does where it is not what it documents; as in the run.toml
    /// beside the adapter if not given
    #[arg(long, value_parser = one_of::<CompatChoice>(), requires = "adapter")]
    pub compat: Option<CompatChoice>,
    /// What is learned, where neither a head nor a run.toml says so
    #[arg(long, value_name = "TASK")]
    pub task: Option<String>,
    /// JSON with `input_ids`, a list of lists, and perhaps `token_type_ids` and `labels`: a number
    /// or a list for each sequence, as the task wants
    #[arg(long, value_name = "FILE.json")]
    pub ids: PathBuf,
    /// Where to save `last_hidden_state`, `cu_seqlens`, `logits` and, with labels, `loss`
    #[arg(long, value_name = "FILE.safetensors")]
    pub out: PathBuf,
    /// Save the loss's gradient of every trained tensor too, as `grad.NAME`; needs labels
    #[arg(long)]
    pub grad: bool,
    /// Threads to use; 0 for one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
    /// Where to compute
    #[arg(long, value_parser = one_of::<Backend>(), default_value = "cpu")]
    pub device: Backend,
}
