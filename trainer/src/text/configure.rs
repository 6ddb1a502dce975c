//! What transformers does to the content of a `tokenizer.json` before it uses it, in transformers'
//! order: `PreTrainedTokenizerFast.__init__` and those of its classes (transformers 4.57). A
//! tokenizer that is made of a vocabulary goes through the same.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;
use tokenizers::{ModelWrapper, PreTokenizerWrapper, TruncationDirection};

use super::added::{Added, Named};
use super::charsmap::check_within;
use super::companions::{Files, Merged, TOKENIZER};
use super::fields::{Fields, Side, Special as Tokens};
use super::guarded::guarded;
use super::vocabulary::Vocabulary;
use crate::error::{Error, Result};

/// A tokenizer, and what it is told with every text, and not once for all.
pub(super) struct Configured {
    /// The tokenizer.
    pub tokenizer: tokenizers::Tokenizer,
    /// The file that has its vocabulary.
    pub path: PathBuf,
    /// At which end texts are cut.
    pub direction: TruncationDirection,
    /// Whether the two texts of a pair are told apart.
    pub types: bool,
    /// Whether words that stand alone begin as after a space.
    pub spaced_words: bool,
    /// Special tokens that have a name of their own.
    pub special: Special,
}

/// Special tokens that have a name of their own.
#[derive(Debug)]
pub(super) struct Special {
    /// What stands at the end of a text.
    pub end: End,
    /// What stands in front of it.
    pub begin: Option<u32>,
    /// What stands where a token is hidden.
    pub mask: Option<u32>,
    /// All of them, of the named kinds and of others.
    pub all: Vec<u32>,
}

/// What stands at the end of a text.
#[derive(Debug)]
pub(super) enum End {
    /// A token that the tokenizer's files name.
    Named(u32),
    /// That of the tokenizer's class, that of the model, or nothing.
    Usual(Option<u32>, Option<u32>),
}

/// Fields that make transformers read something else than `tokenizer.json`, or read it otherwise.
const OTHERWISE: [&str; 5] =
    ["gguf_file", "tokenizer_object", "__slow_tokenizer", "from_slow", "fix_mistral_regex"];

/// Makes the tokenizer that transformers makes of the files.
pub(super) fn configure(files: &Files) -> Result<Configured> {
    let path = files.path(TOKENIZER);
    let own = |tokenizer: &tokenizers::Tokenizer| {
        tokenizer.get_truncation().map_or(TruncationDirection::Right, |truncation| truncation.direction)
    };
    let Some(merged) = files.merge()? else {
        if !files.has(TOKENIZER) {
            let why = "is missing, and no other file names the class of a tokenizer";
            return Err(Error::file(&path, why));
        }
        let tokenizer = parse(&path, files.content(TOKENIZER))?;
        let (direction, special) = (own(&tokenizer), Special::of(&tokenizer, &[], End::Usual(None, None)));
        return Ok(Configured { tokenizer, path, direction, types: true, spaced_words: true, special });
    };
    let vocabulary = merged.vocabulary(files);
    let Merged { class, mut fields, added } = merged;
    refuse(&fields, files.has(TOKENIZER))?;
    let has_end = fields.given("eos_token").is_some();
    class.tokens.iter().for_each(|(field, token)| fields.set_default(field, *token));
    if let Some(vocabulary) = vocabulary {
        (vocabulary.named)(&mut fields);
    }
    (class.before)(&mut fields)?;
    let (path, mut tokenizer, special) = base(files, vocabulary, &mut fields, &added)?;
    let side = fields.side("truncation_side")?;
    let direction = match side {
        Some(Side::Left) => TruncationDirection::Left,
        Some(Side::Right) => TruncationDirection::Right,
        None => own(&tokenizer),
    };
    fields.side("padding_side")?;
    fields.model_max_length()?;
    let types = match fields.get("model_input_names") {
        None => class.types,
        Some(Value::Array(names)) => names.iter().any(|name| name == "token_type_ids"),
        Some(_) => return Err(fields.error("model_input_names", "is not a list")),
    };
    tokenizer.set_encode_special_tokens(fields.flag("split_special_tokens", false)?);
    add(&mut tokenizer, added.into_values().collect(), &special).map_err(|why| Error::file(&path, why))?;
    if !class.space_from_vocabulary {
        space_in_front(&fields, &mut tokenizer);
    }
    (class.after)(&fields, &mut tokenizer)?;

    let end = special.iter().find(|(name, _)| name == "eos_token").and_then(|(_, t)| t.first());
    let end = end.and_then(|token| tokenizer.token_to_id(token.content()));
    let end = match end {
        Some(id) if has_end => End::Named(id),
        id => End::Usual(id, files.end_of_model()),
    };
    let special = Special::of(&tokenizer, &special, end);
    Ok(Configured { tokenizer, path, direction, types, spaced_words: class.spaced_words, special })
}

impl Special {
    fn of(tokenizer: &tokenizers::Tokenizer, named: &[(String, Vec<Named>)], end: End) -> Special {
        let id = |field: &str| {
            let (_, tokens) = named.iter().find(|(name, _)| name == field)?;
            tokenizer.token_to_id(tokens.first()?.content())
        };
        let named = named.iter().flat_map(|(_, tokens)| tokens);
        let added = tokenizer.get_added_tokens_decoder();
        let mut all: Vec<u32> = named.filter_map(|token| tokenizer.token_to_id(token.content())).collect();
        all.extend(added.into_iter().filter(|(_, token)| token.special).map(|(id, _)| id));
        all.sort_unstable();
        all.dedup();
        Special { end, begin: id("bos_token"), mask: id("mask_token"), all }
    }
}

/// The tokenizer of `tokenizer.json` or of a vocabulary, with the path of that file, and the special
/// tokens.
fn base(
    files: &Files,
    vocabulary: Option<&Vocabulary>,
    fields: &mut Fields,
    added: &BTreeMap<i64, Added>,
) -> Result<(PathBuf, tokenizers::Tokenizer, Tokens)> {
    if let Some(vocabulary) = vocabulary {
        let mut special = fields.special()?;
        // the slow tokenizer has decided what was still open
        special.iter_mut().flat_map(|(_, tokens)| tokens).for_each(Named::settle);
        // one that is made beside a tokenizer.json is not told what that adds
        let none = BTreeMap::new();
        let added = if files.has(TOKENIZER) { &none } else { added };
        let (path, tokenizer) = vocabulary.build(files, fields, added, &special)?;
        return Ok((path, tokenizer, special));
    }
    let path = files.path(TOKENIZER);
    if !files.has(TOKENIZER) {
        return Err(Error::file(&path, "is missing, and its class reads no other vocabulary"));
    }
    let tokenizer = parse(&path, files.content(TOKENIZER))?;
    // what it says of padding and truncation stands in for fields that no file has
    if let Some(padding) = tokenizer.get_padding() {
        fields.set_default("pad_token", padding.pad_token.clone());
    }
    Ok((path, tokenizer, fields.special()?))
}

fn refuse(fields: &Fields, has_tokenizer: bool) -> Result<()> {
    let other =
        |field: &str| fields.error(field, format!("makes transformers read something else than {TOKENIZER}"));
    let is_set = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
    if let Some(field) = OTHERWISE.into_iter().find(|field| fields.get(field).is_some_and(is_set)) {
        return Err(other(field));
    }
    let is_filled = |value: &Value| value.as_array().is_none_or(|list| !list.is_empty());
    if has_tokenizer && fields.get("tokenizer_file").is_some() {
        return Err(other("tokenizer_file"));
    }
    if fields.given("init_inputs").is_some_and(is_filled) {
        return Err(other("init_inputs"));
    }
    let versions = fields.get("fast_tokenizer_files").and_then(Value::as_array).into_iter().flatten();
    if versions.into_iter().any(|name| name != TOKENIZER) {
        return Err(other("fast_tokenizer_files"));
    }
    Ok(())
}

/// Adds the tokens of the files to the vocabulary, and the special ones that are not among them.
fn add(
    tokenizer: &mut tokenizers::Tokenizer,
    mut tokens: Vec<Added>,
    special: &Tokens,
) -> Result<(), String> {
    let mut names: HashSet<&str> = HashSet::new();
    let mut all: Vec<&Named> = vec![];
    for (_, list) in special {
        // within a list a token may be there twice
        let new: Vec<&Named> = list.iter().filter(|token| !names.contains(token.content())).collect();
        names.extend(new.iter().map(|token| token.content()));
        all.extend(new);
    }
    let mut known: HashSet<String> =
        tokenizer.get_added_tokens_decoder().into_values().map(|token| token.content).collect();
    known.extend(tokens.iter().map(|token| token.content.clone()));
    let missing = all.into_iter().filter_map(|token| match token {
        Named::Name(name) => (!known.contains(name)).then(|| Added::new(name, true)),
        Named::Token(token) => (!tokens.iter().any(|t| t.token() == token.token())).then(|| token.clone()),
    });
    let missing: Vec<Added> = missing.collect();
    tokens.extend(missing);
    let token = |mut token: Added| {
        token.special |= names.contains(token.content.as_str());
        token.token()
    };
    let tokens: Vec<_> = tokens.into_iter().map(token).collect();
    guarded(|| Ok(tokenizer.add_tokens(&tokens))).map(|_| ())
}

/// Whether a text begins as after a space is the field's choice alone, whatever `tokenizer.json`
/// says; only where a byte-level splitter stands by itself.
fn space_in_front(fields: &Fields, tokenizer: &mut tokenizers::Tokenizer) {
    const FIELD: &str = "add_prefix_space";
    let space = match fields.get(FIELD) {
        None => false,
        Some(Value::Bool(space)) => *space,
        // python fails to build a splitter with anything else, and goes on with the one there is
        Some(_) => return,
    };
    begin_with_space(tokenizer, space);
}

/// Whether what a byte-level splitter is given begins as after a space.
pub(super) fn begin_with_space(tokenizer: &mut tokenizers::Tokenizer, space: bool) {
    if let Some(PreTokenizerWrapper::ByteLevel(bytes)) = tokenizer.get_pre_tokenizer() {
        let bytes = bytes.add_prefix_space(space);
        tokenizer.with_pre_tokenizer(Some(bytes));
    }
}

/// Reads the content of a `tokenizer.json`. What the `tokenizers` crate takes for granted and a
/// damaged file has not is an error here; and so is dropout, which would leave token ids to chance.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<tokenizers::Tokenizer> {
    let not = |why: String| Error::file(path, format!("not a tokenizer: {why}"));
    let outline: Outline = serde_json::from_slice(bytes).map_err(|error| not(error.to_string()))?;
    if outline.model.merges.is_some() && outline.model.continuing_subword_prefix.is_some() {
        check_merges(bytes).map_err(not)?;
    }
    check_within(&outline.normalizer).map_err(not)?;
    let tokenizer = guarded(|| tokenizers::Tokenizer::from_bytes(bytes)).map_err(not)?;
    if let ModelWrapper::BPE(model) = tokenizer.get_model()
        && let Some(dropout) = model.dropout.filter(|dropout| *dropout > 0.0)
    {
        return Err(Error::file(
            path,
            format!("field `dropout` is {dropout}: token ids would be left to chance"),
        ));
    }
    if let Some(processor) = tokenizer.get_post_processor() {
        check_templates(&serde_json::to_value(processor).map_err(|error| not(error.to_string()))?)
            .map_err(not)?;
    }
    Ok(tokenizer)
}

/// A little of a `tokenizer.json`.
#[derive(Deserialize)]
struct Outline {
    model: OutlineOfModel,
    #[serde(default)]
    normalizer: Value,
}
#[derive(Deserialize)]
struct OutlineOfModel {
    continuing_subword_prefix: Option<String>,
    merges: Option<IgnoredAny>,
}

/// Whether what is merged is as long as the prefix that the merged token is to go without.
fn check_merges(bytes: &[u8]) -> Result<(), String> {
    let file: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let prefix = file["model"]["continuing_subword_prefix"].as_str().unwrap_or_default();
    for merge in file["model"]["merges"].as_array().into_iter().flatten() {
        let second = merge[1].as_str().or_else(|| Some(merge.as_str()?.split_once(' ')?.1));
        if second.is_some_and(|second| second.get(prefix.len()..).is_none()) {
            return Err(format!("the merge {merge} has no room for `{prefix}`"));
        }
    }
    Ok(())
}

/// Whether templates list the special tokens that they name.
fn check_templates(processor: &Value) -> Result<(), String> {
    for inner in processor["processors"].as_array().into_iter().flatten() {
        check_templates(inner)?;
    }
    if processor["type"] != "TemplateProcessing" {
        return Ok(());
    }
    let pieces = ["single", "pair"].into_iter().filter_map(|kind| processor[kind].as_array()).flatten();
    for name in pieces.filter_map(|piece| piece["SpecialToken"]["id"].as_str()) {
        let token = &processor["special_tokens"][name];
        let count = |list: &str| token[list].as_array().map(Vec::len);
        if count("ids").is_none() || count("ids") != count("tokens") {
            return Err(format!("its post_processor has no ids and tokens for `{name}`"));
        }
    }
    Ok(())
}
