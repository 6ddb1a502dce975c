//! Data files and tokenizers.
use crate::files::parts;
use engraft::{
    data::{Columns, Content, Dataset, FORMATS, Header, Input, Quotes, Want},
    tasks::{TASKS, Told},
    text::{
        companions::Files,
        tokenizer::{Fit, Tokenizer},
    },
};

/// Formats of tables, of which crates read the bytes: they set aside what a page or a batch says that it
/// holds before they read it.
const TABLES: [&str; 2] = ["parquet", "arrow"];

/// A data file of text, read in every way there is.
pub fn data(input: &[u8]) -> bool {
    every_format(input, |name| !TABLES.contains(&name))
}

/// A file with a table, read in every way there is.
pub fn tables(input: &[u8]) -> bool {
    every_format(input, |name| TABLES.contains(&name))
}

fn every_format(input: &[u8], read: impl Fn(&str) -> bool) -> bool {
    let mut taken = false;
    for format in FORMATS {
        // what a format is called otherwise makes no difference
        for name in format.extensions.iter().take(1).filter(|name| read(name)) {
            for content in format.contents {
                taken |= every_way(&format!("a.{name}"), input, *content);
            }
        }
    }
    taken
}

/// A data file that is packed. The formats see what is unpacked: one that reads lines is enough.
pub fn gzip(input: &[u8]) -> bool {
    every_way("a.tsv.gz", input, Content::Texts)
}

fn every_way(name: &str, input: &[u8], content: Content) -> bool {
    let mut taken = false;
    for (labels, quotes, header) in [
        (true, Quotes::Literal, Header::Auto),
        (false, Quotes::Csv, Header::Yes),
        (true, Quotes::Csv, Header::No),
    ] {
        let columns = Columns { quotes, header, ..Columns::default() };
        let Ok(data) = Dataset::parse(name, input, &columns, Want { content, labels }) else { continue };
        assert!(data.memory() < 1 << 40 && data.len() > 0);
        for task in TASKS.iter().filter(|t| t.content == content && t.labelled && labels) {
            let _ = (task.learn)(&data.path, data.names().into(), &Told::default());
        }
        taken = true;
    }
    taken
}

/// A `tokenizer.json`, the files beside it, and a text for it.
pub fn tokenizer(input: &[u8]) -> bool {
    let names = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"];
    let [a, b, c, d, config, text] = parts::<6>(input);
    let names = names.into_iter().chain(["config.json"]);
    let contents = names.zip([a, b, c, d, config]).filter_map(|(name, part)| Some((name, part?.to_vec())));
    tokenize(&Files::of("", contents), text)
}

/// A `tokenizer_config.json`, a text, and a SentencePiece model, read by every class.
pub fn sentencepiece(input: &[u8]) -> bool {
    let [config, text, model] = parts::<3>(input);
    let mut taken = false;
    for (class, name) in [
        ("t5", "spiece.model"),
        ("albert", "spiece.model"),
        ("xlm-roberta", "sentencepiece.bpe.model"),
        ("llama", "tokenizer.model"),
    ] {
        let kind = format!("{{\"model_type\": \"{class}\"}}").into_bytes();
        let config = config.map(|config| ("tokenizer_config.json", config.to_vec()));
        let model = (name, model.unwrap_or_default().to_vec());
        let contents = config.into_iter().chain([("config.json", kind), model]);
        taken |= tokenize(&Files::of("", contents), text);
    }
    taken
}

fn tokenize(files: &Files, text: Option<&[u8]>) -> bool {
    let _ = files.model_max_length();
    let fit = Fit { model: "model", vocabulary: 1 << 16, positions: Some(64), max_length: 16 };
    let Ok(tokenizer) = Tokenizer::of(files, fit) else { return false };
    let _ = (tokenizer.end_of_text(), tokenizer.special_tokens());
    let given = String::from_utf8_lossy(text.unwrap_or_default()).into_owned();
    for text in [given.as_str(), "Hello, w\u{f6}rld! 12 <unk>", "\u{1f469}\u{200d}\u{1f4bb}e\u{301} \n\t a"] {
        let _ = (tokenizer.encode(text, None), tokenizer.encode("a", Some(text)));
        let words: Vec<String> = text.split_whitespace().map(Into::into).collect();
        let _ = (tokenizer.count_words(&words), tokenizer.encode_words(&words));
        if let Ok(data) = Dataset::of_texts("texts", &[text.into(), text.repeat(8)]) {
            let _ = (tokenizer.encode_all(&data), tokenizer.encode_whole(&data));
        }
        if let Ok(mut data) = Dataset::of_texts("texts", &["a".into()]) {
            let (id, question, context) = (String::new(), text.to_string(), text.repeat(8));
            data.records[0].input = Input::Question { id, question, context };
            let _ = tokenizer.encode_questions(&data, 3);
            let (text, seconds) = (text.repeat(8), vec![text.to_string(), String::new()]);
            data.records[0].input = Input::Choices { text, choices: vec![], seconds };
            let _ = tokenizer.encode_choices(&data);
        }
    }
    true
}
