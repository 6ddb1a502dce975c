use proptest::prelude::*;
use std::borrow::Cow;
use std::io::Write;

use super::*;
use crate::error::{Error, Result};

mod forms;
mod labels;
mod sets;
mod tables;

const LABELS: Want = Want { content: Content::Texts, labels: true };
const TEXTS: Want = Want { content: Content::Texts, labels: false };

fn parse(name: &str, text: impl AsRef<[u8]>, columns: &Columns, want: Want) -> Result<Dataset> {
    Dataset::parse(name, text.as_ref(), columns, want)
}
/// Sentences, with their labels if there are to be some.
pub(super) fn parse_words(name: &str, text: &str, columns: &Columns, labels: bool) -> Result<Dataset> {
    Dataset::parse(name, text.as_bytes(), columns, Want { content: Content::Words, labels })
}
/// A label that stands in the file.
fn as_written(label: Cow<'_, str>) -> &str {
    let Cow::Borrowed(label) = label else { panic!("{label} is made up") };
    label
}
/// Words and labels of every sentence; each word must have one.
pub(super) fn sentences(data: &Dataset) -> Vec<(Vec<&str>, Vec<&str>)> {
    data.records
        .iter()
        .map(|r| (r.words().iter().map(String::as_str).collect(), r.labels().map(as_written).collect()))
        .collect()
}

fn read(name: &str, text: impl AsRef<[u8]>) -> Result<Dataset> {
    parse(name, text, &Columns::default(), LABELS)
}

fn refused(name: &str, text: impl AsRef<[u8]>) -> String {
    read(name, text).unwrap_err().to_string()
}

fn columns(text: &str, pair: &str, label: &str, header: Header) -> Columns {
    let column = |name: &str| (!name.is_empty()).then(|| name.parse().unwrap());
    Columns { text: column(text), pair: column(pair), label: column(label), header, ..Columns::default() }
}

fn seen(data: &Dataset) -> Vec<(&str, Option<&str>, usize)> {
    let mut all = vec![];
    for r in &data.records {
        match &r.input {
            Input::Text { text, .. } => all.push((text.as_str(), r.labels().next().map(as_written), r.line)),
            other => panic!("{other:?} is no text"),
        }
    }
    all
}

#[test]
fn tsv_keeps_quotes_and_counts_lines() {
    let data =
        read("a.tsv", "\u{feff}sentence\tlabel\r\n\"Hi\" he said\tpos \r\n\r\nit's \"\tneg\r\n").unwrap();
    assert_eq!(seen(&data), [("\"Hi\" he said", Some("pos"), 2), ("it's \"", Some("neg"), 4)]);
    assert_eq!(data.chosen.to_string(), "text from `sentence`, label from `label`");
    assert_eq!(data.len(), 2);
}

#[test]
fn csv_quotes_and_counts_lines() {
    let text = "\n\r\nlabel,text\r\n0,\"a \"\"b\"\", c\"\r\n\n1,\"two\nlines\"\n\n\n2,last";
    let data = read("a.csv", text).unwrap();
    let expected = [("a \"b\", c", Some("0"), 4), ("two\nlines", Some("1"), 6), ("last", Some("2"), 10)];
    assert_eq!(seen(&data), expected);
}

#[test]
fn jsonl_takes_any_scalar_as_a_label() {
    let text = "{\"text\":\"a\",\"label\":1}\n\n{\"label\":true,\"text\":\"b\"}\r\n{\"text\":\"c\",\"label\":\"x\"}\n";
    let text = format!("{text}{{\"text\":\"d\",\"label\":0.5}}");
    let labels = [("a", Some("1"), 1), ("b", Some("true"), 3), ("c", Some("x"), 4), ("d", Some("0.5"), 5)];
    assert_eq!(seen(&read("a.jsonl", text).unwrap()), labels);
}

#[test]
fn pairs_are_found_by_name() {
    let data = read("a.tsv", "label\tsentence1\tsentence2\nx\ta\tb\n").unwrap();
    assert_eq!(data.records[0].pair(), Some("b"));
    let data = read("a.jsonl", r#"{"text":"a","text_pair":"b","label":"x"}"#).unwrap();
    assert_eq!(data.records[0].pair(), Some("b"));
    // A named text has no second text unless that is named too.
    let named = columns("sentence1", "", "", Header::Auto);
    let data = parse("a.tsv", "label\tsentence1\tsentence2\nx\ta\tb\n", &named, LABELS).unwrap();
    assert_eq!(data.records[0].pair(), None);
    let both = columns("0", "2", "1", Header::No);
    let data = parse("a.csv", "q,neg,an answer\n", &both, LABELS).unwrap();
    assert_eq!(data.chosen.to_string(), "text from column 0 and column 2, label from column 1");
}

#[test]
fn the_usual_pairs() {
    for (text, pair) in [
        ("sentence1", "sentence2"),
        ("premise", "Hypothesis"),
        ("question", "sentence"),
        ("question1", "question2"),
        ("sentence_A", "sentence_B"),
    ] {
        let data = read("a.tsv", format!("idx\t{pair}\tlabel\t{text}\n0\tb\tx\ta\n")).unwrap();
        assert_eq!((&*data.records[0].text(), data.records[0].pair()), ("a", Some("b")), "{text}");
        let data = read("a.jsonl", format!(r#"{{"{pair}":"b","label":"x","{text}":"a"}}"#)).unwrap();
        assert_eq!((&*data.records[0].text(), data.records[0].pair()), ("a", Some("b")), "{text}");
    }
    // a column of another pair makes it unclear, half a pair is no text
    let both = refused("a.csv", "premise,hypothesis,sentence,label\na,b,c,x\n");
    let expected = "a.csv: several columns could be meant: `premise`, `hypothesis` and `sentence`; choose with --text-column";
    assert_eq!(both, expected);
    let half = refused("a.jsonl", r#"{"premise":"a","label":"x"}"#);
    assert!(half.contains("no field `text`, `sentence` or `sentence1`; it has `premise`"), "{half}");
}

#[test]
fn headers_are_detected() {
    let first = |text: &str| read("a.tsv", text).map(|data| data.records[0].line);
    assert_eq!(first("Text\tLabel\nfine\tpos\n").unwrap(), 2);
    assert_eq!(first("a long enough sentence .\tpos\nbad\tneg\n").unwrap(), 1);
    assert_eq!(first("great\tpos\nbad\tneg\ngood\tpos\n").unwrap(), 1, "the label comes again");
    for unclear in
        ["great\tpos\nbad\tneg\n", "text\tpos\nbad\tpos\n", "what is a label, then ?\tlabel\nx\ty\n"]
    {
        let error = first(unclear).unwrap_err().to_string();
        assert!(error.starts_with("a.tsv:1: ") && error.contains("--header yes"), "{error}");
    }
    let yes = Columns { header: Header::Yes, ..Columns::default() };
    assert_eq!(parse("a.tsv", "label\ttext\nx\ty\n", &yes, LABELS).unwrap().records[0].text(), "y");
    let no = Columns { header: Header::No, ..Columns::default() };
    assert_eq!(seen(&parse("a.tsv", "text\tlabel\n", &no, LABELS).unwrap()), [("text", Some("label"), 1)]);
    let no = columns("text", "", "", Header::No);
    let error = parse("a.tsv", "text\tlabel\n", &no, LABELS).unwrap_err().to_string();
    assert!(error.contains("`header` cannot be no"), "{error}");
}

#[test]
fn texts_need_no_labels() {
    let texts = |name, text| parse(name, text, &Columns::default(), TEXTS);
    assert_eq!(
        seen(&texts("a.tsv", "one two three four\nfive , six\n").unwrap())[1],
        ("five , six", None, 2)
    );
    assert_eq!(seen(&texts("a.tsv", "text\tlabel\na\tx\n").unwrap()), [("a", None, 2)]);
    assert_eq!(seen(&texts("a.csv", "so it goes .,1\n").unwrap()), [("so it goes .", None, 1)]);
    assert_eq!(seen(&texts("a.jsonl", r#"{"sentence":"a"}"#).unwrap()), [("a", None, 1)]);
}

#[test]
fn texts_come_from_anywhere() {
    let texts = |texts: &[&str]| {
        Dataset::of_texts("--text", &texts.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(seen(&texts(&["a", "b"]).unwrap()), [("a", None, 1), ("b", None, 2)]);
    assert_eq!(texts(&["a", " "]).unwrap_err().to_string(), "--text:2: the text is empty");
    assert_eq!(texts(&[]).unwrap_err().to_string(), "--text: there are no texts");
}

#[test]
fn bad_files_are_named() {
    assert_eq!(refused("a.tsv", ""), "a.tsv: the file is empty");
    assert_eq!(refused("a.jsonl", "\u{feff} \n\n"), "a.jsonl: the file is empty");
    assert_eq!(refused("a.csv", "text,label\n"), "a.csv: the file has a header but no rows");
    assert!(refused("a.json", "{}").contains(".tsv, .csv, .jsonl, .ndjson, .parquet or .arrow"));
    assert!(refused("data", "{}").contains(".tsv, .csv, .jsonl, .ndjson, .parquet or .arrow"));
    assert!(refused("data.gz", "{}").contains(".tsv, .csv, .jsonl, .ndjson, .parquet or .arrow"));
    assert!(refused("a.tsv", b"\xff\xfea\0").contains("UTF-16"));
    let files = Files::new(&["no/such.tsv".into()], &Columns::default(), LABELS).unwrap();
    let error = files.read().unwrap_err().to_string();
    assert!(error.starts_with("cannot read no/such.tsv: "), "{error}");
}

#[test]
fn bad_columns_are_named() {
    let missing = refused("a.tsv", "label\tbody\nx\ty\n");
    let expected = "a.tsv has no column `text`, `sentence` or `sentence1`; it has `label` and `body` \
                    (choose with --text-column)";
    assert_eq!(missing, expected);
    assert!(refused("a.csv", "text,class\nx,y\n").contains("no column `label`; it has `text` and `class`"));
    assert!(refused("a.csv", "text,sentence,label\nx,y,z\n").contains("several columns"));
    assert!(refused("a.jsonl", r#"{"text":"a","sentence":"b","label":1}"#).contains("several fields"));
    assert!(refused("a.jsonl", r#"{"text":"a"}"#).contains("no field `label`; it has `text`"));
    assert!(refused("a.tsv", "one , two\t1\t2\n").contains("--label-column INDEX"));
    assert!(refused("a.tsv", "just one long sentence .\n").contains("no column with labels"));
    let far = columns("7", "", "1", Header::No);
    let error = parse("a.tsv", "a\tb\n", &far, LABELS).unwrap_err().to_string();
    assert!(error.contains("no column 7 (counted from 0); it has `0` and `1`"), "{error}");
    let named = columns("body", "", "", Header::Auto);
    let error = parse("a.tsv", "text\tlabel\na\tb\n", &named, LABELS).unwrap_err().to_string();
    assert!(error.contains("no column `body`"), "{error}");
}

#[test]
fn bad_rows_are_named() {
    let head = "text\tlabel\n";
    let cases = [
        ("a.tsv", format!("{head}a\tx\nb\n"), "a.tsv:3: 1 column where the first row has 2"),
        ("a.tsv", format!("{head}a\tx\ty\n"), "a.tsv:2: 3 columns where the first row has 2"),
        ("a.tsv", format!("{head}a\tx\n \tx\n"), "a.tsv:3: the text is empty"),
        (
            "a.tsv",
            format!("{head}a\t \n"),
            "a.tsv:2: the label is empty; --skip-unlabelled leaves out what has none",
        ),
        ("a.csv", "text,label\n\"a\n\",x\n\n\"\",y\n".into(), "a.csv:5: the text is empty"),
        ("a.csv", "text,label\na,x\n\"b,y\nc,x\n".into(), "a.csv:3: a quote is left open"),
        ("a.jsonl", "{\"text\":\"a\",\"label\":1}\n{\"text\":\"b\"}".into(), "a.jsonl:2: no field `label`"),
        ("a.jsonl", r#"{"text":"a","label":null}"#.into(), "a.jsonl:1: the label is empty"),
        (
            "a.jsonl",
            r#"{"text":3,"label":1}"#.into(),
            "a.jsonl:1: field `text` must be a string, not a number",
        ),
        ("a.jsonl", "{\"text\":\"a\",\"label\":1}\n[]".into(), "a.jsonl:2: not a JSON object"),
        ("a.jsonl", r#"{"text":"a","label"}"#.into(), "a.jsonl:1: not a JSON object"),
    ];
    for (name, text, expected) in cases {
        let error = refused(name, &text);
        assert!(error.starts_with(expected), "{error}, expected {expected}");
    }
    assert_eq!(
        refused("a.tsv", b"text\tlabel\nab\xfec\tx\n"),
        "a.tsv:2: not UTF-8: byte 3 of the line is 0xfe"
    );
}

#[test]
fn labels_are_sorted_naturally() {
    let text = |labels: &[&str]| -> String { labels.iter().map(|l| format!("a , b\t{l}\n")).collect() };
    let no = Columns { header: Header::No, ..Columns::default() };
    let learn = |labels: &[&str]| {
        let data = parse("a.tsv", text(labels), &no, LABELS).unwrap();
        Labels::learn(&data.path, data.names())
    };
    assert_eq!(learn(&["10", "b", "9", "-1", "B", "9"]).unwrap().names(), ["-1", "9", "10", "B", "b"]);
    let error = learn(&["x", "x"]).unwrap_err().to_string();
    assert_eq!(error, "a.tsv: every row has the label `x`; training needs at least two labels");
    let labels = Labels::from_names(vec!["neg".into(), "pos".into()]).unwrap();
    assert_eq!((labels.id("pos"), labels.id("?"), labels.name(0), labels.len()), (Some(1), None, "neg", 2));
    let data = parse("a.tsv", text(&["pos", "neg"]), &no, LABELS).unwrap();
    assert_eq!(labels.ids_of(&data).unwrap(), [1, 0]);
    let data = parse("a.tsv", text(&["pos", "so-so"]), &no, LABELS).unwrap();
    let error = labels.ids_of(&data).unwrap_err().to_string();
    assert_eq!(error, "a.tsv:2: unknown label `so-so`; the known labels are `neg` and `pos`");
    assert!(Labels::from_names(vec!["a".into(), "a".into()]).is_err());
    assert!(Labels::from_names(vec![]).is_err());
}

/// Any text that is not blank.
fn anything() -> impl Strategy<Value = String> {
    "[\\s\\S]{1,12}".prop_filter("blank", |text| !text.trim().is_empty())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn csv_and_jsonl_hold_any_text(texts in prop::collection::vec(anything(), 1..6)) {
        let quote = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let csv: String = texts.iter().map(|text| format!("{},x\r\n", quote(text))).collect();
        let data = read("a.csv", format!("text,label\r\n{csv}")).unwrap();
        let found: Vec<&str> = seen(&data).into_iter().map(|(text, ..)| text).collect();
        prop_assert_eq!(found, texts.iter().map(String::as_str).collect::<Vec<_>>());
        let mut line = 2;
        for (row, text) in data.records.iter().zip(&texts) {
            prop_assert_eq!(row.line, line);
            line += 1 + text.matches('\n').count();
        }
        let jsonl: String = texts
            .iter()
            .map(|text| serde_json::json!({ "text": text, "label": 1 }).to_string() + "\n")
            .collect();
        let data = read("a.jsonl", jsonl).unwrap();
        let found: Vec<&str> = seen(&data).into_iter().map(|(text, ..)| text).collect();
        prop_assert_eq!(found, texts.iter().map(String::as_str).collect::<Vec<_>>());
    }

    #[test]
    fn tsv_holds_any_text_without_tabs_and_line_breaks(text in "[^\t\n\r]{1,12}") {
        prop_assume!(!text.trim().is_empty());
        let data = read("a.tsv", format!("label\ttext\nx\t{text}\n")).unwrap();
        prop_assert_eq!(data.records[0].text(), text);
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        every_format(&bytes);
    }

    #[test]
    fn no_cells_make_a_reader_panic(text in "[\",\t\n\r a{}:_#1.-]{0,40}") {
        every_format(text.as_bytes());
        for name in ["a.tsv", "a.csv", "a.jsonl"] {
            let _ = parse(name, &text, &columns("0", "", "1", Header::No), LABELS);
        }
    }
}

/// Packed as gzip.
fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

/// Reads bytes in every way there is, packed and as they are; errors name the file.
fn every_format(bytes: &[u8]) {
    let packed = gz(bytes);
    for format in FORMATS {
        for (extension, content) in
            format.extensions.iter().flat_map(|e| format.contents.iter().map(move |c| (e, *c)))
        {
            for (labels, quotes) in [(false, Quotes::Literal), (true, Quotes::Literal), (true, Quotes::Csv)] {
                let (columns, want) = (Columns { quotes, ..Columns::default() }, Want { content, labels });
                let read = |name: &str, bytes: &[u8]| {
                    let read = Dataset::parse(name, bytes, &columns, want);
                    match &read {
                        Ok(data) => assert!(!data.records.is_empty()),
                        Err(error) => assert!(error.to_string().starts_with(name), "{error}"),
                    }
                    read.map(|data| data.records).map_err(|e| e.to_string().replace(".gz", ""))
                };
                let name = format!("a.{extension}");
                let plain = read(&name, bytes);
                if !bytes.starts_with(&[0x1f, 0x8b]) {
                    assert_eq!(read(&format!("{name}.gz"), &packed), plain);
                }
                let _ = read(&format!("{name}.gz"), bytes);
            }
        }
    }
}
