//! How answers are generated, for commands that evaluate and predict.
use super::args::at_least_one;
use clap::Args;
use engraft::{
    Error, Result,
    generation::Settings,
    learner::{Backbone, Learner},
    run::generating::Generating,
    text::tokenizer::Tokenizer,
};
use std::sync::Arc;

/// How to generate; what is not given is as the model's generation_config.json says.
#[derive(Debug, Clone, Copy, Default, Args)]
#[command(next_help_heading = "Generated answers")]
pub struct Answering {
    /// Sequences that are followed at once for each answer (beam search); 1, or as the model's
    /// generation_config.json says, if not given
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub num_beams: Option<usize>,
    /// The most new tokens of an answer; as many as a target has if not given
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub max_new_tokens: Option<usize>,
    /// A finished sequence of n tokens scores its log-probability / n to this power
    #[arg(long, value_name = "X", allow_negative_numbers = true, requires = "num_beams")]
    pub length_penalty: Option<f64>,
    /// No so many tokens come twice in the same order
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub no_repeat_ngram_size: Option<usize>,
}

impl Answering {
    /// What generates on this model.
    pub fn generating(&self, backbone: &Backbone, tokenizer: &Arc<Tokenizer>) -> Result<Arc<Generating>> {
        let s = Settings::read(backbone.directory())?;
        let s = Settings {
            num_beams: self.num_beams.unwrap_or(s.num_beams),
            max_new_tokens: self.max_new_tokens.or(s.max_new_tokens),
            length_penalty: self.length_penalty.unwrap_or(s.length_penalty),
            no_repeat_ngram_size: self.no_repeat_ngram_size.unwrap_or(s.no_repeat_ngram_size),
            ..s
        };
        s.check(backbone.model().info())?;
        Ok(Arc::new(Generating::new(s, tokenizer.clone())?))
    }
    /// What generates the answers of a learner, if its task asks for that; an error if something is
    /// said of it and the task does not.
    pub fn of(&self, learner: &Learner, tokenizer: &Arc<Tokenizer>) -> Result<Option<Arc<Generating>>> {
        if learner.task().generates(tokenizer.max_length()).is_some() {
            return self.generating(learner.backbone(), tokenizer).map(Some);
        }
        match self.given() {
            None => Ok(None),
            Some((option, value)) => {
                let why = format!("the task {} generates no answers", learner.task().name());
                Err(Error::Option { option, value, why })
            }
        }
    }
    /// Refuses what is said of generating where every row names its adapter: such rows are texts with
    /// labels.
    pub fn refuse_mixed(&self) -> Result<()> {
        match self.given() {
            None => Ok(()),
            Some((one, _)) => Err(Error::Exclusive { one, other: "adapter-column" }),
        }
    }
    /// One of these options that is given, and its value.
    pub fn given(&self) -> Option<(&'static str, String)> {
        let all = [
            ("num-beams", self.num_beams.map(|n| n.to_string())),
            ("max-new-tokens", self.max_new_tokens.map(|n| n.to_string())),
            ("length-penalty", self.length_penalty.map(|x| x.to_string())),
            ("no-repeat-ngram-size", self.no_repeat_ngram_size.map(|n| n.to_string())),
        ];
        all.into_iter().find_map(|(option, value)| Some((option, value?)))
    }
}
