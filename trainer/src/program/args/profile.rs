//! The arguments of `engraft profile`: those of training, without what only a run as a whole can
//! use.
use std::path::PathBuf;

use clap::Args;

use super::shared::at_least_one;
use crate::program::options::{Mark, Options, Settings};
use engraft::{Error, Result};

/// `engraft profile`.
#[derive(Debug, Args)]
pub struct Profile {
    /// Read options from a file, as `engraft train` does; what it says about evaluation, saving,
    /// caching and the length of a run is left out
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Steps to record
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub steps: u64,
    /// Steps before them that are not recorded
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub warmup: u64,
    /// Without --train: tokens of each random text; 128, or as many as the model takes, if not
    /// given
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub length: Option<usize>,
    /// Write a trace for Perfetto (or chrome://tracing)
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// The options of training.
    #[command(flatten)]
    pub options: Options,
}

impl Profile {
    /// Flags over the file over defaults. Flags that say nothing about a step are refused.
    pub fn settings(&self) -> Result<Settings> {
        let options = self.options.clone();
        if let Some(option) = options.only(Mark::Run).keys_given().first() {
            return Err(Error::Model(format!(
                "`{option}` cannot be given to `engraft profile`: steps are taken at a constant rate for their time alone: \
                 nothing is evaluated, saved, cached, planned or streamed"
            )));
        }
        let file = self.config.as_ref().map(Options::read).transpose()?.unwrap_or_default();
        if file.memory_budget.is_some() && options.activations.is_none() {
            let why = "a plan depends on the whole run: say with --activations what layers keep";
            let value = "taken from the file".into();
            return Err(Error::Option { option: "memory-budget", value, why: why.into() });
        }
        let options = options.over(file.without(Mark::Run));
        let of_data = [
            ("max-length", options.max_length.is_some()),
            ("header", options.header.is_some()),
            ("quotes", options.quotes.is_some()),
            ("no-shuffle", options.no_shuffle.is_some()),
        ];
        match (&options.train, of_data.into_iter().find(|(_, given)| *given)) {
            (Some(_), _) if self.length.is_some() => Err(Error::Exclusive { one: "length", other: "train" }),
            (None, Some((option, _))) => Err(Error::Needs { option, needs: "train" }),
            _ => options.resolve(),
        }
    }
}
