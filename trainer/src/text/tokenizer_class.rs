//! transformers' classes of fast tokenizers: what each of them does to a `tokenizer.json` when it
//! loads one.
//!
//! `PreTrainedTokenizerFast.__init__` (transformers 4.57) is shared by all of them; a row says what
//! a class does around it.

use serde_json::{Value, json};
use tokenizers::NormalizerWrapper;

use super::fields::{ADDITIONAL, Fields};
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
    /// What it does to the fields before they are read.
    pub before: fn(&mut Fields) -> Result<()>,
    /// What it does to the tokenizer in the end.
    pub after: fn(&Fields, &mut tokenizers::Tokenizer) -> Result<()>,
}

const PLAIN: Class = Class {
    names: &["PreTrainedTokenizer"],
    models: &[],
    tokens: &[],
    types: true,
    spaced_words: false,
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
        before: |fields| mask_takes_the_space_before_it(fields, None),
        ..ROBERTA
    },
    Class {
        names: &["GPT2Tokenizer"],
        models: &["gpt2"],
        tokens: &[
            ("unk_token", "<|endoftext|>"),
            ("bos_token", "<|endoftext|>"),
            ("eos_token", "<|endoftext|>"),
        ],
        types: false,
        spaced_words: true,
        ..PLAIN
    },
    Class {
        names: &["T5Tokenizer"],
        models: &["t5"],
        tokens: &[("eos_token", "</s>"), ("unk_token", "<unk>"), ("pad_token", "<pad>")],
        types: false,
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
    if fields.given("add_prefix_space").is_some() {
        return Err(
            fields.error("add_prefix_space", "makes transformers read another file than tokenizer.json")
        );
    }
    fields.set("add_prefix_space", Value::Null);
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
