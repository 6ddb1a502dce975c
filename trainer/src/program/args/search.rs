//! The arguments of `engraft search`: those of training, and how the search goes.
use std::path::PathBuf;

use clap::Args;

use super::Train;
use super::shared::at_least_one;
use crate::program::choose::one_of;
use crate::program::options::{Options, Settings};
use crate::program::search::Plan;
use engraft::search::Sampler;
use engraft::{Error, Result};

/// `engraft search`.
#[derive(Debug, Args)]
pub struct Search {
    /// What is searched: a table of options with their values, as in
    /// `lr = { low = 1e-5, high = 1e-2, log = true }` or `bottleneck = { choices = [8, 16, 64] }`
    #[arg(long, value_name = "FILE.toml")]
    pub space: PathBuf,
    /// How many values are tried
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = at_least_one)]
    pub trials: usize,
    /// Which values come next; tpe if not given, or random with --halving
    #[arg(long, value_parser = one_of::<Sampler>())]
    pub sampler: Option<Sampler>,
    /// Successive halving: of so many trials only the best goes on to so many times the steps
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..))]
    pub halving: Option<u64>,
    /// Go on with the search in --out, which was stopped or is to have more trials
    #[arg(long)]
    pub resume: bool,
    /// Read the options of training from a file; flags win over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The options of training.
    #[command(flatten)]
    pub options: Options,
}

impl Search {
    /// The settings that all trials share.
    pub fn settings(&self) -> Result<Settings> {
        let train = Train { config: self.config.clone(), resume: None, options: self.options.clone() };
        train.settings(Options::default())
    }
    /// How the space is gone through.
    pub fn plan(&self) -> Result<Plan> {
        let halving = self.halving.map(|n| n as usize);
        let sampler = match (self.sampler, halving) {
            (Some(Sampler::Tpe), Some(_)) => {
                let why = "with halving all trials begin before one is over, so that nothing is known of any";
                return Err(Error::Option { option: "sampler", value: "tpe".into(), why: why.into() });
            }
            (Some(sampler), _) => sampler,
            (None, Some(_)) => Sampler::Random,
            (None, None) => Sampler::Tpe,
        };
        Ok(Plan { space: self.space.clone(), trials: self.trials, sampler, halving })
    }
}
