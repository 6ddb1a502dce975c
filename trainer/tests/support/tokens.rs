//! Token ids beside those that a script of `tests/reference` has recorded.

use engraft::text::{
    companions::Files,
    tokenizer::{Fit, TokenizedText, Tokenizer},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A model that takes every token.
pub fn fit(max_length: usize) -> Fit<'static> {
    Fit { model: "any", vocabulary: 1 << 20, positions: None, max_length }
}

#[derive(Default)]
struct Packed(Sha256);

impl Packed {
    fn add(&mut self, tokens: &TokenizedText) {
        let count = tokens.ids.len() as u32;
        for number in [&count].into_iter().chain(&tokens.ids).chain(&tokens.types) {
            self.0.update(number.to_le_bytes());
        }
    }
    fn hex(self) -> String {
        self.0.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A digest of token ids and types.
pub fn digest(all: impl IntoIterator<Item = TokenizedText>) -> Value {
    let mut packed = Packed::default();
    all.into_iter().for_each(|tokens| packed.add(&tokens));
    packed.hex().into()
}

/// What of the tokenizer of these files does not agree with transformers; of the strings those
/// count whose number is as that of the variant.
pub fn differences(
    files: &Files,
    (number, variant): (usize, &Value),
    (strings, stride): (&[&str], usize),
) -> Vec<String> {
    let at = |max_length| Tokenizer::of(files, fit(max_length)).unwrap_or_else(|e| panic!("{e}: {variant}"));
    let (whole, cut, pair) = (at(1 << 14), at(12), at(17));
    let own: Vec<usize> = (0..strings.len()).filter(|i| i % stride == number % stride).collect();
    let words = |i: usize| -> Vec<String> {
        let words: Vec<String> =
            strings[i].split(' ').filter(|word| !word.is_empty()).map(String::from).collect();
        if words.is_empty() { vec!["a".into()] } else { words }
    };
    let next = |i: usize| strings[(i + 1) % strings.len()];
    let found = json!({
        "single": digest(own.iter().map(|&i| whole.encode(strings[i], None).unwrap())),
        "cut": digest(own.iter().map(|&i| cut.encode(strings[i], None).unwrap())),
        "pair": digest(own.iter().map(|&i| pair.encode(strings[i], Some(next(i))).unwrap())),
        "words": match &variant["words"] {
            Value::Null => Value::Null,
            _ => digest(own.iter().map(|&i| whole.encode_words(&words(i)).unwrap().tokens)),
        },
        "model_max_length": files.model_max_length().unwrap(),
        "eos": whole.end_of_text().unwrap(),
    });
    let differs = found.as_object().unwrap().iter().filter(|(key, value)| variant[key.as_str()] != **value);
    let mut differences: Vec<String> =
        differs.map(|(key, value)| format!("{key}: {value}, not {}", variant[key.as_str()])).collect();
    for sample in variant["sample"].as_array().unwrap() {
        let text = strings[sample[0].as_u64().unwrap() as usize];
        let ids = json!(whole.encode(text, None).unwrap().ids);
        if ids != sample[1] {
            differences.push(format!("{text:?}: {ids}, not {}", sample[1]));
        }
    }
    differences
}
