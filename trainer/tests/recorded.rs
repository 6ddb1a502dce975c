//! What a run recorded is followed by whoever uses what was learned.
mod support;
use support::*;

/// Pairs whose second text alone tells the labels apart.
fn pairs() -> String {
    let rows = (0..12).map(|i| {
        let (second, label) = if i % 2 == 0 { ("It was good.", "x") } else { ("It was bad.", "y") };
        format!("Text number {i}.\t{second}\t{label}\n")
    });
    format!("first\tsecond\tclass\n{}", rows.collect::<String>())
}
const COLUMNS: &str = "--text-column first --text-pair-column second --label-column class";
fn of_pairs() -> Work {
    let work = Work::new();
    work.write("pairs.tsv", pairs());
    work.train(&format!("--train pairs.tsv {COLUMNS} --out out --max-length 20 --max-steps 3"));
    work
}
const USE: &str = "--model MODEL --adapter out --json --quiet";

#[test]
fn columns_and_length_are_those_of_training() {
    let work = of_pairs();
    let given = format!("eval {USE} --data pairs.tsv {COLUMNS} --max-length 20");
    let want = work.run(&given).evaluation();
    assert_eq!(work.run(&format!("eval {USE} --data pairs.tsv")).evaluation(), want);
    let predict = |flags: &str| work.run(&format!("predict {USE} --input pairs.tsv {flags}")).json();
    assert_eq!(predict(""), predict("--text-column first --text-pair-column second --max-length 20"));
    // a run that goes on from there reads as it did
    let [a, b] = ["--out a".to_string(), format!("--out b {COLUMNS}")].map(|flags| {
        work.train(&format!("--train pairs.tsv --init out {flags}"))["epochs"][0]["loss"].clone()
    });
    assert_eq!(a, b);
    for line in ["text-pair-column = \"second\"", "label-column = \"class\"", "max-length = 24"] {
        assert!(work.text("a/run.toml").contains(line), "{line}");
    }
}

#[test]
fn a_pair_that_is_missing_is_named() {
    let work = of_pairs();
    work.run(&format!("predict {USE} --text one")).fails(&["`text-pair-column`", "second"]);
    work.write("single.tsv", "first\tclass\na\tx\nb\ty\n");
    work.run(&format!("eval {USE} --data single.tsv")).fails(&["single.tsv", "`second`"]);
}

#[test]
fn a_flag_that_says_something_else_is_noted() {
    let work = of_pairs();
    let line = "--model MODEL --adapter out --json";
    let ran = work.run(&format!("eval {line} --data pairs.tsv --max-length 12")).good();
    let note = ran.stderr.lines().find(|l| l.starts_with("note: --max-length 12")).expect("a note");
    assert!(note.contains("20"), "{note}");
    let ran = work.run(&format!("eval {line} --data pairs.tsv --max-length 20")).good();
    assert!(!ran.stderr.contains("note: --max"), "{}", ran.stderr);
}

#[test]
fn a_model_takes_its_companions_along() {
    let work = Work::new();
    work.copy(backbone(), "model");
    let beside = [
        ("tokenizer_config.json", "{\"model_max_length\": 512}"),
        ("special_tokens_map.json", "{}"),
        ("added_tokens.json", "{}"),
        ("vocab.txt", "a"),
        ("merges.txt", "b"),
        ("chat_template.jinja", "c"),
        ("generation_config.json", "{}"),
    ];
    for (name, text) in beside {
        work.write(&format!("model/{name}"), text);
    }
    for other in ["model.safetensors.index.json", "pytorch_model.bin", "report.json", ".hidden.json"] {
        work.write(&format!("model/{other}"), "{}");
    }
    work.train("--model model --adapter full --out full");
    work.run("quantize --model model --dtype int8 --out int8").good();
    for out in ["full", "int8"] {
        for (name, text) in beside {
            assert_eq!(work.text(&format!("{out}/{name}")), text, "{out}");
        }
        let names = work.names(out);
        assert!(!names.iter().any(|n| n.ends_with(".index.json") || n.ends_with(".bin")), "{names:?}");
        assert!(!work.path(&format!("{out}/.hidden.json")).exists());
        work.run(&format!("inspect --model {out}")).good();
    }
    assert!(!work.path("int8/report.json").exists());
}
