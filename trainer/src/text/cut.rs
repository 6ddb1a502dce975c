//! How much of a long text has to be looked at.
//!
//! Where a tokenizer makes of a text what it makes of its parts ([`Splits`]), only the head of a
//! text that will be cut is tokenised, and one part after the other of one that will not: a long
//! text takes no more memory than a short one.
use super::splits::Splits;
use crate::error::Result;
use std::borrow::Cow;

/// Bytes of a text's head for each token that is kept of it.
const HEAD: usize = 16;
/// Bytes of the parts in which a whole text is read, and of those that are read at once.
const PART: usize = 1 << 15;
const AT_ONCE: usize = 1 << 18;

/// The head of a text, of so many bytes or a little more.
fn head<'a>(text: &'a str, bytes: usize, at: &Splits) -> &'a str {
    at.first(text, bytes).map_or(text, |at| &text[..at])
}

/// Whether it may be enough to look at the head of one of these texts, if so many tokens are kept
/// of both.
pub(super) fn is_long(text: &str, pair: Option<&str>, kept: usize) -> bool {
    text.len().max(pair.map_or(0, str::len)) > HEAD * kept
}

/// As much of a text or pair as decides which tokens are left when it is cut to so many: a head
/// with more tokens than that, and of the longer text of a pair one with more than that of the
/// other, so that it stays the longer one. `count` counts the tokens of a text, which may be split
/// at the places that `at` knows.
pub(super) fn enough<'a>(
    text: &'a str,
    pair: Option<&'a str>,
    kept: usize,
    at: &Splits,
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
fn has_parts(text: &str) -> bool {
    text.len() > PART
}

/// A text without the middle of words that are unknown anyway, if it is so long that this matters.
pub(super) fn shortened<'a>(text: Cow<'a, str>, at: impl FnOnce() -> &'a Splits) -> Cow<'a, str> {
    if has_parts(&text) { at().shortened(text) } else { text }
}

/// Texts, each with its number, in groups that are read at once; long ones in parts if they may be
/// split.
pub(super) fn groups<'a, 's>(
    texts: &'a [Cow<'a, str>],
    at: impl FnOnce() -> &'s Splits,
) -> Vec<Vec<(usize, &'a str)>> {
    let at = if texts.iter().any(|text| has_parts(text)) { at() } else { &Splits::default() };
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
fn parts<'a>(text: &'a str, bytes: usize, at: &Splits) -> impl Iterator<Item = &'a str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        match at.first(text, bytes.max(1)) {
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

    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::sync::OnceLock;
    use tokenizers::Tokenizer;

    /// Splits at white space alone.
    fn white() -> Splits {
        Splits::described(&json!({"pre_tokenizer": {"type": "WhitespaceSplit"}}))
    }
    fn special() -> Value {
        json!([{"id": 0, "content": "<s>", "single_word": false, "lstrip": true, "rstrip": false, "normalized": false,
                "special": true}])
    }
    /// Splits and normalises as real ones do, with an id for each byte or a few words.
    fn all() -> [Value; 6] {
        let bytes = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        let mut bytes: Vec<String> = bytes.into_iter().map(String::from).collect();
        bytes.sort();
        let mut vocabulary: serde_json::Map<String, Value> = [("<s>".into(), 0.into())].into_iter().collect();
        for (id, byte) in bytes.iter().enumerate() {
            vocabulary.insert(byte.clone(), (id + 1).into());
        }
        // two that become one token wherever nothing is split between them
        let pairs = "Ġa ab ĠĠ ĊĠ a1 1a a. .a 1. 's a' 1' a= =a a( ._ a_ ab1".split(' ');
        let pairs: Vec<(String, String)> = pairs
            .map(|pair| pair.split_at(pair.len() - pair.chars().next_back().unwrap().len_utf8()))
            .map(|(a, b)| (a.into(), b.into()))
            .collect();
        for (a, b) in &pairs {
            vocabulary.insert(format!("{a}{b}"), vocabulary.len().into());
        }
        let bpe = json!({"type": "BPE", "vocab": vocabulary, "merges": pairs});
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
        [
            of(bert, json!({"type": "BertPreTokenizer"}), &words),
            of(nfc, json!({"type": "Whitespace"}), &words),
            of(json!(null), byte_level(false), &bpe),
            of(json!({"type": "NFC"}), byte_level(true), &bpe),
            of(json!({"type": "NFKC"}), byte_level(false), &bpe),
            of(
                json!(null),
                json!({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Punctuation", "behavior": "Isolated"}]}),
                &words,
            ),
        ]
    }

    #[test]
    fn texts_are_split_in_front_of_white_space() {
        let white = &white();
        assert_eq!(
            [head("ab  cd e", 0, white), head("ab  cd e", 2, white), head("ab  cd e", 3, white)],
            ["ab", "ab", "ab  cd"]
        );
        assert_eq!(
            [head("ab  cd e", 7, white), head(" \n ", 0, white), head("é é", 1, white), head("", 4, white)],
            ["ab  cd e", " \n ", "é", ""]
        );
        assert_eq!(parts("ab  cd e\u{a0} f", 1, white).collect::<Vec<_>>(), ["ab", "  cd", " e\u{a0} f"]);
        assert_eq!(parts("", 1, white).collect::<Vec<_>>(), [""]);
    }

    #[test]
    fn texts_without_white_space_are_split_too() {
        let [bert, words, bytes, spaced, ..] = all().map(|json| Splits::described(&json));
        let of = |text, at: &Splits| parts(text, 1, at).map(String::from).collect::<Vec<_>>();
        assert_eq!(of("ab.c(d)=中國。人", &bert), ["ab", ".c", "(d", ")=", "中", "國", "。", "人"]);
        assert_eq!(of("a1b2,3c中國。人", &bytes), ["a", "1", "b", "2", ",3", "c中國", "。人"]);
        assert_eq!(of("a1,b=\u{338}c<s>d", &words), ["a1", ",b=\u{338}c<s>d"]);
        assert_eq!(of("a1,b c", &spaced), ["a1,b", " c"]);
        let long = format!("a.{}.b", "x1".repeat(1000));
        assert_eq!(bert.shortened(long.as_str().into()), format!("a.{}.b", "x1".repeat(11)));
        assert_eq!(bytes.shortened(long.as_str().into()), long);
    }

    #[test]
    fn long_texts_are_read_in_groups() {
        let texts = [Cow::from("a ".repeat(PART)), "b".into(), "".into(), "c ".repeat(AT_ONCE).into()];
        for at in [Splits::default(), white()] {
            let groups = groups(&texts, || &at);
            let mut whole = vec![String::new(); texts.len()];
            groups.iter().flatten().for_each(|(number, part)| whole[*number] += part);
            assert_eq!(whole, texts);
            let most = groups.iter().map(|g| g.iter().map(|(_, part)| part.len()).sum::<usize>()).max();
            assert_eq!(most.unwrap() <= AT_ONCE, !at.is_empty());
        }
    }

    #[test]
    fn a_head_is_enough() {
        let white = &white();
        let count = |text: &str| Ok(text.split_whitespace().count());
        let long = "word ".repeat(1000);
        let (text, none) = enough(&long, None, 9, white, count).unwrap();
        assert!(count(text).unwrap() > 9 && text.len() < 200 && none.is_none());
        let short = "w ".repeat(70); // more words than are kept
        let (text, pair) = enough(&long, Some(&short), 9, white, count).unwrap();
        assert!(count(text).unwrap() > 70 && text.len() < long.len() && pair == Some(&short));
        let (text, pair) = enough(&short, Some(&long), 9, white, count).unwrap();
        assert!(count(pair.unwrap()).unwrap() > 70 && text == short);
        for (first, second) in [(1000, 1000), (1001, 1000), (1000, 1001)] {
            let [first, second] = [first, second].map(|n| "word ".repeat(n));
            let (a, b) = enough(&first, Some(&second), 9, white, count).unwrap();
            let (a, b) = (count(a).unwrap(), count(b.unwrap()).unwrap());
            assert_eq!(a > b, first.len() > second.len());
            assert!(a.min(b) > 9 && a.max(b) < 200);
        }
        let one = "x".repeat(1000);
        assert_eq!(enough(&one, None, 9, white, count).unwrap().0, one);
    }

    #[test]
    fn tokenizers_that_look_further_are_not_split() {
        for good in all() {
            assert!(!Splits::described(&good).is_empty(), "{good}");
            let changed = |key: &str, value: Value| {
                let mut json = good.clone();
                json[key] = value;
                !Splits::described(&json).is_empty()
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
                Just("\u{200b}"), Just("\u{85}"), Just("-"), Just("😀"), Just("1"), Just("."), Just("="), Just("\u{338}"), Just("'"), Just("("),
                Just("。"), Just("中國"), Just("_"), Just("s"), Just(">"), Just("a1b2"), Just("abababababababababababababab1"),
            ], 0..40).prop_map(|parts| parts.concat()),
            bytes in 0usize..30,
        ) {
            static MADE: OnceLock<Vec<(Value, Tokenizer)>> = OnceLock::new();
            let make = |json: Value| (json.clone(), Tokenizer::from_bytes(json.to_string()).unwrap());
            for (json, tokenizer) in MADE.get_or_init(|| all().into_iter().map(make).collect()) {
                let ids = |text: &str| tokenizer.encode_fast(text, false).unwrap().get_ids().to_vec();
                let at = Splits::described(json);
                let (whole, head) = (ids(&text), ids(head(&text, bytes, &at)));
                prop_assert_eq!(&whole[..head.len()], head, "{}", json["pre_tokenizer"]);
                let of_parts: Vec<u32> = parts(&text, bytes, &at).flat_map(ids).collect();
                prop_assert_eq!(&of_parts, &whole, "{}", json["pre_tokenizer"]);
                prop_assert_eq!(&ids(&at.shortened(text.as_str().into())), &whole, "{}", json["pre_tokenizer"]);
            }
        }
    }
}
