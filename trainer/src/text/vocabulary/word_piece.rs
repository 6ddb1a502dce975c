//! `vocab.txt`: a piece a line, of WordPiece (`BertConverter`).

use serde_json::json;
use tokenizers::models::{bpe::Vocab, wordpiece::WordPiece};

use super::{Given, Vocabulary, recipe::Recipe, slow::Slow};
use crate::error::Result;
use crate::text::guarded::guarded;
use crate::text::template::{Part::*, template};

/// The vocabulary of BERT and of what is like it.
pub const BERT: Vocabulary = Vocabulary { files: &["vocab.txt"], named: |_| {}, convert: bert };

fn bert(given: &Given<'_>) -> Result<Recipe> {
    let text = given.text(given.name)?;
    // of two equal pieces the later one counts
    let vocabulary: Vocab =
        (0..).zip(text.split_terminator('\n')).map(|(id, piece)| (piece.to_string(), id)).collect();
    let (cls, sep, unk) = (given.token("cls_token")?, given.token("sep_token")?, given.token("unk_token")?);
    if !vocabulary.contains_key(unk) {
        return Err(given.fields.error("unk_token", format!("is `{unk}`, which {} has not", given.name)));
    }
    let slow = Slow::new(given, vocabulary.iter().map(|(piece, id)| (piece.as_str(), *id)), false);
    let unknown = slow.id(given, "unk_token", unk, None).ok();
    let ids = [
        (cls, slow.id(given, "cls_token", cls, unknown)?),
        (sep, slow.id(given, "sep_token", sep, unknown)?),
    ];
    let single = [Token(cls, 0), Text("A", 0), Token(sep, 0)];
    let pair = [Token(cls, 0), Text("A", 0), Token(sep, 0), Text("B", 1), Token(sep, 1)];
    let model = guarded(|| WordPiece::builder().vocab(vocabulary.clone()).unk_token(unk.into()).build());
    Ok(Recipe {
        model: model.map_err(|why| given.wrong(given.name, why))?.into(),
        // the class sets the rest of it
        normalizer: json!({ "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                            "strip_accents": null, "lowercase": true }),
        pre_tokenizer: json!({ "type": "BertPreTokenizer" }),
        post_processor: template(&single, &pair, &ids),
        decoder: json!({ "type": "WordPiece", "prefix": "##", "cleanup": true }),
        added: vec![],
    })
}
