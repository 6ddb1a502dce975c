//! Texts to token ids: the `tokenizers` crate, held to one behaviour.
//!
//! A `tokenizer.json` may carry padding and truncation of its own. Both are replaced: nothing is ever padded,
//! because batches are packed, and texts are cut at `max_length` tokens, special tokens included, the longer
//! text of a pair first (Hugging Face's `longest_first`). From which end is the file's choice. Words of a sentence and whole
//! documents are not cut here: they are read in windows and blocks.

use std::path::Path;
use std::sync::OnceLock;

use tokenizers::{
    EncodeInput, Encoding, InputSequence, PostProcessor, TruncationDirection, TruncationParams,
    TruncationStrategy,
};

use super::cut;
use crate::data::{Dataset, Record};
use crate::error::{Error, Result};

/// The tokens of one text or pair.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tokens {
    /// Token ids, with the special tokens.
    pub ids: Vec<u32>,
    /// Per token 0 in the first text, 1 in the second.
    pub types: Vec<u32>,
    /// Whether the text has more tokens than these.
    pub is_cut: bool,
}

/// The tokens of some words of a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Words {
    /// Token ids and types, with the special tokens.
    pub tokens: Tokens,
    /// Where each word's first token stands; `None` for a word that has no token.
    pub firsts: Vec<Option<u32>>,
}

/// A tokenizer that fits its model.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The same without a limit, made when it is needed: for whole documents, and for words.
    whole: OnceLock<Result<tokenizers::Tokenizer, String>>,
    words: OnceLock<Result<tokenizers::Tokenizer, String>>,
    splits: OnceLock<&'static [u8]>,
    name: String,
    model: String,
    vocabulary: usize,
    max_length: usize,
    end: Option<u32>,
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
        let mut tokenizer = Self::from_bytes(&path, &bytes, fit)?;
        tokenizer.end = end_of_text(dir.as_ref(), &tokenizer.inner);
        Ok(tokenizer)
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
            whole: OnceLock::new(),
            words: OnceLock::new(),
            splits: OnceLock::new(),
            name: path.display().to_string(),
            model: fit.model.into(),
            vocabulary: fit.vocabulary,
            max_length: fit.max_length,
            end: None,
        })
    }

    /// The most tokens of a sequence, special tokens included.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// Tokens that stand around a single text.
    pub fn special_tokens(&self) -> usize {
        self.inner.get_post_processor().map_or(0, |processor| processor.added_tokens(false))
    }

    /// Encodes one text or pair.
    pub fn encode(&self, text: &str, pair: Option<&str>) -> Result<Tokens> {
        let encoding =
            self.inner.encode_fast(input(text, pair), true).map_err(|error| self.failed(&error))?;
        self.tokens(&encoding)
    }

    /// Encodes every record of a data set of texts, on all threads.
    pub fn encode_all(&self, data: &Dataset) -> Result<Vec<Tokens>> {
        let texts: Vec<_> = data.records.iter().map(Record::text).collect();
        let pairs = texts.iter().zip(&data.records);
        let heads = pairs.map(|(text, r)| self.enough(text, r.pair())).collect::<Result<Vec<_>>>()?;
        let inputs: Vec<_> = heads.iter().map(|(text, pair)| input(text, *pair)).collect();
        let encodings = self.inner.encode_batch_fast(inputs, true).map_err(|error| self.failed(&error))?;
        let records = encodings.iter().zip(&data.records).zip(texts.iter().zip(&heads));
        records
            .map(|((encoding, record), (text, head))| {
                let mut tokens = self.tokens(encoding)?;
                tokens.is_cut |= *head != (text, record.pair());
                if tokens.ids.is_empty() {
                    let why = format!("{} makes no token of it", self.name);
                    return Err(Error::line(&data.path, record.line, why));
                }
                Ok(tokens)
            })
            .collect()
    }

    /// As much of a text or pair as decides which tokens are left when it is cut.
    fn enough<'a>(&self, text: &'a str, pair: Option<&'a str>) -> Result<(&'a str, Option<&'a str>)> {
        let keeps_head =
            self.inner.get_truncation().is_some_and(|t| t.direction == TruncationDirection::Right);
        match keeps_head && cut::is_long(text, pair, self.max_length) && !self.splits().is_empty() {
            true => cut::enough(text, pair, self.max_length, self.splits(), |text| self.count(text)),
            false => Ok((text, pair)),
        }
    }

    /// How many tokens a text has, without special tokens.
    fn count(&self, text: &str) -> Result<usize> {
        let whole = self.unlimited(&self.whole, false)?;
        Ok(whole.encode_fast(text, false).map_err(|error| self.failed(&error))?.len())
    }

    /// Where a text may be split without a change of its tokens.
    fn splits(&self) -> &'static [u8] {
        self.splits.get_or_init(|| cut::splits(&self.inner))
    }

    /// The tokens of every record of a data set, whole and without special tokens.
    pub fn encode_whole(&self, data: &Dataset) -> Result<Vec<Vec<u32>>> {
        let whole = self.unlimited(&self.whole, false)?;
        let texts: Vec<_> = data.records.iter().map(Record::text).collect();
        let at = if texts.iter().any(|text| cut::has_parts(text)) { self.splits() } else { b"" };
        let mut ids = vec![vec![]; texts.len()];
        for parts in cut::groups(&texts, at) {
            let inputs = parts.iter().map(|(_, part)| EncodeInput::from(*part)).collect();
            let encodings = whole.encode_batch_fast(inputs, false).map_err(|error| self.failed(&error))?;
            for ((number, _), encoding) in parts.iter().zip(&encodings) {
                ids[*number].extend(self.tokens(encoding)?.ids);
            }
        }
        Ok(ids)
    }

    /// How many tokens each word has; every word is split by itself.
    pub fn count_words(&self, words: &[String]) -> Result<Vec<usize>> {
        let encoding = self.encode_pieces(words)?;
        let mut counts = vec![0; words.len()];
        encoding.get_word_ids().iter().flatten().for_each(|w| counts[*w as usize] += 1);
        Ok(counts)
    }

    /// The tokens of words, cut to the most that a sequence has, with special tokens around them.
    pub fn encode_words(&self, words: &[String]) -> Result<Words> {
        let tokenizer = self.unlimited(&self.words, true)?;
        let mut pieces = self.encode_pieces(words)?;
        let room = self.max_length.saturating_sub(self.special_tokens());
        pieces.truncate(room, 0, tokenizers::TruncationDirection::Right);
        let encoding = tokenizer.post_process(pieces, None, true).map_err(|error| self.failed(&error))?;
        let mut firsts = vec![None; words.len()];
        for (at, word) in encoding.get_word_ids().iter().enumerate() {
            if let Some(first) = word.and_then(|w| firsts.get_mut(w as usize)) {
                first.get_or_insert(at as u32);
            }
        }
        Ok(Words { tokens: self.tokens(&encoding)?, firsts })
    }

    /// The tokens of words, all of them and nothing else.
    fn encode_pieces(&self, words: &[String]) -> Result<Encoding> {
        let input = EncodeInput::Single(InputSequence::from(words));
        let tokenizer = self.unlimited(&self.words, true)?;
        tokenizer.encode(input, false).map_err(|error| self.failed(&error))
    }

    /// The token that stands behind a text, if the files beside the tokenizer name one.
    pub fn end_of_text(&self) -> Option<u32> {
        self.end
    }

    /// The tokenizer without a limit of length; for words that stand alone, each of which begins as after a space.
    fn unlimited<'a>(
        &'a self,
        cell: &'a OnceLock<Result<tokenizers::Tokenizer, String>>,
        words: bool,
    ) -> Result<&'a tokenizers::Tokenizer> {
        let make = || {
            let mut tokenizer = match words {
                false => self.inner.clone(),
                true => {
                    let json = self.inner.to_string(false).map_err(|e| e.to_string())?;
                    let mut json: serde_json::Value =
                        serde_json::from_str(&json).map_err(|e| e.to_string())?;
                    start_words_with_a_space(&mut json["pre_tokenizer"]);
                    tokenizers::Tokenizer::from_bytes(json.to_string()).map_err(|e| e.to_string())?
                }
            };
            tokenizer.with_truncation(None).map_err(|e| e.to_string())?;
            Ok(tokenizer)
        };
        cell.get_or_init(make).as_ref().map_err(|why| Error::file(Path::new(&self.name), why.clone()))
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
        let is_cut = !encoding.get_overflowing().is_empty();
        Ok(Tokens { ids, types: encoding.get_type_ids().to_vec(), is_cut })
    }

    fn failed(&self, error: &tokenizers::Error) -> Error {
        Error::file(Path::new(&self.name), format!("cannot encode: {error}"))
    }
}

/// `eos_token` of the tokenizer's own files, or `eos_token_id` of the model's.
fn end_of_text(dir: &Path, tokenizer: &tokenizers::Tokenizer) -> Option<u32> {
    let json = |name: &str| -> Option<serde_json::Value> {
        serde_json::from_slice(&std::fs::read(dir.join(name)).ok()?).ok()
    };
    let named = |name: &str| {
        let token = json(name)?["eos_token"].clone();
        tokenizer.token_to_id(token.as_str().or_else(|| token["content"].as_str())?)
    };
    let of_model = || u32::try_from(json("config.json")?["eos_token_id"].as_u64()?).ok();
    ["tokenizer_config.json", "special_tokens_map.json"].into_iter().find_map(named).or_else(of_model)
}

/// Byte-level tokenizers have tokens that begin with a space, and split words by themselves as if one stood before each only if
/// they are told to.
fn start_words_with_a_space(pre_tokenizer: &mut serde_json::Value) {
    if pre_tokenizer["type"] == "ByteLevel" {
        pre_tokenizer["add_prefix_space"] = true.into();
    }
    if let Some(parts) = pre_tokenizer.get_mut("pretokenizers").and_then(|p| p.as_array_mut()) {
        parts.iter_mut().for_each(start_words_with_a_space);
    }
}

fn input<'a>(text: &'a str, pair: Option<&'a str>) -> EncodeInput<'a> {
    match pair {
        Some(pair) => (text, pair).into(),
        None => text.into(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::data::{Columns, Content, Want};

    /// A word-piece tokenizer of a few words, padding to 16 and cutting at 5 as it stands in the file.
    pub(crate) fn json() -> String {
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
        let want = Want { content: Content::Texts, labels: true };
        let data = Dataset::parse("a.tsv", text.as_bytes(), &Columns::default(), want).unwrap();
        let tokenizer = tokenizer(6);
        let all = tokenizer.encode_all(&data).unwrap();
        for (tokens, record) in all.iter().zip(&data.records) {
            assert_eq!(tokens, &tokenizer.encode(&record.text(), None).unwrap());
        }
        assert_eq!(all.len(), 300);
        let whole = tokenizer.encode_whole(&data).unwrap();
        assert_eq!(whole[6], [4; 7], "neither cut nor between special tokens");
    }

    #[test]
    fn words_know_their_first_token() {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let tokenizer = tokenizer(8);
        let sentence = words(&["a", "dd", "\u{200b}", "b c"]);
        assert_eq!(tokenizer.count_words(&sentence).unwrap(), [1, 2, 1, 2]);
        let found = tokenizer.encode_words(&sentence).unwrap();
        assert_eq!(found.tokens.ids, [2, 4, 7, 8, 1, 5, 6, 3]);
        assert_eq!(found.firsts, [Some(1), Some(2), Some(4), Some(5)]);
        assert_eq!(tokenizer.special_tokens(), 2);
        // cut at the most that a sequence has
        let long = tokenizer.encode_words(&words(&["a"; 9])).unwrap();
        assert_eq!((long.tokens.ids.len(), long.firsts[5], long.firsts[6]), (8, Some(6), None));
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
