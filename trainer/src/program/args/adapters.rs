//! The arguments of the commands that manage saved adapters.
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::shared::at_least_one;
use crate::program::choose::one_of;
use crate::program::options::{CompatChoice, FormatChoice, MODEL, SavedAdapter};

/// `engraft adapters`.
#[derive(Debug, Args)]
pub struct Adapters {
    /// What to do.
    #[command(subcommand)]
    pub command: Manage,
}

/// What can be done with saved adapters.
#[derive(Debug, Subcommand)]
pub enum Manage {
    /// List the adapters, heads and compositions in directories, and all below them
    List(List),
    /// Give an adapter another name, in its files and in those of the head that is called as it is
    Rename(Rename),
    /// Make several adapters into one: averages, task arithmetic, TIES, DARE
    Merge(Merge),
    /// Write an adapter in another library's format, where that can say it exactly
    Convert(Convert),
    /// Show how two adapters differ; the exit status is 0 if they do not, 1 if they do, 2 if that
    /// is not known
    Diff(Diff),
}

/// `engraft adapters list`.
#[derive(Debug, Args)]
pub struct List {
    /// Where to look
    #[arg(value_name = "DIR", required = true)]
    pub directories: Vec<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `engraft adapters rename`.
#[derive(Debug, Args)]
pub struct Rename {
    /// The adapter's directory
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Its new name
    #[arg(value_name = "NEW")]
    pub name: String,
    /// Where it is written
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// `engraft adapters merge`.
#[derive(Debug, Args)]
pub struct Merge {
    /// The model that they are for; its config.json is enough
    #[arg(long, value_name = MODEL)]
    pub model: PathBuf,
    /// The adapters: directories, each perhaps with another name as in NAME=DIR
    #[arg(long, value_name = "DIR", num_args = 1.., required = true)]
    pub adapters: Vec<SavedAdapter>,
    /// One number for each adapter, as in 0.5,0.3,-0.2; the same for all if not given, where the
    /// method allows that
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', allow_negative_numbers = true)]
    pub weights: Option<Vec<f64>>,
    /// How they are made into one
    #[arg(long, value_name = "METHOD")]
    pub method: String,
    /// Bring the weights to a sum of one, or do not; as the method's library does if not given
    #[arg(long, value_name = "BOOL")]
    pub normalise: Option<bool>,
    /// The rank of a decomposition; the largest of the adapters' if not given
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub rank: Option<usize>,
    /// The share of elements that is kept, above 0 to 1
    #[arg(long, value_name = "SHARE")]
    pub density: Option<f64>,
    /// How a sign is elected: `total`, by the sum, or `frequency`, by number [default: total]
    #[arg(long, value_name = "HOW")]
    pub majority_sign: Option<String>,
    /// Decides random choices [default: 0]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Average the heads too, with the same weights, brought to a sum of one unless --normalise is
    /// false
    #[arg(long)]
    pub heads: bool,
    /// The new adapter's name
    #[arg(long, value_name = "NAME", default_value = "merged")]
    pub name: String,
    /// Do as a library does where it is not what it documents
    #[arg(long, value_parser = one_of::<CompatChoice>())]
    pub compat: Option<CompatChoice>,
    /// Where it is written
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `engraft adapters convert`.
#[derive(Debug, Args)]
pub struct Convert {
    /// The adapter's directory
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// The format
    #[arg(long, value_name = "FORMAT", value_parser = one_of::<FormatChoice>())]
    pub to: FormatChoice,
    /// The model that it is for; its config.json is enough
    #[arg(long, value_name = MODEL)]
    pub model: PathBuf,
    /// Its name, where PEFT's files hold none; `default` if not given
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Where it is written
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// `engraft adapters diff`.
#[derive(Debug, Args)]
pub struct Diff {
    /// One adapter's directory
    #[arg(value_name = "A")]
    pub first: PathBuf,
    /// The other's
    #[arg(value_name = "B")]
    pub second: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `engraft fold`.
#[derive(Debug, Args)]
pub struct Fold {
    /// The model
    #[arg(long, value_name = MODEL)]
    pub model: PathBuf,
    /// The adapter's
    #[arg(long, value_name = "DIR")]
    pub adapter: PathBuf,
    /// Where the new model is written
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Threads to use; 0 for one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
