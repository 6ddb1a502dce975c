//! Parquet and Arrow: what a row says is what the same object says as a line of JSONL. Fixtures by
//! `tests/reference/tables.py`.
use super::super::reading::Reading;
use super::*;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/tables")).join(name)
}
/// The records up to the first error, and the error without the file.
fn outcome(name: &str, columns: &Columns, want: Want) -> (Vec<Record>, Option<String>) {
    let (path, notes) = (fixture(name), Notes::default());
    let without_file = |e: Error| e.to_string().replace(path.to_str().unwrap(), "FILE");
    let mut reading = match Reading::of(&path, |notes| Source::open(&path, notes), columns, want, &notes) {
        Ok(reading) => reading,
        Err(e) => return (vec![], Some(without_file(e))),
    };
    let mut records = vec![];
    loop {
        match reading.next() {
            None => return (records, None),
            Some(Err(e)) => return (records, Some(without_file(e))),
            Some(Ok(record)) => records.push(record),
        }
    }
}
fn records(name: &str, columns: &Columns, want: Want) -> Vec<Record> {
    match outcome(name, columns, want) {
        (records, None) => records,
        (_, Some(error)) => panic!("{name}: {error}"),
    }
}
fn error(name: &str) -> String {
    let (_, error) = outcome(name, &Columns::default(), LABELS);
    error.expect(name)
}
fn want(content: Content) -> Want {
    Want { content, labels: true }
}

const TYPES: [&str; 6] = [
    "plain.parquet",
    "plain.stream.arrow",
    "plain.file.arrow",
    "other.parquet",
    "other.stream.arrow",
    "other.file.arrow",
];

#[test]
fn rows_are_what_objects_are() {
    let fields = [
        "text", "pair", "label", "small", "big", "value", "half", "yes", "none", "labels", "words", "answers",
    ];
    let (mut equal, mut taken) = (0, 0);
    for name in TYPES {
        for text in ["text", "words"] {
            for label in fields.iter().chain(&["fixed", "no-such"]) {
                if name == "other.parquet" && *label == "fixed" {
                    continue; // Parquet has no such lists
                }
                for content in Content::ALL {
                    let columns = columns(text, "", label, Header::Auto);
                    let of_table = outcome(name, &columns, want(*content));
                    let of_objects = outcome("types.jsonl", &columns, want(*content));
                    assert_eq!(of_table.0, of_objects.0, "{name} {text} {label} {content:?}");
                    let [table, objects] =
                        [&of_table.1, &of_objects.1].map(|e| e.clone().unwrap_or_default());
                    // of the columns that are not read a table has more
                    let same = |e: &str| e.split("; it has").next().unwrap_or_default().to_string();
                    assert_eq!(same(&table), same(&objects), "{name} {text} {label} {content:?}");
                    equal += 1;
                    taken += of_table.0.len();
                }
            }
        }
    }
    assert!(equal > 1000 && taken > 500, "{equal} {taken}");
}

#[test]
fn every_task_reads_them() {
    for (table, objects, content) in [
        ("questions/squad.parquet", "questions/squad.jsonl", Content::Questions),
        ("questions/squad/data-00000-of-00001.arrow", "questions/squad.jsonl", Content::Questions),
        ("saved/tags.parquet", "saved/tags.jsonl", Content::Words),
        ("saved/tags/data-00000-of-00001.arrow", "saved/tags.jsonl", Content::Words),
        ("saved/sets.parquet", "saved/sets.jsonl", Content::LabelSets),
    ] {
        let none = Columns::default();
        assert_eq!(records(table, &none, want(content)), records(objects, &none, want(content)), "{table}");
    }
    // of choices the numbers of classes count, whatever they are called
    for label in ["answerKey", "label"] {
        let columns = columns("", "", label, Header::Auto);
        let both = ["choices.parquet", "choices.jsonl"]
            .map(|name| records(&format!("questions/{name}"), &columns, want(Content::Choices)));
        assert_eq!(both[0], both[1], "{label}");
    }
}

#[test]
fn classes_are_those_that_the_file_lists() {
    let train = [0, 1].map(|i| fixture(&format!("saved/dict/train/data-0000{i}-of-00002.arrow")));
    let files = Files::new(&train, &Columns::default(), LABELS).unwrap();
    let names = files.survey().unwrap().names;
    let labels = Labels::learn(Path::new("saved"), names).unwrap();
    assert_eq!(labels.names(), ["negative", "neutral", "positive"], "in their order, and one does not occur");
    assert_eq!(labels.ids_of(&files.read().unwrap()).unwrap(), [0, 2, 2, 0, 0]);

    let held_out = "saved/dict/validation/data-00000-of-00001.arrow";
    let (two, why) = outcome(held_out, &Columns::default(), LABELS);
    let missing = "FILE:3: the label is empty; --skip-unlabelled leaves out what has none";
    assert_eq!((two.len(), why.as_deref()), (2, Some(missing)), "-1 is no class");
    let skipping = Columns { skip_unlabelled: true, ..Columns::default() };
    assert_eq!(records(held_out, &skipping, LABELS).len(), 2);
    let beyond = "FILE:2: `label`: 3 is the number of none of its 3 classes";
    assert_eq!(error("saved/beyond.parquet"), beyond);

    // beside others
    let dir = tempfile::tempdir().unwrap();
    let with = |line: &str| {
        let path = dir.path().join("more.jsonl");
        std::fs::write(&path, line).unwrap();
        let files = Files::new(&[train[0].clone(), path], &Columns::default(), LABELS).unwrap();
        Labels::learn(&files.name(), files.survey().unwrap().names).map(|l| l.names().to_vec())
    };
    let named = with(r#"{"text": "a", "label": "neutral"}"#).unwrap();
    assert_eq!(named, ["negative", "neutral", "positive"]);
    let other = with(r#"{"text": "a", "label": "other"}"#).unwrap_err().to_string();
    assert!(
        other
            .contains("lists the classes `negative`, `neutral` and `positive`, and there is a label `other`")
    );
    let words = Want { content: Content::LabelSets, labels: true };
    let tags = fixture("saved/tags.parquet");
    let columns = columns("text", "", "", Header::Auto);
    let mixed = Files::new(&[fixture("saved/sets.parquet"), tags], &columns, words).unwrap();
    assert!(mixed.survey().is_err());
}

#[test]
fn codecs_are_unpacked_or_named() {
    let expected = records("codecs/rows.jsonl", &Columns::default(), LABELS);
    for codec in ["none", "snappy", "gzip", "lz4"] {
        let found = records(&format!("codecs/{codec}.parquet"), &Columns::default(), LABELS);
        assert_eq!(found, expected, "{codec}");
    }
    for (codec, name) in [("zstd", "ZSTD"), ("brotli", "BROTLI")] {
        let why = format!(
            "FILE: column `text` is compressed with {name}; write it with snappy, gzip, lz4 or without"
        );
        assert_eq!(error(&format!("codecs/{codec}.parquet")), why);
    }
    for codec in ["lz4", "zstd"] {
        let why = error(&format!("packed-{codec}.arrow"));
        assert!(
            why == format!("FILE:1: its batches are compressed with {codec}; write it without compression"),
            "{why}"
        );
    }
}

#[test]
fn what_is_wrong_is_named_with_its_row() {
    for name in ["empty.parquet", "empty.arrow"] {
        assert_eq!(error(name), "FILE: the file is empty");
    }
    assert_eq!(
        error("infinite.parquet"),
        "FILE:2: label `label` must be a string, a number or a boolean, not NaN or Infinity, which JSON does not know"
    );
    for name in TYPES {
        for (column, kind) in [("when", "Timestamp(ms)"), ("bytes", "Binary")] {
            let (none, why) = outcome(name, &columns("text", "", column, Header::Auto), LABELS);
            assert_eq!(none, [], "{name}");
            assert_eq!(why.unwrap(), format!("FILE:1: `{column}`: its type is {kind}, which is not read"));
        }
    }
}

#[test]
fn packed_and_cut_off_files() {
    let expected = records("saved/train.jsonl", &Columns::default(), LABELS);
    let whole = std::fs::read(fixture("saved/dict/train/data-00000-of-00002.arrow")).unwrap();
    let read = |name: &str, bytes: &[u8]| Dataset::parse(name, bytes, &Columns::default(), LABELS);
    assert_eq!(read("a.arrow.gz", &gz(&whole)).unwrap().records, expected[..3]);
    let table = std::fs::read(fixture("codecs/snappy.parquet")).unwrap();
    assert_eq!(read("a.parquet.gz", &gz(&table)).unwrap().len(), 60);
    for (name, bytes) in [("a.arrow", &whole), ("a.parquet", &table)] {
        for length in 0..bytes.len() {
            let error = read(name, &bytes[..length]).map(|data| data.len()).unwrap_err().to_string();
            assert!(error.starts_with(name), "{length}: {error}");
        }
    }
    let other = read("a.arrow", &table).unwrap_err().to_string();
    assert_eq!(other, "a.arrow: it is a file of Parquet, not of Arrow");
}

#[test]
fn no_byte_that_is_wrong_makes_a_reader_panic() {
    for name in ["codecs/snappy.parquet", "plain.parquet", "plain.stream.arrow", "saved/tags.parquet"] {
        let whole = std::fs::read(fixture(name)).unwrap();
        let name = name.rsplit('/').next().unwrap();
        for at in (0..whole.len()).step_by(13) {
            for other in [0, 0xff, whole[at] ^ 1] {
                let mut bytes = whole.clone();
                bytes[at] = other;
                let columns = columns("text", "", "labels", Header::Auto);
                for want in [LABELS, want(Content::LabelSets), want(Content::Words)] {
                    if let Err(error) = Dataset::parse(name, &bytes, &columns, want) {
                        assert!(error.to_string().starts_with(name), "{error}");
                    }
                }
            }
        }
    }
}
