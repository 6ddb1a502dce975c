//! `spiece.model`, `tokenizer.model`, `sentencepiece.bpe.model`: SentencePiece, unigram and BPE
//! (`SpmConverter` and what is made of it for T5, ALBERT, XLM-RoBERTa and Llama).

use std::cmp::Ordering;
use std::collections::HashMap;

use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::models::unigram::Unigram;
use tokenizers::{AddedToken, ModelWrapper};

use super::model::{Algorithm, SentencePiece};
use super::{Given, Vocabulary, recipe::Recipe, slow::Slow, with_settings};
use crate::error::Result;
use crate::text::added::Added;
use crate::text::guarded::guarded;
use crate::text::template::{Part::*, template};

const SPACE: &str = "\u{2581}";

/// The vocabulary of T5 and mT5.
pub const T5: Vocabulary = Vocabulary {
    files: &["spiece.model"],
    named: |fields| with_settings(fields, &["eos_token", "unk_token", "pad_token"], true),
    convert: t5,
};
/// That of ALBERT.
pub const ALBERT: Vocabulary = Vocabulary { files: &["spiece.model"], named: |_| {}, convert: albert };
/// That of XLM-RoBERTa.
pub const XLM_ROBERTA: Vocabulary = Vocabulary {
    files: &["sentencepiece.bpe.model"],
    named: |fields| {
        if let Some(mask) = fields.get("mask_token").and_then(Value::as_str) {
            let mask = Added { lstrip: true, normalized: Some(false), ..Added::new(mask, true) };
            fields.set("mask_token", mask.json());
        }
    },
    convert: xlm_roberta,
};
/// That of Llama and Mistral.
pub const LLAMA: Vocabulary = Vocabulary {
    files: &["tokenizer.model"],
    named: |fields| with_settings(fields, &["bos_token", "eos_token", "unk_token", "pad_token"], true),
    convert: llama,
};

fn t5(given: &Given<'_>) -> Result<Recipe> {
    let spm = read(given)?;
    let mut pieces = scores(&spm, 0..spm.pieces.len());
    // the class has looked at the field
    let extra = given.fields.get("extra_ids").and_then(Value::as_u64).unwrap_or(100).min(1 << 16);
    pieces.extend((0..extra).rev().map(|i| (format!("<extra_id_{i}>"), 0.0)));
    let eos = slow(given, &pieces).id(given, "eos_token", "</s>", Some(spm.unknown as u32))?;
    let pair = [Text("A", 0), Token("</s>", 0), Text("B", 0), Token("</s>", 0)];
    let scheme = prepend(given.flag_or_null("add_prefix_space", true)?, given.flag("legacy", true)?);
    Ok(Recipe {
        model: model(given, &spm, pieces, spm.unknown, false)?,
        normalizer: normalizer(&spm, vec![], usual_spaces()),
        pre_tokenizer: metaspace(scheme, true),
        post_processor: template(&pair[..2], &pair, &[("</s>", eos)]),
        decoder: metaspace(scheme, true),
        added: added(&spm),
    })
}

fn albert(given: &Given<'_>) -> Result<Recipe> {
    let spm = read(given)?;
    let mut pieces = scores(&spm, 0..spm.pieces.len());
    for (piece, score) in &mut pieces {
        // `9,` is cut into `9` and `,`
        let before = piece.strip_suffix(',').and_then(|rest| rest.chars().next_back());
        if before.is_some_and(char::is_numeric) {
            *score -= 100.0;
        }
    }
    let (cls, sep) = ("[CLS]", "[SEP]");
    let slow = slow(given, &pieces);
    let id = |token: &'static str| -> Result<(&str, u32)> {
        Ok((token, slow.id(given, "cls_token", token, Some(spm.unknown as u32))?))
    };
    let ids = [id(cls)?, id(sep)?];
    let pair = [Token(cls, 0), Text("A", 0), Token(sep, 0), Text("B", 1), Token(sep, 1)];
    let replace = |from: &str| json!({ "type": "Replace", "pattern": { "String": from }, "content": "\"" });
    let mut first = vec![replace("``"), replace("''")];
    if !given.fields.flag("keep_accents", false)? {
        first.extend([json!({ "type": "NFKD" }), json!({ "type": "StripAccents" })]);
    }
    if given.fields.flag("do_lower_case", true)? {
        first.push(json!({ "type": "Lowercase" }));
    }
    Ok(Recipe {
        model: model(given, &spm, pieces, spm.unknown, false)?,
        normalizer: normalizer(&spm, first, vec![spaces(" ")]),
        pre_tokenizer: metaspace("always", true),
        post_processor: template(&pair[..3], &pair, &ids),
        decoder: metaspace("always", true),
        added: added(&spm),
    })
}

fn xlm_roberta(given: &Given<'_>) -> Result<Recipe> {
    let spm = read(given)?;
    // fairseq has four tokens of its own in place of the first three pieces
    let own = |tokens: &[&str]| tokens.iter().map(|token| (token.to_string(), 0.0)).collect::<Vec<_>>();
    let mut pieces = own(&["<s>", "<pad>", "</s>", "<unk>"]);
    pieces.extend(scores(&spm, 3..spm.pieces.len()));
    pieces.extend(own(&["<mask>"]));
    let (bos, eos) = ("<s>", "</s>");
    let slow = slow(given, &pieces);
    let id = |token: &'static str| -> Result<(&str, u32)> {
        Ok((token, slow.id(given, "cls_token", token, None)?))
    };
    let ids = [id(bos)?, id(eos)?];
    let pair = [Token(bos, 0), Text("A", 0), Token(eos, 0), Token(eos, 0), Text("B", 0), Token(eos, 0)];
    Ok(Recipe {
        model: model(given, &spm, pieces, 3, false)?,
        normalizer: normalizer(&spm, vec![], usual_spaces()),
        pre_tokenizer: metaspace("always", true),
        post_processor: template(&pair[..3], &pair, &ids),
        decoder: metaspace("always", true),
        added: added(&spm),
    })
}

fn llama(given: &Given<'_>) -> Result<Recipe> {
    let spm = read(given)?;
    let own = scores(&spm, 0..spm.pieces.len());
    let slow = slow(given, &own).added();
    // the first three are what the slow tokenizer calls them
    let first = own.iter().take(3).zip(0..).map(|((piece, _), id)| {
        (slow.get(&id).map_or_else(|| piece.clone(), |token| token.to_string()), 0.0)
    });
    let pieces: Vec<_> = first.chain(own.iter().skip(3).cloned()).collect();
    let (legacy, space) = (given.flag("legacy", true)?, given.flag_or_null("add_prefix_space", true)?);
    let replace =
        |from: &str, to: &str| json!({ "type": "Replace", "pattern": { "String": from }, "content": to });
    let (normalizer, pre_tokenizer) = match legacy {
        true => {
            let prepend = space.then(|| json!({ "type": "Prepend", "prepend": SPACE }));
            let all: Vec<_> = prepend.into_iter().chain([replace(" ", SPACE)]).collect();
            (json!({ "type": "Sequence", "normalizers": all }), Value::Null)
        }
        false => (Value::Null, metaspace(prepend(space, legacy), false)),
    };
    let mut decoders =
        vec![replace(SPACE, " "), json!({ "type": "ByteFallback" }), json!({ "type": "Fuse" })];
    if space {
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    Ok(Recipe {
        model: model(given, &spm, pieces, 0, true)?,
        normalizer,
        pre_tokenizer,
        // the class sets it
        post_processor: Value::Null,
        decoder: json!({ "type": "Sequence", "decoders": decoders }),
        added: added(&spm),
    })
}

fn read<'a>(given: &Given<'a>) -> Result<SentencePiece<'a>> {
    let file = given.vocabulary()?;
    SentencePiece::read(file)
        .map_err(|why| given.wrong(given.name, format!("not a SentencePiece model: {why}")))
}

/// Some of the pieces with their scores.
fn scores(spm: &SentencePiece<'_>, which: std::ops::Range<usize>) -> Vec<(String, f64)> {
    let pieces = spm.pieces.get(which).unwrap_or_default();
    pieces.iter().map(|piece| (piece.text.to_string(), f64::from(piece.score))).collect()
}

fn slow<'a>(given: &Given<'a>, pieces: &'a [(String, f64)]) -> Slow<'a> {
    Slow::new(given, pieces.iter().map(|(piece, _)| piece.as_str()).zip(0..), true)
}

fn ids(pieces: &[(String, f64)]) -> Vocab {
    (0..).zip(pieces).map(|(id, (piece, _))| (piece.clone(), id)).collect()
}

/// Pieces that are not to be cut.
fn added(spm: &SentencePiece<'_>) -> Vec<AddedToken> {
    spm.added().map(|(piece, special)| AddedToken::from(piece, special).normalized(false)).collect()
}

/// The model of these pieces, which may be others than those of the file.
fn model(
    given: &Given<'_>,
    spm: &SentencePiece<'_>,
    pieces: Vec<(String, f64)>,
    unknown: usize,
    bytes: bool,
) -> Result<ModelWrapper> {
    let made: Result<ModelWrapper, String> = match spm.algorithm {
        Algorithm::Unigram => guarded(|| Ok(Unigram::from(pieces, Some(unknown), bytes)?.into())),
        Algorithm::Bpe => {
            let bpe = BPE::builder().vocab_and_merges(ids(&pieces), merges(spm, &pieces));
            let bpe = bpe.unk_token(spm.unknown_text.into()).fuse_unk(true).byte_fallback(bytes);
            guarded(|| Ok(bpe.build()?.into()))
        }
    };
    made.map_err(|why| given.wrong(given.name, why))
}

/// The merges of BPE: every way to cut a piece in two pieces of the file, by the score of the
/// piece and then by the lengths of the two, the highest first.
fn merges(spm: &SentencePiece<'_>, pieces: &[(String, f64)]) -> Merges {
    let known: HashMap<&str, usize> = spm.pieces.iter().enumerate().map(|(id, p)| (p.text, id)).collect();
    // of equal pieces the first one's place counts, and the last one's score
    let mut places = HashMap::new();
    let mut scored: Vec<(&str, f64)> = vec![];
    for (piece, score) in pieces {
        let at = *places.entry(piece).or_insert(scored.len());
        match scored.get_mut(at) {
            Some(known) => known.1 = *score,
            None => scored.push((piece, *score)),
        }
    }
    let mut all = vec![];
    for (piece, score) in scored {
        let cuts =
            piece.char_indices().enumerate().skip(1).map(|(count, (at, _))| (count, piece.split_at(at)));
        let length = piece.chars().count();
        let mut own: Vec<_> = cuts
            .filter_map(|(count, (left, right))| {
                Some((known.get(left)?, known.get(right)?, (score, count, length - count), left, right))
            })
            .collect();
        own.sort_by_key(|(left, right, ..)| (**left, **right));
        all.extend(own.into_iter().map(|(_, _, order, left, right)| (order, left, right)));
    }
    // equal ones stay in their order
    all.sort_by(|(a, ..), (b, ..)| b.partial_cmp(a).unwrap_or(Ordering::Equal));
    all.into_iter().map(|(_, left, right)| (left.to_string(), right.to_string())).collect()
}

/// What is done to a text: `first`, then the table of the model, then `last`.
fn normalizer(spm: &SentencePiece<'_>, mut first: Vec<Value>, last: Vec<Value>) -> Value {
    if !spm.charsmap.is_empty() {
        first.push(json!({ "type": "Precompiled", "precompiled_charsmap": base64::encode(spm.charsmap) }));
    }
    first.extend(last);
    json!({ "type": "Sequence", "normalizers": first })
}

/// Spaces at the end go, and several become one.
fn usual_spaces() -> Vec<Value> {
    vec![json!({ "type": "Strip", "strip_left": false, "strip_right": true }), spaces(SPACE)]
}

/// Several spaces become this.
fn spaces(one: &str) -> Value {
    json!({ "type": "Replace", "pattern": { "Regex": " {2,}" }, "content": one })
}

fn metaspace(scheme: &str, split: bool) -> Value {
    json!({ "type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": split })
}

/// In front of which parts of a text a space is put.
fn prepend(space: bool, legacy: bool) -> &'static str {
    match (space, legacy) {
        (true, true) => "always",
        (true, false) => "first",
        (false, _) => "never",
    }
}
