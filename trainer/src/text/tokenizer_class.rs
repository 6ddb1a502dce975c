//! transformers' classes of fast tokenizers: what each of them does to a `tokenizer.json` when it
//! loads one, and what it makes a tokenizer of where there is none.
//!
//! `PreTrainedTokenizerFast.__init__` (transformers 4.57) is shared by all of them; a row says what
//! a class does around it.

use serde_json::{Value, json};
use tokenizers::{NormalizerWrapper, PostProcessorWrapper};

use super::fields::{ADDITIONAL, Fields};
use super::template::{Part, plain, template};
use super::vocabulary::{Vocabulary, byte_level, sentence_piece, with_settings, word_piece};
use crate::error::Result;

/// One class, or several that do the same.
pub(super) struct Class {
    /// Its names, without `Fast` at the end.
    names: &'static [&'static str],
    /// The `model_type`s whose tokenizer it is, where no file names a class.
    models: &'static [&'static str],
    /// Its special tokens, where no file names others.
    pub tokens: &'static [(&'static str, &'static str)],
    /// Whether it tells the two texts of a pair apart (`token_type_ids` among its
    /// `model_input_names`).
    pub types: bool,
    /// Whether it takes lists of words only if each of them begins as after a space.
    pub spaced_words: bool,
    /// The vocabulary that its tokenizer is made of where there is no `tokenizer.json`.
    pub vocabulary: Option<&'static Vocabulary>,
    /// Whether `add_prefix_space` makes it read the vocabulary in any case.
    pub space_from_vocabulary: bool,
    /// What it does to the fields before they are read.
    pub before: fn(&mut Fields) -> Result<()>,
    /// What it does to the tokenizer in the end.
    pub after: fn(&Fields, &mut tokenizers::Tokenizer) -> Result<()>,
}

const PLAIN: Class = Class {
    names: &["PreTrainedTokenizer"],
    models: &["modernbert"],
    tokens: &[],
    types: true,
    spaced_words: false,
    vocabulary: None,
    space_from_vocabulary: false,
    before: |_| Ok(()),
    after: |_, _| Ok(()),
};
const BERT: Class = Class {
    names: &[
        "BertTokenizer",
        "ElectraTokenizer",
        "MobileBertTokenizer",
        "ConvBertTokenizer",
        "LxmertTokenizer",
        "SqueezeBertTokenizer",
        "LayoutLMTokenizer",
    ],
    models: &["bert", "electra", "mobilebert", "convbert", "lxmert", "squeezebert", "layoutlm"],
    tokens: &[
        ("unk_token", "[UNK]"),
        ("sep_token", "[SEP]"),
        ("pad_token", "[PAD]"),
        ("cls_token", "[CLS]"),
        ("mask_token", "[MASK]"),
    ],
    vocabulary: Some(&word_piece::BERT),
    after: normalizer_of_bert,
    ..PLAIN
};
const ROBERTA: Class = Class {
    names: &["RobertaTokenizer"],
    models: &["roberta"],
    tokens: &[
        ("bos_token", "<s>"),
        ("eos_token", "</s>"),
        ("sep_token", "</s>"),
        ("cls_token", "<s>"),
        ("unk_token", "<unk>"),
        ("pad_token", "<pad>"),
        ("mask_token", "<mask>"),
    ],
    types: false,
    spaced_words: true,
    vocabulary: Some(&byte_level::ROBERTA),
    before: |fields| mask_takes_the_space_before_it(fields, Some(false)),
    ..PLAIN
};
const CLASSES: &[Class] = &[
    PLAIN,
    BERT,
    Class { names: &["DistilBertTokenizer"], models: &["distilbert"], types: false, ..BERT },
    ROBERTA,
    Class {
        names: &["XLMRobertaTokenizer"],
        models: &["xlm-roberta"],
        spaced_words: false,
        vocabulary: Some(&sentence_piece::XLM_ROBERTA),
        before: |fields| mask_takes_the_space_before_it(fields, None),
        ..ROBERTA
    },
    Class {
        names: &["AlbertTokenizer"],
        models: &["albert"],
        tokens: &[
            ("bos_token", "[CLS]"),
            ("eos_token", "[SEP]"),
            ("unk_token", "<unk>"),
            ("sep_token", "[SEP]"),
            ("pad_token", "<pad>"),
            ("cls_token", "[CLS]"),
            ("mask_token", "[MASK]"),
        ],
        vocabulary: Some(&sentence_piece::ALBERT),
        before: |fields| mask_takes_the_space_before_it(fields, Some(false)),
        ..PLAIN
    },
    Class {
        names: &["GPT2Tokenizer"],
        models: &["gpt2", "gpt_neo", "gptj"],
        tokens: &[
            ("unk_token", "<|endoftext|>"),
            ("bos_token", "<|endoftext|>"),
            ("eos_token", "<|endoftext|>"),
        ],
        types: false,
        spaced_words: true,
        vocabulary: Some(&byte_level::GPT2),
        ..PLAIN
    },
    Class {
        names: &["Qwen2Tokenizer"],
        models: &["qwen2", "qwen3"],
        tokens: &[
            ("unk_token", "<|endoftext|>"),
            ("eos_token", "<|endoftext|>"),
            ("pad_token", "<|endoftext|>"),
        ],
        types: false,
        vocabulary: Some(&byte_level::QWEN2),
        before: |fields| {
            with_settings(fields, &["bos_token", "eos_token", "unk_token", "pad_token"], true);
            Ok(())
        },
        ..PLAIN
    },
    Class {
        names: &["LlamaTokenizer"],
        models: &["llama", "mistral"],
        tokens: &[("unk_token", "<unk>"), ("bos_token", "<s>"), ("eos_token", "</s>")],
        types: false,
        vocabulary: Some(&sentence_piece::LLAMA),
        space_from_vocabulary: true,
        after: template_of_llama,
        ..PLAIN
    },
    Class {
        names: &["T5Tokenizer", "MT5Tokenizer"],
        models: &["t5", "mt5"],
        tokens: &[("eos_token", "</s>"), ("unk_token", "<unk>"), ("pad_token", "<pad>")],
        types: false,
        vocabulary: Some(&sentence_piece::T5),
        space_from_vocabulary: true,
        before: extra_ids_of_t5,
        ..PLAIN
    },
];

/// The class of a name, with or without `Fast` at the end.
pub(super) fn named(name: &str) -> Option<&'static Class> {
    let name = name.strip_suffix("Fast").unwrap_or(name);
    CLASSES.iter().find(|class| class.names.contains(&name))
}

/// The class of a model type.
pub(super) fn of_model(kind: &str) -> Option<&'static Class> {
    CLASSES.iter().find(|class| class.models.contains(&kind))
}

/// Case, accents and Chinese characters, which a BERT normaliser treats as the fields say. Another
/// normaliser is left as it is.
fn normalizer_of_bert(fields: &Fields, tokenizer: &mut tokenizers::Tokenizer) -> Result<()> {
    const FIELDS: [&str; 3] = ["do_lower_case", "strip_accents", "tokenize_chinese_chars"];
    let mut normalizer = match tokenizer.get_normalizer() {
        Some(NormalizerWrapper::BertNormalizer(normalizer)) => *normalizer,
        Some(_) => return Ok(()),
        None => match FIELDS.into_iter().find(|field| fields.given(field).is_some()) {
            Some(field) => return Err(fields.error(field, "is there, but the tokenizer has no normalizer")),
            None => return Ok(()),
        },
    };
    normalizer.lowercase = fields.flag(FIELDS[0], true)?;
    normalizer.strip_accents = match fields.given(FIELDS[1]) {
        Some(_) => Some(fields.flag(FIELDS[1], false)?),
        None => None,
    };
    normalizer.handle_chinese_chars = fields.flag(FIELDS[2], true)?;
    tokenizer.with_normalizer(Some(normalizer));
    Ok(())
}

/// A mask that is given by its name alone takes the white space on its left in.
fn mask_takes_the_space_before_it(fields: &mut Fields, normalized: Option<bool>) -> Result<()> {
    const MASK: &str = "mask_token";
    if let Some(mask) = fields.get(MASK).filter(|value| value.is_string()) {
        let mut token = json!({ "__type": "AddedToken", "content": mask, "lstrip": true });
        if let Some(normalized) = normalized {
            token["normalized"] = normalized.into();
        }
        fields.set(MASK, token);
    }
    Ok(())
}

/// The tokens that stand for spans which are left out, `<extra_id_0>` and so on, if the files do
/// not list them.
fn extra_ids_of_t5(fields: &mut Fields) -> Result<()> {
    const COUNT: &str = "extra_ids";
    const MOST: u64 = 1 << 16;
    let count = match fields.get(COUNT) {
        None => 100,
        Some(n) => n
            .as_u64()
            .filter(|n| *n <= MOST)
            .ok_or_else(|| fields.error(COUNT, format!("is {n}, not a number up to {MOST}")))?,
    };
    let mut tokens = match fields.given(ADDITIONAL) {
        None => vec![],
        Some(Value::Array(tokens)) => tokens.clone(),
        Some(_) => return Err(fields.error(ADDITIONAL, "is not a list")),
    };
    let named = |token: &Value| {
        token.as_str().or(token["content"].as_str()).is_some_and(|t| t.contains("<extra_id_"))
    };
    match tokens.iter().filter(|token| named(token)).count() as u64 {
        0 => tokens.extend((0..count).map(|i| format!("<extra_id_{i}>").into())),
        n if count > 0 && n != count => {
            return Err(
                fields.error(ADDITIONAL, format!("has {n} tokens <extra_id_N>, not {count} as `extra_ids`"))
            );
        }
        _ => {}
    }
    fields.set(ADDITIONAL, tokens.into());
    Ok(())
}

/// What stands in front of a text and behind it, as the fields say; of a pair each text for itself.
fn template_of_llama(fields: &Fields, tokenizer: &mut tokenizers::Tokenizer) -> Result<()> {
    let special = fields.special()?;
    let token = |flag: &str, field: &str, default: bool| -> Result<Option<(&str, u32)>> {
        if !fields.flag(flag, default)? {
            return Ok(None);
        }
        let named = special.iter().find(|(name, _)| name == field).and_then(|(_, tokens)| tokens.first());
        let named = named.ok_or_else(|| fields.error(field, format!("is missing, but `{flag}` is true")))?;
        let token = plain(named.content()).map_err(|why| fields.error(field, why))?;
        let id = tokenizer.token_to_id(token);
        Ok(Some((token, id.ok_or_else(|| fields.error(field, format!("is `{token}`, which is no token")))?)))
    };
    let bos = token("add_bos_token", "bos_token", true)?;
    let eos = token("add_eos_token", "eos_token", false)?;
    let around = |text, kind| {
        let token = |token: Option<(_, _)>| token.map(|(token, _)| Part::Token(token, kind));
        token(bos).into_iter().chain([Part::Text(text, kind)]).chain(token(eos)).collect::<Vec<_>>()
    };
    let single = around("A", 0);
    let pair = [around("A", 0), around("B", 1)].concat();
    let ids: Vec<_> = bos.into_iter().chain(eos).collect();
    let template = serde_json::from_value::<PostProcessorWrapper>(template(&single, &pair, &ids));
    tokenizer.with_post_processor(Some(template.map_err(|why| fields.error("bos_token", why.to_string()))?));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        assert!(named("BertTokenizer").unwrap().types && named("BertTokenizerFast").unwrap().types);
        assert!(!named("DistilBertTokenizer").unwrap().types);
        assert!(named("PreTrainedTokenizerFast").is_some() && named("BertTokenizerFastFast").is_none());
        assert!(of_model("gpt2").is_some() && of_model("").is_none());
        for (i, class) in CLASSES.iter().enumerate() {
            let others = CLASSES[i + 1..].iter();
            assert!(others.flat_map(|c| c.names).all(|name| !class.names.contains(name)));
        }
    }
}
