//! The arguments of the program.

mod adapters;
mod compare;
mod forward;
mod generate;
mod memory;
mod meta;
mod predict;
mod profile;
mod prune;
mod report;
mod route;
mod search;
mod shared;
mod texts;

pub use adapters::{Adapters, Convert, Diff, Fold, List, Manage, Merge, Rename};
pub use compare::Compare;
pub use forward::Forward;
pub use generate::Generate;
pub use memory::Memory;
pub use meta::Meta;
pub use predict::Predict;
pub use profile::Profile;
pub use prune::{Parts, Prune, Worth};
pub use report::Report;
pub use route::Route;
pub use search::Search;
pub use shared::{Grafted, Labels, Reading, RunArgs, StorageArgs, skipped};

pub use shared::at_least_one;

use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use super::answering::Answering;
use super::choose::one_of;
use super::options::{BackboneDtype, FILE, MODEL, Mark, Options, Settings};
use engraft::adapters::{arithmetic::STRATEGIES, fusion::METHODS as FUSIONS, methods::METHODS};
use engraft::run::directory::BEGUN;
use engraft::tasks::TASKS;
use engraft::{Error, Result};

/// Train adapters on frozen transformers.
///
/// Without arguments, `engraft` does what `engraft train` does without arguments: it trains an
/// adapter on a small backbone and a small data set that are built in.
#[derive(Debug, Parser)]
#[command(name = "engraft", version)]
pub struct Arguments {
    /// What to do; `train` if nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train an adapter, with a head where the task has one
    Train(Box<Train>),
    /// Train a fusion of saved adapters, which --adapters names: `train` with what a fusion needs
    Fuse(Box<Train>),
    /// Try options of training, and keep the best run
    Search(Box<Search>),
    /// Learn tasks one after the other and say what is forgotten: `train` with an --order of its --tasks
    Continual(Box<Train>),
    /// Learn an adapter from which new tasks are learned in a few steps from a few examples (Reptile,
    /// first-order MAML), and say how good a start it is
    Meta(Box<Meta>),
    /// Evaluate a saved adapter and head
    Eval(Eval),
    /// Say whether evaluations of the same examples differ by more than chance
    Compare(Compare),
    /// Predict the labels of texts, or how probable they are
    Predict(Predict),
    /// Make a router, which tells of a text what task it is of
    Route(Route),
    /// Show how much each adapter of a fusion contributes, layer by layer
    Shares(Shares),
    /// Draw a model: layers, sites, parameters, bytes, and what an adapter adds or would add where
    Inspect(Inspect),
    /// Show what a training step holds in memory: predicted and, if asked for, measured
    Memory(Memory),
    /// Run a model on token ids, without dropout, and save hidden states, logits, loss and
    /// gradients
    Forward(Forward),
    /// Continue texts with a language model
    Generate(Box<Generate>),
    /// Take some training steps and say where the time goes
    Profile(Box<Profile>),
    /// Leave neurons or layers out of an adapter, and say what is lost
    Prune(Prune),
    /// Set runs that are over side by side: scores, settings in which they differ, and, as a page,
    /// curves
    Report(Report),
    /// List, rename, merge, convert and compare saved adapters
    Adapters(Adapters),
    /// Write a copy of a model with an adapter added to its weights
    Fold(Fold),
    /// Write a model with its matrices stored in fewer bytes, once, for every command to load like
    /// any other
    Quantize(Quantize),
}

/// `engraft train`.
#[derive(Debug, Default, Args)]
pub struct Train {
    /// Read options from a file; its keys are the flags below without their dashes. Flags win over
    /// the file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Go on with the run in this directory, which was stopped or killed, with its own settings;
    /// only --threads, --json and --quiet may be given beside
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub resume: Option<PathBuf>,
    /// Every option, as a flag.
    #[command(flatten)]
    pub options: Options,
}

impl Train {
    /// The settings of the run that is to go on, if one is.
    pub fn resumed(&self) -> Result<Option<Settings>> {
        let Some(directory) = &self.resume else { return Ok(None) };
        let mut given = self.options.clone();
        let (threads, json, quiet) = (given.threads.take(), given.json.take(), given.quiet.take());
        if let Some(key) = given.keys_given().first() {
            let why = format!("the run goes on with its own settings, and `{key}` is one of them");
            let value = format!("{} with other settings", directory.display());
            return Err(Error::Option { option: "resume", value, why });
        }
        let file = [BEGUN, FILE].map(|name| directory.join(name)).into_iter().find(|file| file.exists());
        let file = file.ok_or_else(|| Error::file(directory, "there is no run in it to go on with"))?;
        let free = Options { threads, json, quiet, out: Some(directory.clone()), ..Options::default() };
        free.over(Options::read(file)?).resolve().map(Some)
    }
    fn given(&self) -> Result<Options> {
        let file = self.config.as_ref().map(Options::read).transpose()?.unwrap_or_default();
        let given = self.options.clone().over(file);
        // what is learned further is read as it was before
        let before = given.init.as_deref().map(Options::recorded).transpose()?.unwrap_or_default();
        Ok(given.over(before))
    }
    /// Flags over the file over `presets` over defaults.
    pub fn settings(&self, presets: Options) -> Result<Settings> {
        self.given()?.over(presets).resolve()
    }
    /// The output directory, if a flag or the file names one.
    pub fn out(&self) -> Result<Option<PathBuf>> {
        Ok(self.given()?.out)
    }
}

/// `engraft eval`.
#[derive(Debug, Args)]
pub struct Eval {
    /// The model.
    #[command(flatten)]
    pub grafted: Grafted,
    /// Data with labels, as `engraft train` takes it
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    pub data: Vec<PathBuf>,
    /// Write what is said of each example: an id, what is true, what was predicted, its loss, and
    /// what it adds to the scores, as a JSON object on a line
    #[arg(long, value_name = "FILE.jsonl")]
    pub predictions: Option<PathBuf>,
    /// How labels are read.
    #[command(flatten)]
    pub labels: Labels,
    /// Generate an answer to every source where the task is one of texts from texts, and compare it
    /// with the targets: ROUGE, BLEU and chrF
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          help_heading = "Generated answers")]
    pub predict_with_generate: Option<bool>,
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

/// `engraft shares`.
#[derive(Debug, Args)]
pub struct Shares {
    /// The model.
    #[command(flatten)]
    pub grafted: Grafted,
    /// Texts, with labels or without, as `engraft train` takes them
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    pub data: Vec<PathBuf>,
    /// Draw a heat map too, as .svg or .png
    #[arg(long, value_name = "FILE")]
    pub picture: Option<PathBuf>,
    /// How the file is read.
    #[command(flatten)]
    pub reading: Reading,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// `engraft inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// The backbone; config.json is enough, and weights that are not there are taken to be f32
    #[arg(long, value_name = MODEL)]
    pub model: PathBuf,
    /// How it is stored.
    #[command(flatten)]
    pub stored: StorageArgs,
    /// An adapter's directory; or, where there is none of this name, a configuration as `lora[r=8]`
    /// or `houlsby`, several with `|` between them: what it would add
    #[arg(long, value_name = "DIR | ADAPTER")]
    pub adapter: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `engraft quantize`.
#[derive(Debug, Args)]
pub struct Quantize {
    /// The backbone
    #[arg(long, value_name = MODEL)]
    pub model: PathBuf,
    /// What its matrices are to be stored as
    #[arg(long, value_name = "TYPE", value_parser = one_of::<BackboneDtype>())]
    pub dtype: BackboneDtype,
    /// Where config.json, the tokenizer and model.safetensors are written
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Threads to use; 0 for one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

impl Arguments {
    /// Reads the program's arguments; prints help, version and mistakes itself and ends the program
    /// with them.
    pub fn from_env() -> Self {
        // a run.toml and a report could not name it
        if let Some(bad) = std::env::args_os().find(|arg| arg.to_str().is_none()) {
            let why = format!("the argument {bad:?} is not UTF-8\n");
            Self::command().error(clap::error::ErrorKind::InvalidUtf8, why).exit();
        }
        let matches = Self::documented().get_matches_from(texts::mark(std::env::args_os()));
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// The command line, its training flags with their defaults, which clap does not know because a
    /// default must not win over a file.
    fn documented() -> clap::Command {
        let defaults = toml::Table::try_from(Settings::default().to_options()).unwrap_or_default();
        let with_defaults = |command: clap::Command| {
            command.mut_args(|arg| {
                let Some(value) = arg.get_long().and_then(|flag| defaults.get(flag)) else { return arg };
                let value = match value {
                    toml::Value::Boolean(_) => return arg,
                    toml::Value::String(text) => text.clone(),
                    toml::Value::Float(small) if *small < 1e-3 => format!("{small:e}"),
                    other => other.to_string(),
                };
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                arg.help(format!("{help} [default: {value}]"))
            })
        };
        let mut command = Self::command();
        for name in command.get_subcommands().map(|c| c.get_name().to_string()).collect::<Vec<_>>() {
            command = command.mut_subcommand(name, |c| c.mut_args(listed));
        }
        let merge = |c: clap::Command| c.mut_subcommand("merge", |c| c.mut_args(listed));
        command = command.mut_subcommand("adapters", merge);
        for name in ["fuse", "search", "meta"] {
            command = command.mut_subcommand(name, with_defaults);
        }
        command.mut_subcommand("train", with_defaults).mut_subcommand("profile", |profile| {
            let keys = Options::keys_of(Mark::Run);
            let of_a_run =
                |arg: &clap::Arg| arg.get_long().is_some_and(|flag| keys.iter().any(|key| key == flag));
            with_defaults(profile)
                .mut_args(|arg| if of_a_run(&arg) { arg.hide(true) } else { arg })
                .mut_arg("train", |arg| {
                    arg.help("Training data, as `engraft train` takes it; random tokens if there is none")
                })
        })
    }
}

/// A flag that takes names out of a registry, with the names in its help.
fn listed(arg: clap::Arg) -> clap::Arg {
    let names: Vec<String> = match (arg.get_long(), arg.get_value_names()) {
        (Some("task"), _) => TASKS.iter().map(|t| format!("{}: {}", t.name, t.help)).collect(),
        (Some("adapter"), Some([value])) if value == "ADAPTER" => {
            METHODS.iter().map(|m| m.names.join(", ")).collect()
        }
        (Some("method"), _) => STRATEGIES.iter().map(|s| format!("{}: {}", s.name, s.help)).collect(),
        (Some("fusion"), _) => FUSIONS.iter().map(|m| m.names.join(", ")).collect(),
        _ => return arg,
    };
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    arg.help(format!("{help} [{}]", names.join("; ")))
}

#[cfg(test)]
mod tests;
