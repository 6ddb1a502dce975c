//! Reading `config.json` so that nothing in it is silently ignored.
//!
//! What `transformers`' code of a family reads, that family reads here too, and computes or
//! refuses: it takes fields with [`Config::number`] and its siblings, and names with
//! [`Config::only`] those that it computes at one value alone. A field that
//! `transformers` does not read cannot change the computation: files in the world are full of them.
//! [`Config::finish`] lists those that are not well known, as notes.
use crate::{Error, Result};
use engraft_engine::Activation;
use serde_json::{Map, Value};
use std::{
    cell::RefCell,
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// Fields that say how a model was made, stored or used, not what it computes.
const HARMLESS: &[&str] = &[
    "_attn_implementation_autoset",
    "_name_or_path",
    "_num_labels",
    "adapters",
    "architectures",
    "attn_implementation",
    "bos_token_id",
    "chunk_size_feed_forward",
    "cls_token_id",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "deterministic_flash_attn",
    "directionality",
    "dtype",
    "eos_token_id",
    "eos_token_ids",
    "finetuning_task",
    "gradient_checkpointing",
    "id2label",
    "initializer_cutoff_factor",
    "initializer_factor",
    "initializer_range",
    "label2id",
    "language",
    "mask_token_id",
    "model_max_length",
    "model_type",
    "name",
    "n_ctx",
    "num_labels",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "pad_token_id",
    "prediction_heads",
    "pooler_fc_size",
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_size_per_head",
    "pooler_type",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "qa_dropout",
    "reference_compile",
    "repad_logits_with_grad",
    "return_dict",
    "sentence_transformers",
    "sep_token_id",
    "sparse_pred_ignore_index",
    "sparse_prediction",
    "summary_activation",
    "summary_first_dropout",
    "summary_last_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "task_specific_params",
    "tie_encoder_decoder",
    "tie_word_embeddings",
    "tokenizer_class",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "unk_token_id",
    "use_cache",
    "xla_device",
];
/// Fields that `transformers` reads for every family and that change the computation unless they
/// have this value.
const NEUTRAL: &[(&str, &str)] = &[("pruned_heads", "{}"), ("quantization_config", "null")];

/// The most layers of a model.
const DEEPEST: usize = 4096;

/// A model's `config.json`.
#[derive(Debug)]
pub struct Config {
    path: PathBuf,
    fields: Map<String, Value>,
    read: RefCell<BTreeSet<String>>,
    aliases: &'static [(&'static str, &'static str)],
    /// The field that holds these, where they are not the file's own.
    within: Option<String>,
    /// What `finish` of the fields within this one left over.
    notes: RefCell<Vec<String>>,
}

impl Config {
    /// Reads `config.json` in a model directory.
    pub fn open(directory: &Path) -> Result<Config> {
        let path = directory.join("config.json");
        let text = std::fs::read_to_string(&path)
            .map_err(|source| engraft_engine::Error::Io { path: path.clone(), source })?;
        let bad = |what: String| Error::Config { path: path.clone(), what };
        match serde_json::from_str(&text).map_err(|e| bad(e.to_string()))? {
            Value::Object(fields) => Ok(Config::of(path, fields, None)),
            _ => Err(bad("not a JSON object".into())),
        }
    }
    fn of(path: PathBuf, fields: Map<String, Value>, within: Option<String>) -> Config {
        let (read, notes) = (RefCell::default(), RefCell::default());
        Config { path, fields, read, aliases: &[], within, notes }
    }
    /// The class of the model that was saved: the first of `architectures`.
    pub fn class(&self) -> Option<&str> {
        self.fields.get("architectures")?.get(0)?.as_str()
    }
    /// True if the model that was saved is of one of these classes, or nothing says of which.
    pub fn is_of(&self, classes: &[&str]) -> bool {
        self.class().is_none_or(|class| classes.contains(&class))
    }
    /// True if there is a field of this name.
    pub fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }
    /// True if a field is there and `null`.
    pub fn is_null(&self, name: &str) -> bool {
        self.take(name).is_some_and(Value::is_null)
    }
    /// An error about this file.
    pub fn error(&self, what: impl Into<String>) -> Error {
        let what = match &self.within {
            Some(field) => format!("in `{field}`: {}", what.into()),
            None => what.into(),
        };
        Error::Config { path: self.path.clone(), what }
    }
    /// (name, other name) of fields that files may call by another name. Where a file has both,
    /// they must agree.
    pub fn with_aliases(mut self, aliases: &'static [(&'static str, &'static str)]) -> Result<Config> {
        self.aliases = aliases;
        for (name, other) in aliases {
            if let (Some(a), Some(b)) = (self.fields.get(*name), self.fields.get(*other))
                && a != b
            {
                return Err(self.error(format!("`{name}` is {a}, but its other name `{other}` is {b}")));
            }
        }
        Ok(self)
    }
    fn take(&self, name: &str) -> Option<&Value> {
        let other = self.aliases.iter().find(|(n, _)| *n == name).map(|(_, other)| *other);
        self.read.borrow_mut().extend(std::iter::once(name).chain(other).map(String::from));
        self.fields.get(name).or_else(|| self.fields.get(other?))
    }
    /// The same where `null` is as good as nothing. For other fields it is not: `transformers`
    /// takes it for a value.
    fn take_not_null(&self, name: &str) -> Option<&Value> {
        self.take(name).filter(|v| !v.is_null())
    }
    /// A count of at least 1.
    pub fn count(&self, name: &str) -> Result<usize> {
        let v = self.take(name).ok_or_else(|| self.error(format!("no field `{name}`")))?;
        self.as_count(name, v)
    }
    /// A count of at least 1, or `default` where there is none.
    pub fn count_or(&self, name: &str, default: usize) -> Result<usize> {
        self.take(name).map_or(Ok(default), |v| self.as_count(name, v))
    }
    /// The same; `null` stands for the default too.
    pub fn count_or_null(&self, name: &str, default: usize) -> Result<usize> {
        self.take_not_null(name).map_or(Ok(default), |v| self.as_count(name, v))
    }
    /// A count of layers, or `default` where there is none. Where there are no weights, whose
    /// absence says so, a model is built as deep as its configuration says: deeper than any is that
    /// of no model.
    pub fn layers(&self, name: &str, default: usize) -> Result<usize> {
        self.as_layers(name, self.count_or(name, default)?)
    }
    /// A count of layers that comes of the field `name`: an error if no model is so deep.
    pub(crate) fn as_layers(&self, name: &str, n: usize) -> Result<usize> {
        match n <= DEEPEST {
            true => Ok(n),
            false => Err(self.error(format!("`{name}` makes {n}; models have at most {DEEPEST} layers"))),
        }
    }
    fn as_count(&self, name: &str, v: &Value) -> Result<usize> {
        let n = v.as_u64().filter(|n| (1..1 << 31).contains(n));
        n.map(|n| n as usize)
            .ok_or_else(|| self.error(format!("`{name}` is {v}, expected a number of at least 1")))
    }
    /// The number of a token, or `default` where there is none.
    pub fn token(&self, name: &str, default: u32) -> Result<u32> {
        let Some(v) = self.take(name) else { return Ok(default) };
        let n = v.as_u64().filter(|n| *n < 1 << 31);
        n.map(|n| n as u32).ok_or_else(|| self.error(format!("`{name}` is {v}, expected a token's number")))
    }
    /// A number, or `default` where there is none.
    pub fn number(&self, name: &str, default: f64) -> Result<f64> {
        self.take(name).map_or(Ok(default), |v| self.as_number(name, v))
    }
    fn as_number(&self, name: &str, v: &Value) -> Result<f64> {
        v.as_f64()
            .filter(|x| x.is_finite())
            .ok_or_else(|| self.error(format!("`{name}` is {v}, expected a number")))
    }
    /// A probability in [0, 1), or `default` where there is none.
    pub fn probability(&self, name: &str, default: f64) -> Result<f32> {
        self.as_probability(name, self.number(name, default)?)
    }
    /// The same; `null` stands for the default too.
    pub fn probability_or_null(&self, name: &str, default: f64) -> Result<f32> {
        let p = self.take_not_null(name).map_or(Ok(default), |v| self.as_number(name, v))?;
        self.as_probability(name, p)
    }
    fn as_probability(&self, name: &str, p: f64) -> Result<f32> {
        // also as f32: 0.999999999 is 1 there
        if p >= 0.0 && (p as f32) < 1.0 {
            Ok(p as f32)
        } else {
            Err(self.error(format!("`{name}` is {p}, expected 0 to below 1")))
        }
    }
    /// A small number added for stability: 0 or more, below 1, or `default` where there is none.
    pub fn epsilon(&self, name: &str, default: f64) -> Result<f32> {
        self.probability(name, default)
    }
    /// A text, or `default` where there is none.
    pub fn text(&self, name: &str, default: &str) -> Result<String> {
        let Some(v) = self.take(name) else { return Ok(default.into()) };
        v.as_str().map(String::from).ok_or_else(|| self.error(format!("`{name}` is {v}, expected a text")))
    }
    /// The activation that a field names, or that of the name `default` where there is none.
    pub fn activation(&self, name: &str, default: &str) -> Result<Activation> {
        let text = self.text(name, default)?;
        Activation::from_name(&text)
            .ok_or_else(|| self.error(format!("`{name}` is `{text}`, which is not supported")))
    }
    /// Refuses channels that are no whole heads: (field, its value) of both.
    pub fn whole_heads(&self, (channels, c): (&str, usize), (heads, n): (&str, usize)) -> Result<()> {
        match c.is_multiple_of(n) {
            true => Ok(()),
            false => Err(self.error(format!("`{channels}` {c} is not a multiple of `{heads}` {n}"))),
        }
    }
    /// A truth value, or `default` where there is none.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        let Some(v) = self.take(name) else { return Ok(default) };
        v.as_bool().ok_or_else(|| self.error(format!("`{name}` is {v}, expected true or false")))
    }
    /// A count, 0 included, or `default` where there is none.
    pub fn count_from_0(&self, name: &str, default: usize) -> Result<usize> {
        match self.take(name) {
            Some(v) if v.as_u64() == Some(0) => Ok(0),
            Some(v) => self.as_count(name, v),
            None => Ok(default),
        }
    }
    /// Numbers; none where there are none.
    pub fn numbers(&self, name: &str) -> Result<Option<Vec<f64>>> {
        self.list(name, "numbers", |v| v.as_f64().filter(|x| x.is_finite()))
    }
    /// Texts; none where there are none.
    pub fn texts(&self, name: &str) -> Result<Option<Vec<String>>> {
        self.list(name, "texts", |v| v.as_str().map(String::from))
    }
    fn list<T>(&self, name: &str, of: &str, one: impl Fn(&Value) -> Option<T>) -> Result<Option<Vec<T>>> {
        let Some(v) = self.take_not_null(name) else { return Ok(None) };
        let list = v.as_array().and_then(|all| all.iter().map(one).collect::<Option<Vec<T>>>());
        list.map(Some).ok_or_else(|| self.error(format!("`{name}` is {v}, expected a list of {of}")))
    }
    /// A field as it is; none where there is none.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.take_not_null(name)
    }
    /// Reads the fields within this one; none where there is no such field. What `read` takes no
    /// notice of is noted ([`Config::finish`]).
    pub fn within<T>(&self, name: &str, read: impl FnOnce(&Config) -> Result<T>) -> Result<Option<T>> {
        let Some(v) = self.take_not_null(name) else { return Ok(None) };
        let Value::Object(fields) = v else {
            return Err(self.error(format!("`{name}` is {v}, expected fields")));
        };
        let inner = Config::of(self.path.clone(), fields.clone(), Some(name.into()));
        let it = read(&inner)?;
        let left = inner.finish()?.into_iter().map(|field| format!("{name}.{field}")).collect();
        *self.notes.borrow_mut() = left;
        Ok(Some(it))
    }
    /// The number of a token, if there is one.
    pub fn token_if(&self, name: &str) -> Result<Option<u32>> {
        let as_id = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
        let wrong = |v: &Value| self.error(format!("`{name}` is {v}, expected the number of a token"));
        self.take_not_null(name).map(|v| as_id(v).ok_or_else(|| wrong(v))).transpose()
    }
    /// A field of this name is common among files of the family, and changes nothing.
    pub fn known(&self, name: &str) {
        self.take(name);
    }
    /// Refuses a field that has another value than this one, written as JSON. Where that is false,
    /// `null` is too.
    pub fn only(&self, name: &str, neutral: &str) -> Result<()> {
        let text = self.take(name).map(Value::to_string);
        let is_neutral = |text: &str| text == neutral || (text == "null" && neutral == "false");
        match text.filter(|text| !is_neutral(text)) {
            Some(text) => Err(self.error(format!("`{name}` is {text}; only {neutral} is supported"))),
            None => Ok(()),
        }
    }
    /// Fields that nothing has read and that are not well known to change nothing.
    pub fn finish(&self) -> Result<Vec<String>> {
        for (name, neutral) in NEUTRAL {
            self.only(name, neutral)?;
        }
        let read = self.read.borrow();
        let is_known = |name: &&str| HARMLESS.contains(name) || GENERATION.contains(name);
        let unread = self.fields.keys().map(String::as_str).filter(|name| !read.contains(*name));
        let unread = unread.filter(|name| !is_known(name)).map(String::from);
        Ok(unread.chain(self.notes.borrow().iter().cloned()).collect())
    }
}

/// Defaults of text generation, which older versions wrote into every configuration.
const GENERATION: &[&str] = &[
    "bad_words_ids",
    "begin_suppress_tokens",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "length_penalty",
    "max_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_scores",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict_in_generate",
    "suppress_tokens",
    "temperature",
    "tf_legacy_loss",
    "top_k",
    "top_p",
    "typical_p",
    "use_bfloat16",
];
