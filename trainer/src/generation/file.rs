//! `generation_config.json`.
use super::settings::{EarlyStopping, Settings};
use crate::{Error, Result};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Fields that change the result and are not computed, with the values at which they do not.
const REFUSED: &[(&str, &[&str])] = &[
    ("assistant_early_exit", &[]),
    ("constraints", &[]),
    ("diversity_penalty", &["0.0", "0"]),
    ("dola_layers", &[]),
    ("force_words_ids", &[]),
    ("guidance_scale", &["1", "1.0"]),
    ("low_memory", &["false"]),
    ("max_time", &[]),
    ("num_beam_groups", &["1"]),
    ("penalty_alpha", &[]),
    ("prompt_lookup_num_tokens", &[]),
    ("sequence_bias", &[]),
    ("stop_strings", &[]),
    ("token_healing", &["false"]),
    ("watermarking_config", &[]),
];
/// The same for those that are read only where tokens are drawn.
const REFUSED_IN_SAMPLING: &[(&str, &[&str])] = &[
    ("epsilon_cutoff", &["0.0", "0", "1.0"]),
    ("eta_cutoff", &["0.0", "0", "1.0"]),
    ("typical_p", &["1.0", "1"]),
];

struct Fields {
    path: PathBuf,
    map: Map<String, Value>,
}

impl Settings {
    /// The defaults of a model: those of its `generation_config.json`; where there is none, what
    /// `config.json` says of generation, as older files do. A field that changes the result and is
    /// not computed is an error.
    pub fn read(directory: impl AsRef<Path>) -> Result<Settings> {
        let own = directory.as_ref().join("generation_config.json");
        let path = if own.exists() { own } else { directory.as_ref().join("config.json") };
        let text =
            std::fs::read_to_string(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
        match serde_json::from_str(&text) {
            Ok(Value::Object(map)) => Fields { path, map }.settings(),
            Ok(_) => Err(Error::file(&path, "not a JSON object")),
            Err(e) => Err(Error::file(&path, e.to_string())),
        }
    }
}

impl Fields {
    fn wrong<T>(&self, name: &str, v: &Value, expected: &str) -> Result<T> {
        Err(Error::file(&self.path, format!("`{name}` is {v}, expected {expected}")))
    }
    /// A field that is there, `null` or not.
    fn get<T>(&self, name: &str, read: impl Fn(&Value) -> Option<T>, expected: &str) -> Result<Option<T>> {
        let Some(v) = self.map.get(name).filter(|v| !v.is_null()) else { return Ok(None) };
        match read(v) {
            Some(x) => Ok(Some(x)),
            None => self.wrong(name, v, expected),
        }
    }
    fn count(&self, name: &str) -> Result<Option<usize>> {
        self.get(name, |v| usize::try_from(v.as_u64()?).ok(), "a whole number")
    }
    fn number(&self, name: &str) -> Result<Option<f64>> {
        self.get(name, |v| v.as_f64().filter(|x| x.is_finite()), "a number")
    }
    fn small(&self, name: &str) -> Result<Option<f32>> {
        Ok(self.number(name)?.map(|x| x as f32))
    }
    fn flag(&self, name: &str) -> Result<bool> {
        Ok(self.get(name, Value::as_bool, "true or false")?.unwrap_or(false))
    }
    /// A token, or a list of tokens.
    fn tokens(&self, name: &str) -> Result<Vec<u32>> {
        let read = |v: &Value| match v {
            Value::Array(all) => all.iter().map(token).collect(),
            one => Some(vec![token(one)?]),
        };
        Ok(self.get(name, read, "the number of a token, or a list of them")?.unwrap_or_default())
    }
    /// The same where a number below 0 stands for no token.
    fn ends(&self, name: &str) -> Result<Vec<u32>> {
        match self.map.get(name).and_then(Value::as_i64) {
            Some(none) if none < 0 => Ok(vec![]),
            _ => self.tokens(name),
        }
    }
    /// The settings that a number is read into unless the file says `null`.
    fn disabled(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(Value::is_null)
    }
    fn refuse(&self, fields: &[(&str, &[&str])]) -> Result<()> {
        for (name, neutral) in fields {
            let Some(v) = self.map.get(*name).filter(|v| !v.is_null()) else { continue };
            if !neutral.contains(&&*v.to_string()) {
                return Err(Error::file(&self.path, format!("`{name}` is {v}, which is not supported")));
            }
        }
        Ok(())
    }
    fn settings(&self) -> Result<Settings> {
        let usual = Settings::default();
        let early = |v: &Value| match v {
            Value::Bool(false) => Some(EarlyStopping::Heuristic),
            Value::Bool(true) => Some(EarlyStopping::AtOnce),
            Value::String(s) if s == "never" => Some(EarlyStopping::Never),
            _ => None,
        };
        let words = |v: &Value| {
            let word = |v: &Value| v.as_array()?.iter().map(token).collect::<Option<Vec<u32>>>();
            v.as_array()?.iter().map(word).collect::<Option<Vec<_>>>()
        };
        let decay = |v: &Value| match v.as_array()?.as_slice() {
            [start, factor] => Some((usize::try_from(start.as_u64()?).ok()?, factor.as_f64()?)),
            _ => None,
        };
        let settings = Settings {
            // the default of the class, which older files have, is none
            max_length: self.count("max_length")?.filter(|n| *n != 20),
            max_new_tokens: self.count("max_new_tokens")?,
            min_length: self.count("min_length")?.unwrap_or(0),
            min_new_tokens: self.count("min_new_tokens")?,
            do_sample: self.flag("do_sample")?,
            num_beams: self.count("num_beams")?.unwrap_or(1),
            early_stopping: self
                .get("early_stopping", early, "true, false or \"never\"")?
                .unwrap_or_default(),
            length_penalty: self.number("length_penalty")?.unwrap_or(1.0),
            num_return_sequences: self.count("num_return_sequences")?.unwrap_or(1),
            temperature: self.small("temperature")?,
            top_k: match self.disabled("top_k") {
                true => None,
                false => self.count("top_k")?.or(usual.top_k).filter(|k| *k > 0),
            },
            top_p: self.small("top_p")?,
            min_p: self.small("min_p")?,
            repetition_penalty: self.small("repetition_penalty")?.unwrap_or(1.0),
            encoder_repetition_penalty: self.small("encoder_repetition_penalty")?.unwrap_or(1.0),
            no_repeat_ngram_size: self.count("no_repeat_ngram_size")?.unwrap_or(0),
            encoder_no_repeat_ngram_size: self.count("encoder_no_repeat_ngram_size")?.unwrap_or(0),
            bad_words_ids: self.get("bad_words_ids", words, "lists of tokens")?.unwrap_or_default(),
            forced_bos_token_id: self.get("forced_bos_token_id", token, "the number of a token")?,
            forced_eos_token_id: self.tokens("forced_eos_token_id")?,
            remove_invalid_values: self.flag("remove_invalid_values")?,
            exponential_decay_length_penalty: self.get(
                "exponential_decay_length_penalty",
                decay,
                "[start, factor]",
            )?,
            suppress_tokens: self.tokens("suppress_tokens")?,
            begin_suppress_tokens: self.tokens("begin_suppress_tokens")?,
            renormalize_logits: self.flag("renormalize_logits")?,
            // an encoder-decoder whose file names no such token starts with that of texts
            decoder_start_token_id: self
                .get("decoder_start_token_id", token, "the number of a token")?
                .or_else(|| self.map.get("bos_token_id").and_then(token)),
            eos_token_id: self.ends("eos_token_id")?,
            use_cache: self.get("use_cache", Value::as_bool, "true or false")?.unwrap_or(true),
            seed: usual.seed,
        };
        self.refuse(REFUSED)?;
        if settings.do_sample {
            self.refuse(REFUSED_IN_SAMPLING)?;
        }
        Ok(settings)
    }
}

fn token(v: &Value) -> Option<u32> {
    u32::try_from(v.as_u64()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Settings> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("generation_config.json"), text).unwrap();
        Settings::read(dir.path())
    }

    #[test]
    fn defaults_are_those_of_the_class() {
        assert_eq!(of("{}").unwrap(), Settings::default());
        let old = r#"{"max_length": 20, "diversity_penalty": 0.0, "num_beam_groups": 1, "typical_p": 1.0,
            "bos_token_id": 1, "pad_token_id": 0, "transformers_version": "4.20.0", "temperature": null}"#;
        assert_eq!(of(old).unwrap(), Settings { decoder_start_token_id: Some(1), ..Settings::default() });
        let s = of(r#"{"decoder_start_token_id": 0, "bos_token_id": 1}"#).unwrap();
        assert_eq!(s.decoder_start_token_id, Some(0));
        let s = of(r#"{"eos_token_id": [3, 4], "do_sample": true, "top_k": 0, "early_stopping": "never"}"#);
        let s = s.unwrap();
        assert_eq!((&*s.eos_token_id, s.do_sample, s.top_k), (&[3, 4][..], true, None));
        assert_eq!(s.early_stopping, EarlyStopping::Never);
    }

    #[test]
    fn what_is_not_computed_is_refused_by_name() {
        for field in [
            r#""guidance_scale": 1.5"#,
            r#""num_beam_groups": 2"#,
            r#""stop_strings": ["."]"#,
            r#""watermarking_config": {}"#,
            r#""do_sample": true, "typical_p": 0.5"#,
            r#""top_k": -1"#,
            r#""eos_token_id": "a""#,
            r#""decoder_start_token_id": [0, 1]"#,
            r#""early_stopping": 3"#,
            r#""exponential_decay_length_penalty": [3]"#,
        ] {
            let said = of(&format!("{{{field}}}")).unwrap_err().to_string();
            let name = field.rsplit("\"do_sample\": true, ").next().unwrap().split('"').nth(1).unwrap();
            assert!(said.contains(&format!("`{name}`")) && said.contains("generation_config.json"), "{said}");
        }
        // where nothing is drawn it changes nothing
        assert_eq!(of(r#"{"typical_p": 0.5}"#).unwrap(), Settings::default());
    }
}
