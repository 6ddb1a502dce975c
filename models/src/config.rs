//! Reading `config.json` so that nothing in it is silently ignored.
//!
//! A field is used, or known to change nothing, or refused. What a model reads, it takes with [`Config::number`] and its
//! siblings; [`Config::finish`] then refuses whatever is left and not on the list of harmless fields.
use crate::{Error, Result};
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
    "architectures",
    "attn_implementation",
    "bos_token_id",
    "cls_token_id",
    "decoder_start_token_id",
    "directionality",
    "dtype",
    "eos_token_id",
    "finetuning_task",
    "gradient_checkpointing",
    "id2label",
    "initializer_factor",
    "initializer_range",
    "label2id",
    "language",
    "mask_token_id",
    "model_max_length",
    "model_type",
    "name",
    "num_labels",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "pad_token_id",
    "pooler_fc_size",
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_size_per_head",
    "pooler_type",
    "prefix",
    "problem_type",
    "return_dict",
    "sentence_transformers",
    "sep_token_id",
    "summary_activation",
    "task_specific_params",
    "tie_encoder_decoder",
    "tie_word_embeddings",
    "tokenizer_class",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "unk_token_id",
    "use_cache",
];
/// Fields that change the computation unless they have this value.
const NEUTRAL: &[(&str, &str)] = &[
    ("add_cross_attention", "false"),
    ("chunk_size_feed_forward", "0"),
    ("cross_attention_hidden_size", "null"),
    ("is_decoder", "false"),
    ("is_encoder_decoder", "false"),
    ("pruned_heads", "{}"),
    ("quantization_config", "null"),
];

/// A model's `config.json`.
#[derive(Debug)]
pub struct Config {
    path: PathBuf,
    fields: Map<String, Value>,
    read: RefCell<BTreeSet<String>>,
}

impl Config {
    /// Reads `config.json` in a model directory.
    pub fn open(directory: &Path) -> Result<Config> {
        let path = directory.join("config.json");
        let text = std::fs::read_to_string(&path)
            .map_err(|source| engraft_engine::Error::Io { path: path.clone(), source })?;
        let bad = |what: String| Error::Config { path: path.clone(), what };
        match serde_json::from_str(&text).map_err(|e| bad(e.to_string()))? {
            Value::Object(fields) => Ok(Config { path, fields, read: RefCell::default() }),
            _ => Err(bad("not a JSON object".into())),
        }
    }
    /// An error about this file.
    pub fn error(&self, what: impl Into<String>) -> Error {
        Error::Config { path: self.path.clone(), what: what.into() }
    }
    fn take(&self, name: &str) -> Option<&Value> {
        self.read.borrow_mut().insert(name.into());
        self.fields.get(name).filter(|v| !v.is_null())
    }
    /// A count of at least 1.
    pub fn count(&self, name: &str) -> Result<usize> {
        let v = self.take(name).ok_or_else(|| self.error(format!("no field `{name}`")))?;
        let n = v.as_u64().filter(|n| (1..1 << 31).contains(n));
        n.map(|n| n as usize)
            .ok_or_else(|| self.error(format!("`{name}` is {v}, expected a number of at least 1")))
    }
    /// A number, or `default` where there is none.
    pub fn number(&self, name: &str, default: f64) -> Result<f64> {
        let Some(v) = self.take(name) else { return Ok(default) };
        v.as_f64()
            .filter(|x| x.is_finite())
            .ok_or_else(|| self.error(format!("`{name}` is {v}, expected a number")))
    }
    /// A probability in [0, 1), or `default` where there is none.
    pub fn probability(&self, name: &str, default: f64) -> Result<f32> {
        let p = self.number(name, default)?;
        if (0.0..1.0).contains(&p) {
            Ok(p as f32)
        } else {
            Err(self.error(format!("`{name}` is {p}, expected 0 to below 1")))
        }
    }
    /// A text, or `default` where there is none.
    pub fn text(&self, name: &str, default: &str) -> Result<String> {
        let Some(v) = self.take(name) else { return Ok(default.into()) };
        v.as_str().map(String::from).ok_or_else(|| self.error(format!("`{name}` is {v}, expected a text")))
    }
    /// Refuses what has not been read, is not harmless and is not at its neutral value.
    pub fn finish(&self) -> Result<()> {
        let read = self.read.borrow();
        for (name, value) in &self.fields {
            if read.contains(name) || HARMLESS.contains(&name.as_str()) {
                continue;
            }
            match NEUTRAL.iter().find(|(n, _)| n == name) {
                Some((_, neutral)) if value.to_string() == *neutral || value.is_null() => {}
                Some((_, neutral)) => {
                    return Err(self.error(format!("`{name}` is {value}; only {neutral} is supported")));
                }
                None if GENERATION.contains(&name.as_str()) => {}
                None => {
                    let hint = "remove it if it does not change what the model computes";
                    return Err(self.error(format!("field `{name}` is not known ({hint})")));
                }
            }
        }
        Ok(())
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
