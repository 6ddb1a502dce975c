//! Token ids against those of transformers' fast tokenizers, for the fields of every file that they
//! merge: see
//! `tests/reference/tokenizer_fields.py`.
#[path = "support/tokens.rs"]
mod tokens;

use engraft::text::{
    companions::{COMPANIONS, Files, TOKENIZER},
    tokenizer::Tokenizer,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::sync::OnceLock;
use tokens::{differences, digest, fit};

/// The cases that are committed, or those of the file that the environment names.
fn cases() -> &'static Value {
    static CASES: OnceLock<Value> = OnceLock::new();
    CASES.get_or_init(|| {
        let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/tokenizers/cases.json");
        let path = std::env::var("ENGRAFT_TOKENIZERS").unwrap_or_else(|_| committed.into());
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    })
}

/// A name that lives as long as the tests.
fn known(name: &str) -> &'static str {
    [TOKENIZER].into_iter().chain(COMPANIONS).find(|known| *known == name).unwrap()
}

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap()
}

/// The files of a variant.
fn files(variant: &Value) -> Files {
    let mut tokenizer = cases()["tokenizers"][variant["base"].as_str().unwrap()].clone();
    for (part, value) in variant["patch"].as_object().into_iter().flatten() {
        tokenizer[part] = value.clone();
    }
    let beside = object(&variant["files"]).iter().map(|(name, content)| (known(name), content));
    let all = [(TOKENIZER, &tokenizer)].into_iter().chain(beside);
    Files::of("dir", all.map(|(name, content)| (name, content.to_string().into_bytes())))
}

#[test]
fn every_field_makes_the_ids_that_transformers_makes() {
    let variants = cases()["variants"].as_array().unwrap();
    let strings: Vec<&str> =
        cases()["strings"].as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect();
    let stride = cases()["stride"].as_u64().unwrap() as usize;
    let mut wrong = vec![];
    for (number, variant) in variants.iter().enumerate().filter(|(_, v)| v.get("single").is_some()) {
        let found = differences(&files(variant), (number, variant), (&strings, stride));
        if !found.is_empty() {
            let (patch, files) = (&variant["patch"], &variant["files"]);
            wrong.push(format!("{number} {} {patch} {files}:\n  {}", variant["base"], found.join("\n  ")));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), variants.len(), wrong.join("\n"));
    assert!(variants.len() > 100);
}

#[test]
fn what_transformers_does_not_load_is_refused_by_name() {
    let variants = cases()["variants"].as_array().unwrap();
    for variant in variants.iter().filter(|v| v.get("refused").is_some()) {
        let error =
            Tokenizer::of(&files(variant), fit(64)).err().unwrap_or_else(|| panic!("{variant}")).to_string();
        let field = variant["refused"].as_str().unwrap();
        assert!(error.starts_with("dir/") && error.contains(&format!("`{field}`")), "{error}: {variant}");
    }
    for variant in variants.iter().filter(|v| v.get("error").is_some()) {
        assert!(Tokenizer::of(&files(variant), fit(64)).is_err(), "{variant}");
    }
}

#[test]
fn every_character_is_that_of_transformers() {
    for sweep in cases()["sweep"].as_array().unwrap() {
        let variant = json!({"base": sweep["base"], "files": {"tokenizer_config.json": sweep["config"]}});
        let tokenizer = Tokenizer::of(&files(&variant), fit(64)).unwrap();
        for (i, block) in sweep["blocks"].as_array().unwrap().iter().enumerate() {
            let characters = (i as u32 * 0x1000..(i as u32 + 1) * 0x1000).filter_map(char::from_u32);
            let texts = characters.map(|c| format!("a{c}b {c}"));
            let found = digest(texts.map(|text| tokenizer.encode(&text, None).unwrap()));
            assert!(block.is_null() || found == *block, "{sweep}: characters from {:#x}", i * 0x1000);
        }
    }
}

/// A value somewhere in a file is replaced, removed or moved.
fn damage(value: &mut Value, path: &mut impl Iterator<Item = usize>, with: &Value) {
    let Some(step) = path.next() else { return *value = with.clone() };
    match value {
        Value::Array(list) if !list.is_empty() => {
            let at = step % list.len();
            damage(&mut list[at], path, with)
        }
        Value::Object(map) if !map.is_empty() => {
            let key = map.keys().nth(step % map.len()).unwrap().clone();
            match step % 7 {
                0 => drop(map.remove(&key)),
                1 => drop(map.insert(with.as_str().unwrap_or("added_tokens").into(), with.clone())),
                _ => damage(&mut map[&key], path, with),
            }
        }
        _ => *value = with.clone(),
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let special = [
        "",
        "left",
        "[MASK]",
        "BertTokenizer",
        "T5Tokenizer",
        "__type",
        "AddedToken",
        "<extra_id_7>",
        "\u{301}",
    ];
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0u64..2000).prop_map(Value::from),
        prop::sample::select(special.to_vec()).prop_map(Value::from),
        ".{0,4}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([{"content": "a"}, "b", 3])),
        Just(json!({"__type": "AddedToken", "content": "[MASK]", "lstrip": true})),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Nothing that stands in the files makes the reader panic, nor the tokenizer that it gives.
    #[test]
    fn damaged_files_are_errors(
        number in any::<prop::sample::Index>(),
        damages in prop::collection::vec((any::<prop::sample::Index>(), prop::collection::vec(0usize..50, 0..5), any_value()), 1..4),
        bytes in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let variants = cases()["variants"].as_array().unwrap();
        let variant = &variants[number.index(variants.len())];
        let mut contents: Vec<(&'static str, Value)> =
            object(&variant["files"]).iter().map(|(name, content)| (known(name), content.clone())).collect();
        contents.push((TOKENIZER, cases()["tokenizers"][variant["base"].as_str().unwrap()].clone()));
        for (file, path, value) in damages {
            // the companions three times as often as the tokenizer itself
            let at = file.index(3 * contents.len() - 2) % contents.len();
            damage(&mut contents[at].1, &mut path.into_iter(), &value);
        }
        let mut contents: Vec<_> = contents.into_iter().map(|(name, v)| (name, v.to_string().into_bytes())).collect();
        if let Some((at, byte)) = bytes {
            let (_, content) = &mut contents[0];
            let at = at.index(content.len());
            content[at] = byte;
        }
        let files = Files::of("dir", contents);
        let _ = files.model_max_length();
        match Tokenizer::of(&files, fit(16)) {
            Ok(tokenizer) => {
                let _ = tokenizer.encode("A [MASK] the <extra> café 中", Some("b"));
                let _ = tokenizer.encode("", None);
                let _ = tokenizer.encode_words(&["a".into(), "[MASK] b".into(), String::new()]);
                let _ = tokenizer.end_of_text();
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}
