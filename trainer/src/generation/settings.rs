//! How to generate.
use crate::{Error, Result};
use engraft_models::ModelInfo;

/// When a beam search ends, once there are as many finished sequences as beams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EarlyStopping {
    /// When none of the running ones, were it as long as it is now, would score higher than the
    /// worst of them (`false`).
    #[default]
    Heuristic,
    /// At once (`true`).
    AtOnce,
    /// When none of the running ones can score higher any more (`"never"`).
    Never,
}

/// How to generate: the fields of `transformers`' `GenerationConfig`, with its defaults, and a
/// seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The most tokens of a sequence, those that it begins with included: those of its prompt, or
    /// the token that a decoder beside an encoder starts with. None: 20 more than it begins with.
    pub max_length: Option<usize>,
    /// The most new tokens; it counts instead of `max_length`.
    pub max_new_tokens: Option<usize>,
    /// So many tokens, those that it begins with included, are there before a sequence may end.
    pub min_length: usize,
    /// So many new tokens; it counts instead of `min_length`.
    pub min_new_tokens: Option<usize>,
    /// Draw each token from its distribution, instead of the most probable one.
    pub do_sample: bool,
    /// Sequences that are followed at once for each prompt (beam search); 1: no search.
    pub num_beams: usize,
    /// When the search ends.
    pub early_stopping: EarlyStopping,
    /// A finished sequence of n new tokens scores its log-probability / n to this power.
    pub length_penalty: f64,
    /// Sequences for each prompt.
    pub num_return_sequences: usize,
    /// Scores are divided by it before a token is drawn.
    pub temperature: Option<f32>,
    /// Only so many tokens may be drawn.
    pub top_k: Option<usize>,
    /// Only the most probable tokens, which together have this probability.
    pub top_p: Option<f32>,
    /// Only tokens with at least this share of the probability of the most probable one.
    pub min_p: Option<f32>,
    /// Scores of tokens that are there already are divided by it where they are positive, else
    /// multiplied (Keskar et al. 2019).
    pub repetition_penalty: f32,
    /// The inverse of it for tokens of the prompt, or of an encoder's input.
    pub encoder_repetition_penalty: f32,
    /// No so many tokens come twice in the same order; 0: they may.
    pub no_repeat_ngram_size: usize,
    /// None that come in the prompt, or in an encoder's input.
    pub encoder_no_repeat_ngram_size: usize,
    /// Sequences of tokens that never come.
    pub bad_words_ids: Vec<Vec<u32>>,
    /// The token behind a beginning of one.
    pub forced_bos_token_id: Option<u32>,
    /// The tokens, one of which is the last one of the greatest length.
    pub forced_eos_token_id: Vec<u32>,
    /// Scores that are not finite become the nearest that are, and NaN 0.
    pub remove_invalid_values: bool,
    /// (start, factor): behind so many new tokens the scores of the ends grow by this factor with
    /// each token.
    pub exponential_decay_length_penalty: Option<(usize, f64)>,
    /// Tokens that never come.
    pub suppress_tokens: Vec<u32>,
    /// Tokens that do not come first.
    pub begin_suppress_tokens: Vec<u32>,
    /// Scores become log-probabilities in the end.
    pub renormalize_logits: bool,
    /// The token in front of what the decoder of an encoder-decoder says; none: that of
    /// `config.json`. Other models begin with the prompt.
    pub decoder_start_token_id: Option<u32>,
    /// The tokens that end a sequence.
    pub eos_token_id: Vec<u32>,
    /// Remember keys and values of the tokens so far; the results are the same without.
    pub use_cache: bool,
    /// Decides what is drawn: with the same seed a prompt gets the same tokens.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            max_length: None,
            max_new_tokens: None,
            min_length: 0,
            min_new_tokens: None,
            do_sample: false,
            num_beams: 1,
            early_stopping: EarlyStopping::Heuristic,
            length_penalty: 1.0,
            num_return_sequences: 1,
            temperature: None,
            top_k: Some(50),
            top_p: None,
            min_p: None,
            repetition_penalty: 1.0,
            encoder_repetition_penalty: 1.0,
            no_repeat_ngram_size: 0,
            encoder_no_repeat_ngram_size: 0,
            bad_words_ids: vec![],
            forced_bos_token_id: None,
            forced_eos_token_id: vec![],
            remove_invalid_values: false,
            exponential_decay_length_penalty: None,
            suppress_tokens: vec![],
            begin_suppress_tokens: vec![],
            renormalize_logits: false,
            decoder_start_token_id: None,
            eos_token_id: vec![],
            use_cache: true,
            seed: 42,
        }
    }
}

impl Settings {
    /// The most tokens of a sequence that begins with so many.
    pub fn longest(&self, begin: usize, model: &ModelInfo) -> usize {
        match (self.max_new_tokens, self.max_length) {
            (Some(new), _) => begin.saturating_add(new),
            (None, Some(all)) => all,
            (None, None) => (begin + USUAL).min(model.positions.unwrap_or(usize::MAX)),
        }
    }
    /// The least tokens of a sequence that begins with so many.
    pub fn shortest(&self, begin: usize) -> usize {
        self.min_new_tokens.map_or(self.min_length, |new| begin.saturating_add(new))
    }
    /// Tokens that may be drawn whatever the rules for drawing say: in a beam search one at least
    /// goes on.
    pub fn kept(&self) -> usize {
        match (self.num_beams, self.eos_token_id.len()) {
            (1, _) => 1,
            (_, 0) => 2,
            (_, ends) => ends + 1,
        }
    }
    /// Refuses what makes no sense, or names tokens that a model does not have.
    pub fn check(&self, model: &ModelInfo) -> Result<()> {
        let refused = |option: &'static str, value: String, why: &str| {
            Err(Error::Option { option, value, why: why.into() })
        };
        for (option, count) in
            [("num-beams", self.num_beams), ("num-return-sequences", self.num_return_sequences)]
        {
            if !(1..=MOST_BEAMS).contains(&count) {
                return refused(option, count.to_string(), &format!("it is 1 to {MOST_BEAMS}"));
            }
        }
        if self.max_new_tokens == Some(0) {
            return refused("max-new-tokens", "0".into(), "it is at least 1");
        }
        let positive = |x: f32| x > 0.0 && x.is_finite();
        let share = |x: f32| (0.0..=1.0).contains(&x);
        let positives = [
            ("temperature", self.temperature.unwrap_or(1.0)),
            ("repetition-penalty", self.repetition_penalty),
            ("encoder-repetition-penalty", self.encoder_repetition_penalty),
        ];
        for (option, value) in positives {
            if !positive(value) {
                return refused(option, value.to_string(), "it is greater than 0");
            }
        }
        for (option, value) in [("top-p", self.top_p), ("min-p", self.min_p)] {
            if let Some(value) = value.filter(|x| !share(*x)) {
                return refused(option, value.to_string(), "it is 0 to 1");
            }
        }
        if !self.length_penalty.is_finite() {
            return refused("length-penalty", self.length_penalty.to_string(), "it is a finite number");
        }
        let (beams, n) = (self.num_beams, self.num_return_sequences);
        if beams == 1 && !self.do_sample && n > 1 {
            let why = "without drawing and without a beam search there is one for each prompt";
            return refused("num-return-sequences", n.to_string(), why);
        }
        if beams > 1 && n > beams {
            return refused("num-return-sequences", n.to_string(), &format!("there are {beams} beams"));
        }
        let ids = [
            ("forced-bos-token-id", self.forced_bos_token_id.as_slice()),
            ("forced-eos-token-id", &self.forced_eos_token_id),
        ];
        let words = self.bad_words_ids.iter().map(|word| ("bad-words-ids", word.as_slice()));
        for (option, ids) in ids.into_iter().chain(words) {
            // of those that are suppressed or end a sequence `transformers` takes any
            if let Some(id) = ids.iter().find(|id| **id as usize >= model.vocabulary) {
                let why = format!("the model has {} tokens", model.vocabulary);
                return refused(option, id.to_string(), &why);
            }
        }
        match self.bad_words_ids.iter().any(Vec::is_empty) {
            true => refused("bad-words-ids", "an empty list".into(), "it names at least one token"),
            false => Ok(()),
        }
    }
}

/// New tokens where nothing is said.
const USUAL: usize = 20;
/// Beams, and sequences for a prompt, at most.
const MOST_BEAMS: usize = 1 << 12;
