//! How much of a long text has to be looked at.
//!
//! A tokenizer that first splits at white space, and whose normaliser looks at single characters,
//! does the same with a text up to some white space whether the rest is there or not. So of a text
//! that will be cut only its head is tokenised, and of one that will not one part after the other:
//! a long text takes no more memory than a short one.
use crate::error::Result;
use serde_json::Value;
use std::borrow::Cow;

/// Bytes of a text's head for each token that is kept of it.
const HEAD: usize = 16;
/// Bytes of the parts in which a whole text is read, and of those that are read at once.
const PART: usize = 1 << 15;
const AT_ONCE: usize = 1 << 18;

/// White space in front of which a text may be split so that a tokenizer makes of the whole text what it
/// makes of the parts: the same ids, in this order. None if there is no such place.
pub(super) fn splits(tokenizer: &tokenizers::Tokenizer) -> &'static [u8] {
    let json = tokenizer.to_string(false).unwrap_or_default();
    serde_json::from_str(&json).map_or(b"", |json| describes_splits(&json))
}

/// The same for a tokenizer's JSON.
fn describes_splits(tokenizer: &Value) -> &'static [u8] {
    let list = |value: &Value, name: &str| -> Vec<Value> {
        match value["type"].as_str() {
            None => vec![],
            Some("Sequence") => value[name].as_array().cloned().unwrap_or_default(),
            Some(_) => vec![value.clone()],
        }
    };
    let of_type = |value: &Value, types: &[&str]| value["type"].as_str().is_some_and(|t| types.contains(&t));
    let normalizers = list(&tokenizer["normalizer"], "normalizers");
    let single = |n: &Value| {
        of_type(n, &["BertNormalizer", "Lowercase", "StripAccents", "NFC", "NFD", "NFKC", "NFKD"])
    };
    let pre_tokenizers = list(&tokenizer["pre_tokenizer"], "pretokenizers");
    let splits = |p: &Value| {
        of_type(p, &["BertPreTokenizer", "Whitespace", "WhitespaceSplit"])
            || of_type(p, &["ByteLevel"]) && p["use_regex"] != false
    };
    let added = tokenizer["added_tokens"].as_array().map_or(&[][..], |a| a);
    // a token that takes the white space behind it away, or has some in it, may reach over the
    // split
    let reaches = |token: &Value| {
        token["rstrip"] != false || token["content"].as_str().is_none_or(|c| c.contains(char::is_whitespace))
    };
    let are_local = normalizers.iter().all(single)
        && pre_tokenizers.first().is_some_and(splits)
        && !added.iter().any(reaches);
    // a space that is put in front of every part is left out in front of one only
    let adds_space =
        pre_tokenizers.iter().any(|p| p["add_prefix_space"] != false && of_type(p, &["ByteLevel"]));
    match (are_local, adds_space) {
        (false, _) => b"",
        (true, true) => b" ",
        (true, false) => b" \n\r\t",
    }
}

/// Where a text may be split at or behind so many bytes: in front of the first of these bytes that
/// follows something else than white space.
fn split(text: &str, from: usize, at: &[u8]) -> Option<usize> {
    let mut start = from;
    loop {
        let found = start + text.as_bytes().get(start..)?.iter().position(|b| at.contains(b))?;
        if text[..found].chars().next_back().is_some_and(|c| !c.is_whitespace()) {
            return Some(found);
        }
        start = found + 1;
    }
}

/// The head of a text, of so many bytes or a little more.
fn head<'a>(text: &'a str, bytes: usize, at: &[u8]) -> &'a str {
    split(text, bytes, at).map_or(text, |at| &text[..at])
}

/// Whether it may be enough to look at the head of one of these texts, if so many tokens are kept
/// of both.
pub(super) fn is_long(text: &str, pair: Option<&str>, kept: usize) -> bool {
    text.len().max(pair.map_or(0, str::len)) > HEAD * kept
}

/// As much of a text or pair as decides which tokens are left when it is cut to so many: a head
/// with more tokens than that, and of the longer text of a pair one with more than that of the
/// other, so that it stays the longer one. `count` counts the tokens of a
/// text, which may be split in front of the bytes in `at`.
pub(super) fn enough<'a>(
    text: &'a str,
    pair: Option<&'a str>,
    kept: usize,
    at: &[u8],
    count: impl Fn(&str) -> Result<usize>,
) -> Result<(&'a str, Option<&'a str>)> {
    // with more tokens than `most`, or the whole text
    let head_of = |text: &'a str, most: usize| -> Result<&'a str> {
        let mut bytes = HEAD * most;
        loop {
            let head = head(text, bytes, at);
            if head.len() == text.len() || count(head)? > most {
                return Ok(head);
            }
            bytes = 4 * head.len();
        }
    };
    let Some(pair) = pair else { return Ok((head_of(text, kept)?, None)) };
    let all = |text: &str| -> Result<usize> { parts(text, PART, at).map(&count).sum() };
    let is_first_longer = all(text)? > all(pair)?;
    let (long, short) = if is_first_longer { (text, pair) } else { (pair, text) };
    let short = head_of(short, kept)?;
    let long = head_of(long, kept.max(count(short)?))?;
    Ok(if is_first_longer { (long, Some(short)) } else { (short, Some(long)) })
}

/// Whether a text is so long that it is read in parts, where that makes no difference.
pub(super) fn has_parts(text: &str) -> bool {
    text.len() > PART
}

/// Texts, each with its number, in groups that are read at once; long ones in parts if they may be
/// split.
pub(super) fn groups<'a>(texts: &'a [Cow<'a, str>], at: &[u8]) -> Vec<Vec<(usize, &'a str)>> {
    let (mut groups, mut bytes) = (vec![vec![]], 0);
    for (number, text) in texts.iter().enumerate() {
        for part in parts(text, PART, at) {
            bytes += part.len();
            if bytes > AT_ONCE {
                groups.push(vec![]);
                bytes = part.len();
            }
            if let Some(group) = groups.last_mut() {
                group.push((number, part));
            }
        }
    }
    groups
}

/// A text in parts of so many bytes or a little more.
fn parts<'a>(text: &'a str, bytes: usize, at: &[u8]) -> impl Iterator<Item = &'a str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        match split(text, bytes.max(1), at) {
            Some(at) => {
                rest = Some(&text[at..]);
                Some(&text[..at])
            }
            None => rest.take(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHITE: &[u8] = b" \n\r\t";
    use proptest::prelude::*;
    use serde_json::json;
    use std::sync::OnceLock;
    use tokenizers::Tokenizer;

    fn special() -> Value {
        json!([{"id": 0, "content": "<s>", "single_word": false, "lstrip": true, "rstrip": false, "normalized": false,
                "special": true}])
    }
    /// Splits and normalises as real ones do, with an id for each byte or a few words.
    fn all() -> Vec<Value> {
        let bytes = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        let mut bytes: Vec<String> = bytes.into_iter().map(String::from).collect();
        bytes.sort();
        let mut vocabulary: serde_json::Map<String, Value> = [("<s>".into(), 0.into())].into_iter().collect();
        for (id, byte) in bytes.iter().enumerate() {
            vocabulary.insert(byte.clone(), (id + 1).into());
        }
        for pair in ["Ġa", "ab", "ĠĠ", "Ċ "] {
            vocabulary.insert(pair.into(), vocabulary.len().into());
        }
        let bpe = json!({"type": "BPE", "vocab": vocabulary, "merges": [["Ġ", "a"], ["a", "b"], ["Ġ", "Ġ"]]});
        let words = json!({"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 9, "vocab": {"<s>": 0, "[UNK]": 1, "a": 2, "b": 3, "##a": 4, "##b": 5, ".": 6, "e": 7, "##e": 8}});
        let bert = json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
            "lowercase": true});
        let of = |normalizer: Value, pre: Value, model: &Value| {
            json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": special(), "normalizer": normalizer,
                "pre_tokenizer": pre, "post_processor": null, "decoder": null, "model": model})
        };
        let byte_level = |prefix: bool| json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": true});
        let nfc = json!({"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}]});
        vec![
            of(bert, json!({"type": "BertPreTokenizer"}), &words),
            of(nfc, json!({"type": "Whitespace"}), &words),
            of(json!(null), byte_level(false), &bpe),
            of(json!({"type": "NFC"}), byte_level(true), &bpe),
            of(
                json!(null),
                json!({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Punctuation", "behavior": "Isolated"}]}),
                &words,
            ),
        ]
    }

    #[test]
    fn texts_are_split_in_front_of_white_space() {
        assert_eq!(
            [head("ab  cd e", 0, WHITE), head("ab  cd e", 2, WHITE), head("ab  cd e", 3, WHITE)],
            ["ab", "ab", "ab  cd"]
        );
        assert_eq!(
            [head("ab  cd e", 7, WHITE), head(" \n ", 0, WHITE), head("é é", 1, WHITE), head("", 4, WHITE)],
            ["ab  cd e", " \n ", "é", ""]
        );
        assert_eq!(parts("ab  cd e\u{a0} f", 1, WHITE).collect::<Vec<_>>(), ["ab", "  cd", " e\u{a0} f"]);
        assert_eq!(parts("", 1, WHITE).collect::<Vec<_>>(), [""]);
    }

    #[test]
    fn long_texts_are_read_in_groups() {
        let texts = [Cow::from("a ".repeat(PART)), "b".into(), "".into(), "c ".repeat(AT_ONCE).into()];
        for at in [b"", WHITE] {
            let groups = groups(&texts, at);
            let mut whole = vec![String::new(); texts.len()];
            groups.iter().flatten().for_each(|(number, part)| whole[*number] += part);
            assert_eq!(whole, texts);
            let most = groups.iter().map(|g| g.iter().map(|(_, part)| part.len()).sum::<usize>()).max();
            assert_eq!(most.unwrap() <= AT_ONCE, !at.is_empty());
        }
    }

    #[test]
    fn a_head_is_enough() {
        let count = |text: &str| Ok(text.split_whitespace().count());
        let long = "word ".repeat(1000);
        let (text, none) = enough(&long, None, 9, WHITE, count).unwrap();
        assert!(count(text).unwrap() > 9 && text.len() < 200 && none.is_none());
        let short = "w ".repeat(70); // more words than are kept
        let (text, pair) = enough(&long, Some(&short), 9, WHITE, count).unwrap();
        assert!(count(text).unwrap() > 70 && text.len() < long.len() && pair == Some(&short));
        let (text, pair) = enough(&short, Some(&long), 9, WHITE, count).unwrap();
        assert!(count(pair.unwrap()).unwrap() > 70 && text == short);
        for (first, second) in [(1000, 1000), (1001, 1000), (1000, 1001)] {
            let [first, second] = [first, second].map(|n| "word ".repeat(n));
            let (a, b) = enough(&first, Some(&second), 9, WHITE, count).unwrap();
            let (a, b) = (count(a).unwrap(), count(b.unwrap()).unwrap());
            assert_eq!(a > b, first.len() > second.len());
            assert!(a.min(b) > 9 && a.max(b) < 200);
        }
        let one = "x".repeat(1000);
        assert_eq!(enough(&one, None, 9, WHITE, count).unwrap().0, one);
    }

    #[test]
    fn tokenizers_that_look_further_are_not_split() {
        for good in all() {
            assert!(!describes_splits(&good).is_empty(), "{good}");
            let changed = |key: &str, value: Value| {
                let mut json = good.clone();
                json[key] = value;
                !describes_splits(&json).is_empty()
            };
            assert!(!changed("pre_tokenizer", json!(null)));
            assert!(!changed("pre_tokenizer", json!({"type": "Metaspace", "replacement": "▁"})));
            assert!(!changed("pre_tokenizer", json!({"type": "ByteLevel", "use_regex": false})));
            assert!(!changed("normalizer", json!({"type": "Precompiled"})));
            assert!(!changed("normalizer", json!({"type": "Sequence", "normalizers": [{"type": "Strip"}]})));
            assert!(!changed("added_tokens", json!([{"content": "a b", "rstrip": false}])));
            assert!(!changed("added_tokens", json!([{"content": "ab", "rstrip": true}])));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

        #[test]
        fn cut_texts_are_those_of_the_whole(
            words in prop::collection::vec("[a-e]{1,3}|[.]|\\s{1,3}|x", 0..30),
            first in 0usize..12, second in 0usize..12, max_length in 4usize..12,
        ) {
            use crate::text::tokenizer::{Fit, Tokenizer, tests::{alone, json}};
            let fit = Fit { model: "tiny", vocabulary: 10, positions: None, max_length };
            let tokenizer = Tokenizer::of(&alone(&json()), fit).unwrap();
            let text = |n: usize| "a ".to_string() + &words.join(" ").repeat(n);
            let (text, pair) = (text(first), text(second));
            let rows = serde_json::json!({"text": text, "text_pair": pair}).to_string();
            let want = crate::data::Want { content: crate::data::Content::Texts, labels: false };
            let data = crate::data::Dataset::parse("a.jsonl", rows.as_bytes(), &Default::default(), want).unwrap();
            let found = &tokenizer.encode_all(&data).unwrap()[0];
            let whole = tokenizer.encode(&text, Some(&pair)).unwrap();
            prop_assert_eq!(found, &whole);
            let data = crate::data::Dataset::of_texts("t", std::slice::from_ref(&text)).unwrap();
            prop_assert_eq!(&tokenizer.encode_all(&data).unwrap()[0], &tokenizer.encode(&text, None).unwrap());
        }

        #[test]
        fn ids_are_those_of_the_whole(
            text in prop::collection::vec(prop_oneof![
                Just(" "), Just("  "), Just("\n"), Just("\t"), Just("\r\n"), Just("\u{a0}"), Just("\u{301}"), Just("\u{c}"), Just("a"),
                Just("ab"), Just("B."), Just("É"), Just("e\u{301}"), Just("<s>"), Just("'s"), Just("7"), Just("中"), Just("ﬁ"),
                Just("\u{200b}"), Just("\u{85}"), Just("-"), Just("😀"),
            ], 0..40).prop_map(|parts| parts.concat()),
            bytes in 0usize..30,
        ) {
            static MADE: OnceLock<Vec<(Value, Tokenizer)>> = OnceLock::new();
            let make = |json: Value| (json.clone(), Tokenizer::from_bytes(json.to_string()).unwrap());
            for (json, tokenizer) in MADE.get_or_init(|| all().into_iter().map(make).collect()) {
                let ids = |text: &str| tokenizer.encode_fast(text, false).unwrap().get_ids().to_vec();
                let at = describes_splits(json);
                let (whole, head) = (ids(&text), ids(head(&text, bytes, at)));
                prop_assert_eq!(&whole[..head.len()], head, "{}", json["pre_tokenizer"]);
                let of_parts: Vec<u32> = parts(&text, bytes, at).flat_map(ids).collect();
                prop_assert_eq!(&of_parts, &whole, "{}", json["pre_tokenizer"]);
            }
        }
    }
}
