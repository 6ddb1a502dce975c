//! Texts to token ids: the `tokenizers` crate, held to one behaviour.
//!
//! What the files beside a `tokenizer.json` change about it is done as transformers does it
//! (`configure.rs`). Its own padding and truncation are replaced: nothing is padded, because batches
//! are packed, and texts are cut at `max_length` tokens, special ones included, the longer of a pair
//! first (`longest_first`), at the end that the files choose. Words of a sentence and whole documents
//! are read in windows and blocks instead.

use std::{path::Path, sync::OnceLock};

use tokenizers::{
    EncodeInput, Encoding, InputSequence, PostProcessor, TruncationDirection, TruncationParams,
    TruncationStrategy,
};

use super::companions::Files;
use super::configure::{Configured, Special, begin_with_space, configure};
use super::cut;
use super::guarded::guarded;
use super::splits::Splits;
use crate::data::{Dataset, Record};
use crate::error::{Error, Result};

/// The tokens of one text or pair.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenizedText {
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
    pub tokens: TokenizedText,
    /// Where each word's first token stands; `None` for a word that has no token.
    pub firsts: Vec<Option<u32>>,
}

/// A tokenizer that fits its model.
pub struct Tokenizer {
    pub(super) inner: tokenizers::Tokenizer,
    /// The same without a limit, made when it is needed: for whole documents, words, and parts of
    /// pairs.
    pub(super) whole: OnceLock<Result<tokenizers::Tokenizer, String>>,
    words: OnceLock<Result<tokenizers::Tokenizer, String>>,
    pub(super) bare: OnceLock<Result<tokenizers::Tokenizer, String>>,
    splits: OnceLock<Splits>,
    pub(super) name: String,
    model: String,
    pub(super) vocabulary: usize,
    max_length: usize,
    types: bool,
    spaced_words: bool,
    pub(super) separator: Option<String>,
    pub(super) special: Special,
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
    /// Reads the tokenizer's files in a model's directory.
    pub fn load(directory: impl AsRef<Path>, fit: Fit<'_>) -> Result<Self> {
        Self::of(&Files::read(directory)?, fit)
    }

    /// Makes a tokenizer of the content of its files. An error names the file, and the field that
    /// is damaged or not supported; fields that make no difference to token ids are passed over.
    pub fn of(files: &Files, fit: Fit<'_>) -> Result<Self> {
        let Configured { tokenizer: mut inner, path, direction, types, spaced_words, special } =
            configure(files)?;
        let too = |why| Error::Option { option: "max-length", value: fit.max_length.to_string(), why };
        if let Some(positions) = fit.positions.filter(|&positions| fit.max_length > positions) {
            return Err(too(format!("{} has {positions} positions", fit.model)));
        }
        let added = |pair| inner.get_post_processor().map_or(0, |processor| processor.added_tokens(pair));
        let around = added(true).max(added(false));
        if fit.max_length <= around {
            return Err(too(format!("{} adds {around} special tokens to a pair", path.display())));
        }
        let strategy = TruncationStrategy::LongestFirst;
        let truncation = TruncationParams { direction, max_length: fit.max_length, strategy, stride: 0 };
        inner.with_padding(None);
        inner.with_truncation(Some(truncation)).map_err(|error| Error::file(&path, error.to_string()))?;
        Ok(Self {
            inner,
            whole: OnceLock::new(),
            words: OnceLock::new(),
            bare: OnceLock::new(),
            splits: OnceLock::new(),
            name: path.display().to_string(),
            model: fit.model.into(),
            vocabulary: fit.vocabulary,
            max_length: fit.max_length,
            types,
            spaced_words,
            separator: None,
            special,
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
    pub fn encode(&self, text: &str, pair: Option<&str>) -> Result<TokenizedText> {
        let encoding = self.ask(|| self.inner.encode_fast(input(text, pair), true))?;
        self.tokens(&encoding)
    }

    /// Encodes every record of a data set of texts, on all threads.
    pub fn encode_all(&self, data: &Dataset) -> Result<Vec<TokenizedText>> {
        let texts = data.records.iter().map(|r| self.texts(r)).collect::<Result<Vec<_>>>()?;
        let heads = texts.iter().map(|(text, pair)| self.enough(text, pair.as_deref()));
        let heads = heads.collect::<Result<Vec<_>>>()?;
        let inputs: Vec<_> = heads.iter().map(|(text, pair)| input(text, *pair)).collect();
        let encodings = self.ask(|| self.inner.encode_batch_fast(inputs, true))?;
        let records = encodings.iter().zip(&data.records).zip(texts.iter().zip(&heads));
        records
            .map(|((encoding, record), ((text, pair), head))| {
                let mut tokens = self.tokens(encoding)?;
                tokens.is_cut |= *head != (text, pair.as_deref());
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
        Ok(self.ask(|| whole.encode_fast(text, false))?.len())
    }
    /// Where a text may be split without a change of its tokens.
    pub(super) fn splits(&self) -> &Splits {
        self.splits.get_or_init(|| Splits::of(&self.inner))
    }
    /// The tokens of every record of a data set, whole and without special tokens.
    pub fn encode_whole<'a>(&'a self, data: &'a Dataset) -> Result<Vec<Vec<u32>>> {
        let whole = self.unlimited(&self.whole, false)?;
        let short = |r: &'a Record| cut::shortened(r.text(), || self.splits());
        let texts: Vec<_> = data.records.iter().map(short).collect();
        let mut ids = vec![vec![]; texts.len()];
        for parts in cut::groups(&texts, || self.splits()) {
            let inputs = parts.iter().map(|(_, part)| EncodeInput::from(*part)).collect();
            let encodings = self.ask(|| whole.encode_batch_fast(inputs, false))?;
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
        pieces.truncate(room, 0, TruncationDirection::Right);
        let encoding = self.ask(|| tokenizer.post_process(pieces, None, true))?;
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
        self.ask(|| tokenizer.encode(input, false))
    }

    /// The tokenizer without a limit of length; for words that stand alone, which begin as after a
    /// space where transformers takes no others.
    pub(super) fn unlimited<'a>(
        &'a self,
        cell: &'a OnceLock<Result<tokenizers::Tokenizer, String>>,
        words: bool,
    ) -> Result<&'a tokenizers::Tokenizer> {
        let make = || {
            let mut tokenizer = self.inner.clone();
            if words && self.spaced_words {
                begin_with_space(&mut tokenizer, true);
            }
            tokenizer.with_truncation(None).map_err(|e| e.to_string())?;
            Ok(tokenizer)
        };
        cell.get_or_init(make).as_ref().map_err(|why| Error::file(Path::new(&self.name), why.clone()))
    }

    /// The token ids and types, all within the model's vocabulary.
    pub(super) fn tokens(&self, encoding: &Encoding) -> Result<TokenizedText> {
        let ids = encoding.get_ids().to_vec();
        ids.iter().try_for_each(|id| self.checked(*id).map(drop))?;
        let types = match self.types {
            true => encoding.get_type_ids().to_vec(),
            false => vec![0; ids.len()],
        };
        Ok(TokenizedText { ids, types, is_cut: !encoding.get_overflowing().is_empty() })
    }
    /// An id that the model has.
    pub(super) fn checked(&self, id: u32) -> Result<u32> {
        match (id as usize) < self.vocabulary {
            true => Ok(id),
            false => Err(Error::Vocabulary {
                tokenizer: self.name.clone(),
                model: self.model.clone(),
                id,
                token: self.inner.id_to_token(id).unwrap_or_default(),
                vocabulary: self.vocabulary,
            }),
        }
    }

    /// What the `tokenizers` crate makes of a text.
    pub(super) fn ask<T>(&self, encode: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
        guarded(encode).map_err(|why| Error::file(Path::new(&self.name), format!("cannot encode: {why}")))
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
    use crate::text::companions::TOKENIZER;

    /// A word-piece tokenizer of a few words, whose file pads to 16 and cuts at 5.
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

    /// A `tokenizer.json` without files beside it.
    pub(crate) fn alone(json: &str) -> Files {
        Files::of("", [(TOKENIZER, json.into())])
    }

    fn fit(max_length: usize) -> Fit<'static> {
        Fit { model: "tiny", vocabulary: 9, positions: Some(12), max_length }
    }

    fn tokenizer(max_length: usize) -> Tokenizer {
        Tokenizer::of(&alone(&json()), fit(max_length)).unwrap()
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
        // BertTokenizerFast(.., truncation="longest_first", max_length=8) keeps 1 + 4 and 2 + 3
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
            Tokenizer::of(&alone(bytes), fit(max_length)).err().unwrap().to_string()
        };
        assert_eq!(refused(13, &json()), "`max-length` cannot be 13: tiny has 12 positions");
        assert_eq!(
            refused(3, &json()),
            "`max-length` cannot be 3: tokenizer.json adds 3 special tokens to a pair"
        );
        assert!(refused(12, &json()[..200]).starts_with("tokenizer.json: not a tokenizer: "));
        let error = Tokenizer::load("no/such", fit(12)).err().unwrap().to_string();
        assert!(error.starts_with("cannot read no/such/tokenizer.json: "), "{error}");
    }
}
