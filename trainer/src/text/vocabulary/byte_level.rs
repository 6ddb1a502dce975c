//! `vocab.json` and `merges.txt`: byte-level BPE (`GPT2Converter`, `RobertaConverter`,
//! `Qwen2Converter`).

use std::collections::HashSet;

use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, Merges, Vocab};

use super::{Given, Vocabulary, recipe::Recipe, slow::Slow, with_settings};
use crate::error::Result;
use crate::text::guarded::guarded;
use crate::text::template::{Part::*, template};

const FILES: &[&str] = &["vocab.json", MERGES];
const MERGES: &str = "merges.txt";

/// The vocabulary of GPT-2 and of what is like it.
pub const GPT2: Vocabulary = Vocabulary {
    files: FILES,
    named: |fields| with_settings(fields, &["bos_token", "eos_token", "unk_token", "pad_token"], false),
    convert: gpt2,
};
/// That of RoBERTa.
pub const ROBERTA: Vocabulary = Vocabulary {
    files: FILES,
    named: |fields| {
        let names = ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token"];
        with_settings(fields, &names, false)
    },
    convert: roberta,
};
/// That of Qwen2 and Qwen3.
pub const QWEN2: Vocabulary = Vocabulary {
    files: FILES,
    named: |fields| with_settings(fields, &["bos_token", "eos_token", "unk_token", "pad_token"], true),
    convert: qwen2,
};

fn gpt2(given: &Given<'_>) -> Result<Recipe> {
    let vocabulary = vocabulary(given)?;
    let slow = Slow::new(given, vocabulary.iter().map(|(piece, id)| (piece.as_str(), *id)), false);
    let post_processor = match given.flag("add_bos_token", false)? {
        false => untrimmed(),
        true => {
            let bos = given.token("bos_token")?;
            let unknown = given.token("unk_token").ok();
            let unknown = unknown.and_then(|unk| slow.id(given, "unk_token", unk, None).ok());
            let ids = [(bos, slow.id(given, "bos_token", bos, unknown)?)];
            let pair = [Token(bos, 0), Text("A", 0), Text("B", 1)];
            template(&pair[..2], &pair, &ids)
        }
    };
    let space = given.fields.flag("add_prefix_space", false)?;
    let merges = merges_between_first_and_last(given)?;
    recipe(given, &vocabulary, merges, bytes(space, true), post_processor)
}

fn roberta(given: &Given<'_>) -> Result<Recipe> {
    let vocabulary = vocabulary(given)?;
    let slow = Slow::new(given, vocabulary.iter().map(|(piece, id)| (piece.as_str(), *id)), false);
    let unknown = given.token("unk_token").ok();
    let unknown = unknown.and_then(|unk| slow.id(given, "unk_token", unk, None).ok());
    let token = |field: &str| -> Result<Value> {
        let token = given.token(field)?;
        Ok(json!([token, slow.id(given, field, token, unknown)?]))
    };
    let space = given.fields.flag("add_prefix_space", false)?;
    let post_processor = json!({
        "type": "RobertaProcessing", "sep": token("sep_token")?, "cls": token("cls_token")?,
        "trim_offsets": true, "add_prefix_space": space,
    });
    let merges = merges_between_first_and_last(given)?;
    recipe(given, &vocabulary, merges, bytes(space, true), post_processor)
}

fn qwen2(given: &Given<'_>) -> Result<Recipe> {
    const WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    if given.flag("add_prefix_space", false)? {
        return Err(given.fields.error("add_prefix_space", "is true, which transformers does not load here"));
    }
    let vocabulary = vocabulary(given)?;
    let words =
        json!({ "type": "Split", "pattern": { "Regex": WORDS }, "behavior": "Isolated", "invert": false });
    let pre_tokenizer = json!({ "type": "Sequence", "pretokenizers": [words, bytes(false, false)] });
    let text = given.text(MERGES)?;
    let lines = text.split('\n').enumerate().filter(|(number, line)| {
        let line = line.trim_matches(is_python_space);
        let is_version = *number == 0 && line.starts_with("#version:");
        !line.is_empty() && !is_version
    });
    let merges = merges(given, lines)?;
    let mut recipe = recipe(given, &vocabulary, merges, pre_tokenizer, untrimmed())?;
    recipe.normalizer = json!({ "type": "NFC" });
    Ok(recipe)
}

/// The part of a tokenizer that takes texts for bytes.
fn bytes(space: bool, words: bool) -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": space, "trim_offsets": true, "use_regex": words })
}

/// What stands in the place of a template.
fn untrimmed() -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true })
}

fn recipe(
    given: &Given<'_>,
    vocabulary: &Vocab,
    merges: Merges,
    pre_tokenizer: Value,
    post_processor: Value,
) -> Result<Recipe> {
    let bpe = BPE::builder().vocab_and_merges(vocabulary.clone(), merges);
    let bpe = bpe.continuing_subword_prefix(String::new()).end_of_word_suffix(String::new());
    Ok(Recipe {
        model: guarded(|| bpe.build()).map_err(|why| given.wrong(MERGES, why))?.into(),
        normalizer: Value::Null,
        pre_tokenizer,
        post_processor,
        decoder: bytes(true, true),
        added: vec![],
    })
}

fn vocabulary(given: &Given<'_>) -> Result<Vocab> {
    let json = given.vocabulary()?;
    serde_json::from_slice(json).map_err(|e| given.wrong(given.name, format!("not a vocabulary: {e}")))
}

/// GPT-2's own reader leaves out the first line, which says the version, and what stands behind the
/// last end of a line.
fn merges_between_first_and_last(given: &Given<'_>) -> Result<Merges> {
    let text = given.text(MERGES)?;
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    merges(given, whole.split('\n').enumerate().skip(1))
}

/// Merges of lines, the first of equal ones.
fn merges<'a>(given: &Given<'_>, lines: impl Iterator<Item = (usize, &'a str)>) -> Result<Merges> {
    let mut known = HashSet::new();
    let mut merges = vec![];
    for (number, line) in lines {
        let mut parts = line.split(is_python_space).filter(|part| !part.is_empty());
        let (Some(first), Some(second), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(crate::error::Error::line(
                &given.files.path(MERGES),
                number + 1,
                format!("`{line}` is not two pieces"),
            ));
        };
        if known.insert((first, second)) {
            merges.push((first.to_string(), second.to_string()));
        }
    }
    Ok(merges)
}

/// White space of Python's `str.split`.
fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}
