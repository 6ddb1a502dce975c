//! What a tokenizer is made of, beside what transformers' converters make.
use super::*;
use crate::text::companions::{COMPANIONS, VOCABULARIES};
use crate::text::configure::configure;
use flate2::read::GzDecoder;
use std::{io::Read, path::Path};

/// A fixture of `tests/reference/vocabularies.py`.
fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/vocabularies").join(name);
    std::fs::read(path).unwrap()
}

fn known(name: &str) -> &'static str {
    COMPANIONS.into_iter().chain(VOCABULARIES).find(|known| *known == name).unwrap()
}

#[test]
fn every_part_is_that_of_transformers() {
    let cases: Value = serde_json::from_slice(&fixture("cases.json")).unwrap();
    let mut count = 0;
    for variant in cases["variants"].as_array().unwrap().iter().filter(|v| v.get("parts").is_some()) {
        let vocabulary = variant["vocabulary"].as_str().unwrap();
        let beside = variant["files"].as_object().unwrap().iter();
        let mut contents: Vec<_> =
            beside.map(|(name, v)| (known(name), v.to_string().into_bytes())).collect();
        for name in variant["read"].as_array().unwrap().iter().map(|name| known(name.as_str().unwrap())) {
            contents.push((
                name,
                match cases["texts"][vocabulary][name].as_str() {
                    Some(text) => text.into(),
                    None => {
                        let (packed, mut bytes) = (fixture(&format!("{vocabulary}.model.gz")), vec![]);
                        GzDecoder::new(&packed[..]).read_to_end(&mut bytes).unwrap();
                        bytes
                    }
                },
            ));
        }
        let made = configure(&Files::of("dir", contents)).unwrap().tokenizer;
        let mut made: Value = serde_json::from_str(&made.to_string(false).unwrap()).unwrap();
        let normalizers = made.pointer_mut("/normalizer/normalizers").and_then(Value::as_array_mut);
        for normalizer in normalizers.into_iter().flatten() {
            normalizer.as_object_mut().unwrap().remove("precompiled_charsmap");
        }
        for (part, want) in variant["parts"].as_object().unwrap() {
            assert_eq!(made[part], *want, "{part} of {}", variant["files"]);
        }
        count += 1;
    }
    assert!(count > 15, "{count}");
}
