//! Texts to token ids: the `tokenizers` crate, held to one behaviour.
//!
//! A `tokenizer.json` may carry padding and truncation of its own. Both are replaced: nothing is ever padded,
//! because batches are packed, and texts are cut at `max_length` tokens, special tokens included, the longer
//! text of a pair first (Hugging Face's `longest_first`). From which end is the file's choice.

use std::path::Path;

use tokenizers::{
    EncodeInput, Encoding, PostProcessor, TruncationDirection, TruncationParams, TruncationStrategy,
};

use crate::data::Dataset;
use crate::error::{Error, Result};

/// The tokens of one text or pair.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tokens {
    /// Token ids, with the special tokens.
    pub ids: Vec<u32>,
    /// Per token 0 in the first text, 1 in the second.
    pub types: Vec<u32>,
}

/// A tokenizer that fits its model.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    name: String,
    model: String,
    vocabulary: usize,
}

/// What a tokenizer must fit.
#[derive(Debug, Clone, Copy)]
pub struct Fit<'a> {
    /// The model's name, for errors: its directory.
    pub model: &'a str,
    /// Rows of its word embeddings.
    pub vocabulary: usize,
    /// The most tokens it takes at once, if it has a limit.
    pub positions: Option<usize>,
    /// Where texts are cut, in tokens.
    pub max_length: usize,
}

impl Tokenizer {
    /// Reads `tokenizer.json` in the model's directory.
    pub fn load(dir: impl AsRef<Path>, fit: Fit<'_>) -> Result<Self> {
        let path = dir.as_ref().join("tokenizer.json");
        let bytes = std::fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
        Self::from_bytes(&path, &bytes, fit)
    }

    /// Reads the content of a `tokenizer.json`; `path` only names it in errors.
    pub fn from_bytes(path: impl AsRef<Path>, bytes: &[u8], fit: Fit<'_>) -> Result<Self> {
        let path = path.as_ref();
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes)
            .map_err(|error| Error::file(path, format!("not a tokenizer: {error}")))?;
        let too = |why| Error::Option { option: "max-length", value: fit.max_length.to_string(), why };
        if let Some(positions) = fit.positions.filter(|&positions| fit.max_length > positions) {
            return Err(too(format!("{} has {positions} positions", fit.model)));
        }
        let special = inner.get_post_processor().map_or(0, |processor| processor.added_tokens(true));
        if fit.max_length <= special {
            return Err(too(format!("{} adds {special} special tokens to a pair", path.display())));
        }
        let direction = inner.get_truncation().map_or(TruncationDirection::Right, |own| own.direction);
        let strategy = TruncationStrategy::LongestFirst;
        let truncation = TruncationParams { direction, max_length: fit.max_length, strategy, stride: 0 };
        inner.with_padding(None);
        inner.with_truncation(Some(truncation)).map_err(|error| Error::file(path, error.to_string()))?;
        Ok(Self {
            inner,
            name: path.display().to_string(),
            model: fit.model.into(),
            vocabulary: fit.vocabulary,
        })
    }

    /// Encodes one text or pair.
    pub fn encode(&self, text: &str, pair: Option<&str>) -> Result<Tokens> {
        let encoding =
            self.inner.encode_fast(input(text, pair), true).map_err(|error| self.failed(&error))?;
        self.tokens(&encoding)
    }

    /// Encodes every row of a data set, on all threads.
    pub fn encode_all(&self, data: &Dataset) -> Result<Vec<Tokens>> {
        let inputs: Vec<_> = data.rows.iter().map(|row| input(&row.text, row.pair.as_deref())).collect();
        let encodings = self.inner.encode_batch_fast(inputs, true).map_err(|error| self.failed(&error))?;
        let rows = encodings.iter().zip(&data.rows);
        rows.map(|(encoding, row)| {
            let tokens = self.tokens(encoding)?;
            if tokens.ids.is_empty() {
                return Err(Error::line(&data.path, row.line, format!("{} makes no token of it", self.name)));
            }
            Ok(tokens)
        })
        .collect()
    }

    /// The token ids and types, all within the model's vocabulary.
    fn tokens(&self, encoding: &Encoding) -> Result<Tokens> {
        let ids = encoding.get_ids().to_vec();
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= self.vocabulary) {
            return Err(Error::Vocabulary {
                tokenizer: self.name.clone(),
                model: self.model.clone(),
                id,
                token: self.inner.id_to_token(id).unwrap_or_default(),
                vocabulary: self.vocabulary,
            });
        }
        Ok(Tokens { ids, types: encoding.get_type_ids().to_vec() })
    }

    fn failed(&self, error: &tokenizers::Error) -> Error {
        Error::file(Path::new(&self.name), format!("cannot encode: {error}"))
    }
}

fn input<'a>(text: &'a str, pair: Option<&'a str>) -> EncodeInput<'a> {
    match pair {
        Some(pair) => (text, pair).into(),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Columns, Format, Want};

    /// A word-piece tokenizer of a few words, padding to 16 and cutting at 5 as it stands in the file.
    fn json() -> String {
        let words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "d", "##d", "e"];
        let vocab: serde_json::Map<_, _> =
            words.iter().enumerate().map(|(id, word)| (word.to_string(), id.into())).collect();
        let special = |id: u32| serde_json::json!({ "id": words[id as usize], "ids": [id], "tokens": [words[id as usize]] });
        let token =
            |name: &str, of: u32| serde_json::json!({ "SpecialToken": { "id": name, "type_id": of } });
        let text = |name: &str, of: u32| serde_json::json!({ "Sequence": { "id": name, "type_id": of } });
        serde_json::json!({
            "version": "1.0",
            "truncation": { "direction": "Right", "max_length": 5, "strategy": "OnlyFirst", "stride": 0 },
            "padding": { "strategy": { "Fixed": 16 }, "direction": "Right", "pad_to_multiple_of": null,
                         "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]" },
            "added_tokens": [],
            "normalizer": null,
            "pre_tokenizer": { "type": "Whitespace" },
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [token("[CLS]", 0), text("A", 0), token("[SEP]", 0)],
                "pair": [token("[CLS]", 0), text("A", 0), token("[SEP]", 0), text("B", 1), token("[SEP]", 1)],
                "special_tokens": { "[CLS]": special(2), "[SEP]": special(3) },
            },
            "decoder": null,
            "model": { "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                       "max_input_chars_per_word": 100, "vocab": vocab },
        })
        .to_string()
    }

    fn fit(max_length: usize) -> Fit<'static> {
        Fit { model: "tiny", vocabulary: 9, positions: Some(12), max_length }
    }

    fn tokenizer(max_length: usize) -> Tokenizer {
        Tokenizer::from_bytes("tokenizer.json", json().as_bytes(), fit(max_length)).unwrap()
    }

    #[test]
    fn nothing_is_padded_and_all_is_cut_at_max_length() {
        let tokenizer = tokenizer(12);
        assert_eq!(tokenizer.encode("a dd b x", None).unwrap().ids, [2, 4, 7, 8, 5, 1, 3]);
        let pair = tokenizer.encode("a", Some("b c")).unwrap();
        assert_eq!((pair.ids, pair.types), (vec![2, 4, 3, 5, 6, 3], vec![0, 0, 0, 1, 1, 1]));
        assert_eq!(tokenizer.encode(&"a ".repeat(40), None).unwrap().ids.len(), 12);
    }

    #[test]
    fn the_longer_text_is_cut_first() {
        // BertTokenizerFast(..., truncation="longest_first", max_length=8) keeps 1 + 4 and 2 + 3 words here.
        let cut = |a: &str, b: &str| tokenizer(8).encode(a, Some(b)).unwrap();
        assert_eq!(cut("a", "b b b b b b").ids, [2, 4, 3, 5, 5, 5, 5, 3]);
        assert_eq!(cut("a a a a a", "b b b b b b").ids, [2, 4, 4, 3, 5, 5, 5, 3]);
        assert_eq!(cut("a a a a a", "b b b b b b").types, [0, 0, 0, 0, 1, 1, 1, 1]);
    }

    #[test]
    fn a_data_set_is_encoded_in_order() {
        let rows: String = (0..300).map(|i| format!("{}\tx\n", "a ".repeat(i % 7 + 1))).collect();
        let text = format!("text\tlabel\n{rows}");
        let data =
            Dataset::parse("a.tsv", Format::Tsv, text.as_bytes(), &Columns::default(), Want::Labels).unwrap();
        let tokenizer = tokenizer(6);
        let all = tokenizer.encode_all(&data).unwrap();
        for (tokens, row) in all.iter().zip(&data.rows) {
            assert_eq!(tokens, &tokenizer.encode(&row.text, None).unwrap());
        }
        assert_eq!(all.len(), 300);
    }

    #[test]
    fn misfits_are_named() {
        let error = tokenizer(12).encode("a e", None).unwrap_err().to_string();
        assert_eq!(error, "tokenizer.json makes token 9 (`e`), but tiny has 9 tokens");
        let refused = |max_length, bytes: &str| {
            Tokenizer::from_bytes("t.json", bytes.as_bytes(), fit(max_length)).err().unwrap().to_string()
        };
        assert_eq!(refused(13, &json()), "`max-length` cannot be 13: tiny has 12 positions");
        assert_eq!(refused(3, &json()), "`max-length` cannot be 3: t.json adds 3 special tokens to a pair");
        assert!(refused(12, &json()[..200]).starts_with("t.json: not a tokenizer: "));
        let error = Tokenizer::load("no/such", fit(12)).err().unwrap().to_string();
        assert!(error.starts_with("cannot read no/such/tokenizer.json: "), "{error}");
    }
}
