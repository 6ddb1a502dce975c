//! The arguments of `engraft route`.
use std::path::PathBuf;

use clap::Args;

use super::shared::{RunArgs, StorageArgs, at_least_one};
use crate::program::choose::one_of;
use crate::program::options::{MODEL, Options, Settings, Variant};
use engraft::Result;
use engraft::routing::Pooling;

/// `engraft route`.
#[derive(Debug, Args)]
pub struct Route {
    /// Read the tasks from a file, as `engraft train` takes one: a table in [tasks] for each. What
    /// else stands in it is followed as far as it is about data and the backbone
    #[arg(long, value_name = "FILE", required_unless_present = "tasks")]
    pub config: Option<PathBuf>,
    /// The tasks, as `engraft train` takes them: of each the texts of `train` say what it is like,
    /// and those of `eval` test the router; a tenth of `train` if there are none
    #[arg(long, value_name = "NAME: KEY=VALUE, ..", num_args = 1..)]
    pub tasks: Option<Vec<Variant>>,
    /// The backbone; that of the file if not given
    #[arg(long, value_name = MODEL)]
    pub model: Option<PathBuf>,
    /// How it is stored.
    #[command(flatten)]
    pub stored: StorageArgs,
    /// What the last hidden states of a text become
    #[arg(long, value_parser = one_of::<Pooling>(), default_value = "mean")]
    pub features: Pooling,
    /// Of each task at most so many texts of `train`, drawn at random; all if not given
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub max_texts: Option<usize>,
    /// The most tokens of a text; as in the file if not given, else 128
    #[arg(long, value_name = "N")]
    pub max_length: Option<usize>,
    /// Texts in a batch
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one)]
    pub batch_size: usize,
    /// Decides which texts are held out
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub seed: u64,
    /// Where the router is written
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}

impl Route {
    /// The settings that say what the tasks and the backbone are.
    pub fn settings(&self) -> Result<Settings> {
        let file = self.config.as_ref().map(Options::read).transpose()?.unwrap_or_default();
        let given = Options {
            model: self.model.clone(),
            tasks: self.tasks.clone(),
            max_length: self.max_length,
            ..self.stored.options()
        };
        // a run's directory is of the run, and so is its name
        given.over(Options { out: None, name: None, ..file }).resolve()
    }
}
