//! The arguments of `engraft meta`: those of training that it follows, and how it learns to learn.
use std::path::PathBuf;

use clap::Args;

use super::Train;
use super::shared::at_least_one;
use crate::program::choose::one_of;
use crate::program::meta::{Few, Plan};
use crate::program::options::{Mark, Options, Settings, Variant};
use engraft::meta::{
    episodes::Shape,
    inner::{Inner, Rule},
    outer::{Algorithm, Outer},
};
use engraft::{Error, Result};

/// `engraft meta`.
#[derive(Debug, Args)]
pub struct Meta {
    /// How the adapter follows the tasks
    #[arg(long, value_parser = one_of::<Algorithm>(), default_value = "reptile")]
    pub algorithm: Algorithm,
    /// Outer steps
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    pub outer_steps: u64,
    /// What an outer step follows: Reptile's share at the beginning, which falls to 0; 1 if not given;
    /// MAML's learning rate; 0.01 if not given
    #[arg(long, value_name = "RATE")]
    pub outer_rate: Option<f64>,
    /// Tasks of an outer step
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = at_least_one)]
    pub tasks_per_step: usize,
    /// Steps in which a task is learned, at the rate --lr
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = at_least_one)]
    pub inner_steps: usize,
    /// How these steps follow the gradient
    #[arg(long, value_parser = one_of::<Rule>(), default_value = "adam")]
    pub inner_rule: Rule,
    /// New tasks, as --tasks has them, with --eval data: how good the adapter is as a start for them is
    /// said beside a new adapter
    #[arg(long, value_name = "NAME: KEY=VALUE, ..", num_args = 1.., conflicts_with = "ways")]
    pub targets: Vec<Variant>,
    /// From how many examples of each class a new task is learned; 4,8,16 of --targets if not given,
    /// 5 of episodes, which take one number
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = at_least_one)]
    pub shots: Vec<usize>,
    /// From how many sets of such examples each of --targets is learned
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = at_least_one)]
    pub support_sets: usize,
    /// Steps in which a new task is learned; as --inner-steps if not given
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub new_steps: Option<usize>,
    /// Learn from episodes instead of --tasks: so many classes of --train, and --shots of each
    #[arg(long, value_name = "N", value_parser = at_least_two, conflicts_with = "tasks")]
    pub ways: Option<usize>,
    /// Examples of each class that an episode asks for
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = at_least_one)]
    pub queries: usize,
    /// Classes that no outer step sees, drawn at random: new episodes are made of them, out of --eval
    /// if there is some, else out of --train; a third of all if not given
    #[arg(long, value_name = "N", value_parser = at_least_two, requires = "ways")]
    pub held_out_classes: Option<usize>,
    /// How many new episodes say how good a start is
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = at_least_one)]
    pub episodes: usize,
    /// A saved adapter to compare with as a start, such as one that several tasks trained together
    #[arg(long, value_name = "DIR")]
    pub baseline: Option<PathBuf>,
    /// Go on with the run in --out, which was stopped
    #[arg(long)]
    pub resume: bool,
    /// Read the options of training from a file; flags win over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The options of training.
    #[command(flatten)]
    pub options: Options,
}

fn at_least_two(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n >= 2 => Ok(n),
        _ => Err("it is a whole number, at least 2".into()),
    }
}

impl Meta {
    /// The settings of the run.
    pub fn settings(&self) -> Result<Settings> {
        let train = Train { config: self.config.clone(), resume: None, options: self.options.clone() };
        let given = train.given()?;
        if let Some(key) = given.without(Mark::Meta).keys_given().first() {
            let why =
                format!("it has no use for `{key}`; it follows {}", Options::keys_of(Mark::Meta).join(", "));
            return Err(Error::Option { option: "meta", value: "given that".into(), why });
        }
        match (self.ways, &given.tasks, &given.train) {
            (None, None, _) => return Err(Error::Needs { option: "meta", needs: "tasks" }),
            (Some(_), _, None) => return Err(Error::Needs { option: "ways", needs: "train" }),
            (Some(_), Some(_), _) => return Err(Error::Exclusive { one: "ways", other: "tasks" }),
            _ => {}
        }
        given.resolve()
    }
    /// How the adapter is learned and tried.
    pub fn plan(&self, s: &Settings) -> Result<Plan> {
        let refused =
            |option, value: String, why: &str| Err(Error::Option { option, value, why: why.into() });
        let usual = if self.algorithm == Algorithm::Reptile { 1.0 } else { 0.01 };
        let rate = self.outer_rate.unwrap_or(usual);
        if !(rate > 0.0 && rate.is_finite()) || (self.algorithm == Algorithm::Reptile && rate > 1.0) {
            let why = "it is a number above 0, for Reptile a share up to 1";
            return refused("outer-rate", rate.to_string(), why);
        }
        let outer = Outer { algorithm: self.algorithm, steps: self.outer_steps, rate };
        let (beta2, epsilon, clip) = (s.adam_beta2, s.adam_eps, s.clip);
        let inner = Inner { rule: self.inner_rule, steps: self.inner_steps, lr: s.lr, beta2, epsilon, clip };
        let few = match (self.ways, &self.shots[..]) {
            (Some(ways), [] | [_]) => {
                let shots = self.shots.first().copied().unwrap_or(5);
                let shape = Shape { ways, shots, queries: self.queries };
                Few::Episodes { shape, held_out: self.held_out_classes, count: self.episodes }
            }
            (Some(_), several) => {
                return refused("shots", format!("{several:?}"), "episodes have one number of examples");
            }
            (None, shots) => {
                let mut shots = if shots.is_empty() { vec![4, 8, 16] } else { shots.to_vec() };
                shots.sort_unstable();
                shots.dedup();
                Few::Targets { targets: self.targets.clone(), shots, sets: self.support_sets }
            }
        };
        let new = Inner { steps: self.new_steps.unwrap_or(inner.steps), ..inner };
        let (tasks, baseline) = (self.tasks_per_step, self.baseline.clone());
        Ok(Plan { outer, inner, new, tasks, few, baseline })
    }
}
