//! Arguments of `engraft generate`.
use super::{RunArgs, StorageArgs, at_least_one};
use crate::program::options::{CompatChoice, Composed, Layers, MODEL};
use clap::Args;
use engraft::data::Column;
use engraft::generation::{EarlyStopping, Settings};
use engraft::{Error, Result};
use std::path::PathBuf;

/// `engraft generate`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("prompts").required(true).args(["prompt", "input", "ids"]))]
pub struct Generate {
    /// The model; its generation_config.json says what is not given
    #[arg(long, value_name = MODEL)]
    pub model: PathBuf,
    /// How it is stored.
    #[command(flatten)]
    pub stored: StorageArgs,
    /// An adapter's directory
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// The adapters put together in another way, as --setup of `engraft train` takes it
    #[arg(long, value_name = "SETUP", requires = "adapter")]
    pub setup: Option<Composed>,
    /// Layers whose adapters do not answer, counted from 0, as in `0-2,5` (AdapterDrop)
    #[arg(long, value_name = "LAYERS", requires = "adapter")]
    pub skip_layers: Option<Layers>,
    /// Compute compositions as a library does where it is not what it documents; as in the run.toml
    /// beside the adapter if not given
    #[arg(long, value_parser = crate::program::choose::one_of::<CompatChoice>(), requires = "adapter")]
    pub compat: Option<CompatChoice>,
    /// Texts to go on from, or what an encoder-decoder reads, one an argument. What looks like a
    /// flag is a text as in --prompt=--flag
    #[arg(long, value_name = "T", num_args = 1..)]
    pub prompt: Vec<String>,
    /// Texts in files, as `engraft train` takes them
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub input: Vec<PathBuf>,
    /// JSON with `input_ids`, a list of lists of token ids, instead of texts; with --json the
    /// result is token ids too
    #[arg(long, value_name = "FILE.json")]
    pub ids: Option<PathBuf>,
    /// In front of each text that an encoder-decoder reads, as in "summarize: "
    #[arg(long, value_name = "TEXT", conflicts_with = "ids")]
    pub source_prefix: Option<String>,
    /// The column of the text, by name or counted from 0
    #[arg(long, value_name = "COLUMN", requires = "input")]
    pub text_column: Option<Column>,
    /// Prompts that are continued at once
    #[arg(long, value_name = "N", value_parser = at_least_one, default_value_t = 32)]
    pub batch_size: usize,
    /// Print tokens as they come, one prompt after the other
    #[arg(long, conflicts_with = "json")]
    pub stream: bool,
    /// How to generate.
    #[command(flatten)]
    pub how: How,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// How to generate: fields of generation_config.json.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Generation")]
pub struct How {
    /// The most new tokens [default: 20]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub max_new_tokens: Option<usize>,
    /// Instead: the most tokens, those of the prompt included, or the one that the decoder of an
    /// encoder-decoder starts with
    #[arg(long, value_name = "N", conflicts_with = "max_new_tokens")]
    pub max_length: Option<usize>,
    /// The least new tokens
    #[arg(long, value_name = "N")]
    pub min_new_tokens: Option<usize>,
    /// Instead: the least tokens, those of the prompt or the start included
    #[arg(long, value_name = "N", conflicts_with = "min_new_tokens")]
    pub min_length: Option<usize>,
    /// Draw tokens instead of taking the most probable one
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub sample: Option<bool>,
    /// Divide scores by this number before a token is drawn
    #[arg(long, value_name = "T")]
    pub temperature: Option<f32>,
    /// Draw from so many tokens; 0 for all [default: 50]
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Draw from the most probable tokens that together have this probability
    #[arg(long, value_name = "P")]
    pub top_p: Option<f32>,
    /// Draw from tokens with this share of the probability of the most probable one
    #[arg(long, value_name = "P")]
    pub min_p: Option<f32>,
    /// Decides what is drawn [default: 42]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Sequences that are followed at once for each prompt (beam search) [default: 1]
    #[arg(long, value_name = "N")]
    pub num_beams: Option<usize>,
    /// A finished sequence of n tokens scores its log-probability / n to this power [default: 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub length_penalty: Option<f64>,
    /// When a beam search ends: true, false or never [default: false]
    #[arg(long, value_name = "WHEN", value_parser = early)]
    pub early_stopping: Option<EarlyStopping>,
    /// Sequences for each prompt [default: 1]
    #[arg(long, value_name = "N")]
    pub num_return_sequences: Option<usize>,
    /// Makes tokens that are there already less likely [default: 1]
    #[arg(long, value_name = "X")]
    pub repetition_penalty: Option<f32>,
    /// Makes tokens of the prompt more likely [default: 1]
    #[arg(long, value_name = "X")]
    pub encoder_repetition_penalty: Option<f32>,
    /// No so many tokens come twice in the same order
    #[arg(long, value_name = "N")]
    pub no_repeat_ngram_size: Option<usize>,
    /// None that come in the prompt
    #[arg(long, value_name = "N")]
    pub encoder_no_repeat_ngram_size: Option<usize>,
    /// Tokens, or several after each other as in 3-17, that never come
    #[arg(long, value_name = "IDS", value_delimiter = ',', value_parser = word)]
    pub bad_words_ids: Vec<Word>,
    /// Tokens that never come
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    pub suppress_tokens: Vec<u32>,
    /// Tokens that do not come first
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    pub begin_suppress_tokens: Vec<u32>,
    /// The token behind a prompt of one, or the first one of an encoder-decoder
    #[arg(long, value_name = "ID")]
    pub forced_bos_token_id: Option<u32>,
    /// The token that ends a sequence of the greatest length
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    pub forced_eos_token_id: Vec<u32>,
    /// The token in front of what an encoder-decoder says
    #[arg(long, value_name = "ID")]
    pub decoder_start_token_id: Option<u32>,
    /// Tokens that end a sequence; `none` for no such token
    #[arg(long, value_name = "IDS", value_parser = ends)]
    pub eos_token_id: Option<Ends>,
    /// Compute every pass from the first token on: slower, the same result
    #[arg(long)]
    pub no_cache: bool,
}
/// Tokens that never come in this order.
#[derive(Clone, Debug, PartialEq)]
pub struct Word(Vec<u32>);
/// Tokens that end a sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Ends(Vec<u32>);

fn early(text: &str) -> Result<EarlyStopping, String> {
    match text {
        "true" => Ok(EarlyStopping::AtOnce),
        "false" => Ok(EarlyStopping::Heuristic),
        "never" => Ok(EarlyStopping::Never),
        _ => Err("it is true, false or never".into()),
    }
}
fn numbers(text: &str, between: char) -> Result<Vec<u32>, String> {
    let one = |n: &str| n.trim().parse().map_err(|_| format!("`{n}` is not the number of a token"));
    text.split(between).map(one).collect()
}
fn word(text: &str) -> Result<Word, String> {
    numbers(text, '-').map(Word)
}
fn ends(text: &str) -> Result<Ends, String> {
    if text == "none" { Ok(Ends(vec![])) } else { numbers(text, ',').map(Ends) }
}

impl How {
    /// These over those of the model's files. What is given for drawing alone needs drawing.
    pub fn over(&self, s: Settings) -> Result<Settings> {
        let list = |given: &[u32], other: Vec<u32>| if given.is_empty() { other } else { given.to_vec() };
        let s = Settings {
            max_new_tokens: self.max_new_tokens.or(s.max_new_tokens).filter(|_| self.max_length.is_none()),
            max_length: self.max_length.or(s.max_length),
            min_new_tokens: self.min_new_tokens.or(s.min_new_tokens).filter(|_| self.min_length.is_none()),
            min_length: self.min_length.unwrap_or(s.min_length),
            do_sample: self.sample.unwrap_or(s.do_sample),
            temperature: self.temperature.or(s.temperature),
            top_k: match self.top_k {
                None => s.top_k,
                Some(k) => Some(k).filter(|k| *k > 0),
            },
            top_p: self.top_p.or(s.top_p),
            min_p: self.min_p.or(s.min_p),
            seed: self.seed.unwrap_or(s.seed),
            num_beams: self.num_beams.unwrap_or(s.num_beams),
            length_penalty: self.length_penalty.unwrap_or(s.length_penalty),
            early_stopping: self.early_stopping.unwrap_or(s.early_stopping),
            num_return_sequences: self.num_return_sequences.unwrap_or(s.num_return_sequences),
            repetition_penalty: self.repetition_penalty.unwrap_or(s.repetition_penalty),
            encoder_repetition_penalty: self
                .encoder_repetition_penalty
                .unwrap_or(s.encoder_repetition_penalty),
            no_repeat_ngram_size: self.no_repeat_ngram_size.unwrap_or(s.no_repeat_ngram_size),
            encoder_no_repeat_ngram_size: self
                .encoder_no_repeat_ngram_size
                .unwrap_or(s.encoder_no_repeat_ngram_size),
            bad_words_ids: match self.bad_words_ids.is_empty() {
                true => s.bad_words_ids,
                false => self.bad_words_ids.iter().map(|w| w.0.clone()).collect(),
            },
            suppress_tokens: list(&self.suppress_tokens, s.suppress_tokens),
            begin_suppress_tokens: list(&self.begin_suppress_tokens, s.begin_suppress_tokens),
            forced_bos_token_id: self.forced_bos_token_id.or(s.forced_bos_token_id),
            forced_eos_token_id: list(&self.forced_eos_token_id, s.forced_eos_token_id),
            decoder_start_token_id: self.decoder_start_token_id.or(s.decoder_start_token_id),
            eos_token_id: self.eos_token_id.as_ref().map_or(s.eos_token_id, |ends| ends.0.clone()),
            use_cache: s.use_cache && !self.no_cache,
            ..s
        };
        let of_drawing = [
            ("temperature", self.temperature.is_some()),
            ("top-k", self.top_k.is_some()),
            ("top-p", self.top_p.is_some()),
            ("min-p", self.min_p.is_some()),
            ("seed", self.seed.is_some()),
        ];
        let of_search = [
            ("length-penalty", self.length_penalty.is_some()),
            ("early-stopping", self.early_stopping.is_some()),
        ];
        if let Some((option, _)) = of_drawing.into_iter().find(|(_, given)| *given && !s.do_sample) {
            return Err(Error::Needs { option, needs: "sample" });
        }
        if let Some((option, _)) = of_search.into_iter().find(|(_, given)| *given && s.num_beams == 1) {
            return Err(Error::Needs { option, needs: "num-beams" });
        }
        Ok(s)
    }
}
