//! Bad data files and token ids: each is refused with the file, the line and what is wrong there.
mod support;
use serde_json::{Value, json};
use support::*;

/// Trains on a file of this content.
#[track_caller]
fn refused(name: &str, content: impl AsRef<[u8]>, flags: &str, words: &[&str]) {
    let work = Work::new();
    work.write(name, content);
    work.run(&train(&format!("--train {name} --out out {flags}"))).fails(words);
    assert!(work.names("out").is_empty(), "{:?}", work.names("out"));
}

#[test]
fn a_file_without_rows_is_refused() {
    for name in ["a.tsv", "a.csv", "a.jsonl"] {
        refused(name, "", "", &[name, "the file is empty"]);
        refused(name, "\n \n", "", &[name, "the file is empty"]);
    }
    for (name, header) in [("a.tsv", "text\tlabel\n"), ("a.csv", "text,label\n")] {
        refused(name, header, "", &[name, "a header but no rows"]);
    }
    let work = Work::new();
    work.run(&train("--train nowhere.tsv --out out")).fails(&["cannot read nowhere.tsv"]);
    work.run(&train("--eval nowhere.tsv --out out")).fails(&["cannot read nowhere.tsv"]);
    assert!(work.names("out").is_empty());
}

#[test]
fn an_extension_that_says_nothing_is_refused() {
    for name in ["a.txt", "a.xlsx", "a"] {
        refused(
            name,
            "text\tlabel\nx\ty\n",
            "",
            &[name, ".tsv, .csv, .jsonl, .ndjson, .parquet or .arrow", "--format"],
        );
    }
}

#[test]
fn a_missing_column_is_named_beside_those_there_are() {
    let rows = "words\tlabel\nfine day\tgood\nwet day\tbad\n";
    refused("a.tsv", rows, "", &["a.tsv has no column `text`", "`words` and `label`", "--text-column"]);
    refused("a.tsv", rows, "--text-column 7", &["a.tsv has no column 7", "--text-column"]);
    let flags = "--text-column words --label-column mark";
    refused("a.tsv", rows, flags, &["a.tsv has no column `mark`", "--label-column"]);
    let flags = "--text-column words --text-pair-column more";
    refused("a.csv", rows.replace('\t', ","), flags, &["a.csv has no column `more`", "--text-pair-column"]);
    refused("a.jsonl", "{\"text\": \"x\"}\n", "", &["a.jsonl has no field `label`", "`text`"]);
    refused("a.tsv", "x y z\nb c d\n", "--header no", &["a.tsv has no column with labels"]);
}

#[test]
fn a_bad_row_is_named_by_its_line() {
    let rows = |cell: &str| format!("text\tlabel\nfine day\tgood\n\nwet day\tbad\n{cell}\n");
    refused("a.tsv", rows("one\ttwo\tthree"), "", &["a.tsv:5: 3 columns where the first row has 2"]);
    refused("a.tsv", rows("alone"), "", &["a.tsv:5: 1 column where"]);
    refused("a.tsv", rows(" \tgood"), "", &["a.tsv:5: the text is empty"]);
    refused("a.tsv", rows("dry day\t "), "", &["a.tsv:5: the label is empty; --skip-unlabelled"]);
    refused("a.csv", "text,label\nfine,good\n\"wet,bad\n", "", &["a.csv:3: a quote is left open"]);
    refused("a.csv", "text,label\n\"two\nlines\",good\nwet,bad\n,bad\n", "", &["a.csv:5: the text is empty"]);
    let object = |line: &str| format!("{{\"text\": \"x\", \"label\": 1}}\n{line}\n");
    refused("a.jsonl", object("{\"text\": "), "", &["a.jsonl:2: not a JSON object"]);
    refused("a.jsonl", object("{\"label\": 2}"), "", &["a.jsonl:2: no field `text`"]);
    refused(
        "a.jsonl",
        object("{\"text\": 3, \"label\": 2}"),
        "",
        &["a.jsonl:2: field `text` must be a string"],
    );
    refused(
        "a.jsonl",
        object("{\"text\": \"y\", \"label\": null}"),
        "",
        &["a.jsonl:2: the label is empty", "--skip-unlabelled"],
    );
    refused("a.tsv", b"text\tlabel\nfine\tgood\nw\xe9t\tbad\n", "", &["a.tsv:3: not UTF-8", "byte 2"]);
    refused("a.tsv", b"\xff\xfet\0", "", &["a.tsv: the file is UTF-16"]);
    let pairs = "sentence1\tsentence2\tlabel\na\tb\t0\nc\t\t1\n";
    refused("a.tsv", pairs, "", &["a.tsv:3: the second text is empty"]);
}

#[test]
fn one_label_is_not_enough() {
    refused("a.tsv", "text\tlabel\nx\tgood\ny\tgood\n", "", &["a.tsv: every row has the label `good`"]);
}

#[test]
fn a_row_that_could_be_a_header_or_data_is_asked_about() {
    refused("a.tsv", "fine day\tgood\nwet day\tbad\n", "", &["a.tsv:1: ", "--header yes or --header no"]);
}

#[test]
fn a_label_that_training_did_not_know_is_refused_by_line() {
    let work = Work::new();
    work.write("other.tsv", "text\tlabel\nfine day\tgood\nso so\tfair\n");
    let words = ["other.tsv:3: unknown label `fair`; the known labels are `bad` and `good`"];
    work.run(&train("--eval other.tsv --out out")).fails(&words);
    assert!(work.names("out").is_empty());
    work.train("--out out");
    work.run("eval --model MODEL --adapter out --data other.tsv").fails(&words);
    work.run(&train("--train other.tsv --init out --out new")).fails(&words);
    assert!(work.names("new").is_empty());
}

#[test]
fn bad_texts_are_refused_at_evaluation_and_prediction_too() {
    let work = Work::new();
    work.train("--out out");
    work.write("empty.tsv", "").write("gap.tsv", "text\tlabel\nfine\tgood\n\t\n");
    let on = |what: &str| work.run(&format!("{what} --model MODEL --adapter out"));
    on("eval --data empty.tsv").fails(&["empty.tsv: the file is empty"]);
    on("eval --data gap.tsv").fails(&["gap.tsv:3: the text is empty"]);
    on("eval --data eval.tsv --label-column mark").fails(&["eval.tsv has no column `mark`"]);
    on("predict --input gap.tsv").fails(&["gap.tsv:3: the text is empty"]);
    on("predict --input eval.tsv --text-column 5").fails(&["eval.tsv has no column 5"]);
    let line = "predict --model MODEL --adapter out --text";
    work.run_with(line, &["fine", " "]).fails(&["--text:2: the text is empty"]);
    work.run_with(line, &[""]).fails(&["--text:1: the text is empty"]);
}

#[test]
fn a_text_of_unknown_or_strange_characters_is_still_a_text() {
    let work = Work::new();
    work.train("--out out");
    let long = "word ".repeat(10_000);
    let texts = ["\u{1f600}", "\u{200b}", "a\u{0}b", "\u{feff}", long.as_str(), "-", "ﷺ"];
    let line = "predict --model MODEL --adapter out --json --input strange.jsonl";
    work.write("strange.jsonl", texts.map(|t| json!({"text": t}).to_string() + "\n").concat());
    assert_eq!(work.run(line).json()["predictions"].as_array().unwrap().len(), texts.len());
}

/// Runs the tiny model on these token ids.
#[track_caller]
fn ids_refused(ids: &str, flags: &str, words: &[&str]) {
    let work = Work::empty();
    work.write("ids.json", ids);
    let line = format!("forward --model FIXTURES/model --ids ids.json --out o.safetensors {flags}");
    work.run(&line).fails(words);
    assert_eq!(work.names(""), ["ids.json"]);
}
const HOULSBY: &str = "--adapter FIXTURES/houlsby";

#[test]
fn bad_token_ids_are_refused() {
    let of = |v: Value| v.to_string();
    let ids = |v: Value| of(json!({ "input_ids": v }));
    ids_refused(&ids(json!([])), "", &["ids.json", "`input_ids` is empty"]);
    ids_refused(&ids(json!([[1], []])), "", &["ids.json", "sequence 1 has 0 tokens"]);
    ids_refused(&ids(json!([[1, 61]])), HOULSBY, &["ids.json", "61"]);
    ids_refused(&ids(json!([vec![1; 25]])), "", &["ids.json", "sequence 0 has 25 tokens", "1 to 24"]);
    ids_refused(&ids(json!([[1, -2]])), "", &["ids.json", "-2"]);
    ids_refused(&ids(json!([1, 2])), "", &["ids.json"]);
    ids_refused("[[1]]", "", &["ids.json"]);
    ids_refused("{\"input_ids\": [[1]", "", &["ids.json"]);
    ids_refused(&of(json!({"ids": [[1]]})), "", &["ids.json", "`ids`", "`input_ids`"]);
    let types = |v: Value| of(json!({"input_ids": [[1, 2], [3]], "token_type_ids": v}));
    ids_refused(&types(json!([[0, 0]])), "", &["ids.json", "`token_type_ids` has 1 lists, `input_ids` 2"]);
    ids_refused(&types(json!([[0, 0], [0, 0]])), "", &["ids.json", "list 1: 2 token types for 1 ids"]);
    ids_refused(&types(json!([[0, 0], [2]])), "", &["ids.json", "2"]);
    let work = Work::empty();
    work.run("forward --model FIXTURES/model --ids no.json --out o").fails(&["cannot read no.json"]);
}

#[test]
fn bad_labels_are_refused() {
    let with = |labels: Value| json!({"input_ids": [[1, 2], [3]], "labels": labels}).to_string();
    ids_refused(&with(json!([0, 2])), HOULSBY, &["ids.json", "label 2", "2"]);
    ids_refused(&with(json!([0])), HOULSBY, &["ids.json", "1 labels for 2 sequences"]);
    ids_refused(&with(json!([0, 1])), "", &["`labels`", "--adapter"]);
    ids_refused(&with(Value::Null), &format!("{HOULSBY} --grad"), &["ids.json", "--grad needs `labels`"]);
    ids_refused(&with(Value::Null), "--grad", &["--grad", "--adapter"]);
}
