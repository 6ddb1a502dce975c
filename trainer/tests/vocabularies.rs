//! Tokenizers without a `tokenizer.json` against transformers' fast ones: see
//! `tests/reference/vocabularies.py`.
#[path = "support/tokens.rs"]
mod tokens;

use engraft::text::companions::{COMPANIONS, Files, TOKENIZER, VOCABULARIES};
use engraft::text::tokenizer::Tokenizer;
use flate2::read::GzDecoder;
use proptest::prelude::*;
use serde_json::Value;
use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::OnceLock,
};
use tokens::{differences, digest, fit};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures")
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The cases that are committed, or those of the file that the environment names.
fn cases() -> &'static Value {
    static CASES: OnceLock<Value> = OnceLock::new();
    CASES.get_or_init(|| {
        let committed = fixtures().join("vocabularies/cases.json");
        json(&std::env::var("ENGRAFT_VOCABULARIES").map_or(committed, PathBuf::from))
    })
}

/// The tokenizers and the strings of `tokenizers.rs`.
fn others() -> &'static Value {
    static CASES: OnceLock<Value> = OnceLock::new();
    CASES.get_or_init(|| json(&fixtures().join("tokenizers/cases.json")))
}

/// A SentencePiece model.
fn model(name: &str) -> &'static [u8] {
    static MODELS: [OnceLock<Vec<u8>>; 2] = [const { OnceLock::new() }; 2];
    MODELS[usize::from(name == "bpe")].get_or_init(|| {
        let file = File::open(fixtures().join(format!("vocabularies/{name}.model.gz"))).unwrap();
        let mut bytes = vec![];
        GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// A name that lives as long as the tests.
fn known(name: &str) -> &'static str {
    let mut all = [TOKENIZER].into_iter().chain(COMPANIONS).chain(VOCABULARIES);
    all.find(|known| *known == name).unwrap()
}

/// The files of a variant.
fn contents(variant: &Value) -> Vec<(&'static str, Vec<u8>)> {
    let beside = variant["files"].as_object().unwrap().iter();
    let mut all: Vec<_> = beside.map(|(name, file)| (known(name), file.to_string().into_bytes())).collect();
    let vocabulary = variant["vocabulary"].as_str().unwrap();
    for name in variant["read"].as_array().unwrap().iter().map(|name| known(name.as_str().unwrap())) {
        let text = cases()["texts"].get(vocabulary).map(|texts| texts[name].as_str().unwrap().into());
        all.push((name, text.unwrap_or_else(|| model(vocabulary).to_vec())));
    }
    if let Some(base) = variant.get("base") {
        let tokenizer = &others()["tokenizers"][base.as_str().unwrap()];
        all.push((TOKENIZER, tokenizer.to_string().into_bytes()));
    }
    all
}

fn files(variant: &Value) -> Files {
    Files::of("dir", contents(variant))
}

fn variants(with: &str) -> impl Iterator<Item = (usize, &'static Value)> {
    let all = cases()["variants"].as_array().unwrap().iter().enumerate();
    all.filter(move |(_, variant)| variant.get(with).is_some())
}

#[test]
fn every_vocabulary_makes_the_ids_that_transformers_makes() {
    let strings: Vec<&str> =
        others()["strings"].as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect();
    assert_eq!(strings.len(), 1000);
    let (mut wrong, mut count) = (vec![], 0);
    for (number, variant) in variants("single") {
        let stride = variant["stride"].as_u64().unwrap() as usize;
        let found = differences(&files(variant), (number, variant), (&strings, stride));
        if !found.is_empty() {
            let (of, files) = (&variant["vocabulary"], &variant["files"]);
            wrong.push(format!("{number} {of} {files}:\n  {}", found.join("\n  ")));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 60);
}

#[test]
fn what_transformers_does_not_load_is_refused_by_name() {
    for (_, variant) in variants("refused") {
        let error =
            Tokenizer::of(&files(variant), fit(64)).err().unwrap_or_else(|| panic!("{variant}")).to_string();
        let what = variant["refused"].as_str().unwrap();
        assert!(error.contains(&format!("`{what}`")) || error.contains(&format!("dir/{what}")), "{error}");
    }
    for (_, variant) in variants("error") {
        assert!(Tokenizer::of(&files(variant), fit(64)).is_err(), "{variant}");
    }
}

#[test]
fn a_directory_is_read_as_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let texts = ["the bus was late", "  café 9,9 \u{1f600}"];
    for (_, variant) in variants("parts") {
        for (name, content) in contents(variant) {
            std::fs::write(dir.path().join(name), content).unwrap();
        }
        let of = |t: Tokenizer| digest(texts.map(|text| t.encode(text, None).unwrap()));
        let read = Tokenizer::load(dir.path(), fit(64)).unwrap();
        assert_eq!(of(read), of(Tokenizer::of(&files(variant), fit(64)).unwrap()), "{variant}");
        VOCABULARIES.into_iter().for_each(|name| drop(std::fs::remove_file(dir.path().join(name))));
    }
    let error = Tokenizer::load(dir.path(), fit(64)).err().unwrap().to_string();
    assert!(error.contains("tokenizer.json"), "{error}");
}

#[test]
fn a_cut_sentencepiece_file_is_an_error() {
    for (name, class) in [("unigram", "T5Tokenizer"), ("bpe", "LlamaTokenizer")] {
        let whole = model(name);
        let file = if name == "bpe" { "tokenizer.model" } else { "spiece.model" };
        let config = format!("{{\"tokenizer_class\": \"{class}\"}}").into_bytes();
        let read = |bytes: &[u8]| {
            let files = Files::of("dir", [("tokenizer_config.json", config.clone()), (file, bytes.to_vec())]);
            Tokenizer::of(&files, fit(64))
        };
        assert!(read(whole).is_ok());
        // between two pieces a file may end, and says with fewer of them what it says
        let ends = (0..whole.len()).step_by(if whole.len() > 20_000 { 997 } else { 7 });
        let refused: Vec<String> =
            ends.filter_map(|end| Some(read(&whole[..end]).err()?.to_string())).collect();
        assert!(refused.len() > 200, "{}", refused.len());
        for error in refused {
            assert!(error.starts_with(&format!("dir/{file}: not a SentencePiece model: it")), "{error}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Nothing that stands in a vocabulary makes the reader panic, nor the tokenizer that it gives.
    #[test]
    fn damaged_vocabularies_are_errors(
        number in any::<prop::sample::Index>(),
        damages in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        end in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let all: Vec<_> = variants("parts").collect();
        let mut contents = contents(all[number.index(all.len())].1);
        for (_, bytes) in contents.iter_mut().filter(|(name, _)| VOCABULARIES.contains(name)) {
            // most of the SentencePiece model is the table of its normaliser
            let most = bytes.len().min(4000);
            for (at, byte) in &damages {
                let at = at.index(most);
                bytes[at] = *byte;
            }
            if let Some(end) = end {
                bytes.truncate(end.index(bytes.len()));
            }
        }
        match Tokenizer::of(&Files::of("dir", contents), fit(16)) {
            Ok(tokenizer) => {
                let _ = tokenizer.encode("A [MASK] the <extra> café 中", Some("b"));
                let _ = tokenizer.encode_words(&["a".into(), "[MASK] b".into(), String::new()]);
            }
            Err(error) => prop_assert!(error.to_string().contains("dir/"), "{error}"),
        }
    }
}
