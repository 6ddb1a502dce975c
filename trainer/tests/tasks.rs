//! Tagging and language modelling, as a user runs them.
mod support;
use serde_json::{Value, json};
use support::*;

const SENTENCES: &str = "Anna B-PER\nlives O\nin O\nParis B-LOC\n. O\n\nThe O\nriver O\nSeine B-LOC\nis O\nlong O\n. O\n\n\
                         Mister O\nBrown B-PER\nJunior I-PER\nsleeps O\n";
const TAG: &str = "train --model MODEL --task tagging --train words.conll --eval words.conll --json --quiet \
                   --batch-size 2 --epochs 12 --lr 5e-3 --warmup-ratio 0 --seed 3";

fn tagged(flags: &str) -> (Work, Value) {
    let work = Work::empty();
    work.write("words.conll", SENTENCES);
    let report = work.run(&format!("{TAG} --out out {flags}")).json();
    (work, report)
}
fn evaluated(work: &Work, flags: &str) -> Value {
    work.run(&format!("eval --model MODEL --adapter out --data words.conll --json {flags}")).evaluation()
}

#[test]
fn tagging_trains_evaluates_and_predicts() {
    let (work, report) = tagged("");
    assert_eq!(report["task"], "tagging");
    let m = &report["metrics"];
    for score in ["loss", "f1", "precision", "recall", "macro_f1", "accuracy"] {
        assert!(m[score].is_number(), "{score}: {m}");
    }
    assert_eq!(m["words"], json!({"scored": 15, "without_prediction": 0}));
    assert_eq!(m["entities"][1]["type"], "PER");
    assert_eq!((&m["entities"][1]["support"], number(&m["f1"])), (&json!(2), 1.0), "{m}");
    assert!(work.text("out/run.toml").contains("task = \"tagging\""));
    assert!(work.text("out/head_config.json").contains("\"head_type\": \"tagging\""));
    assert_eq!(&evaluated(&work, ""), m);
    // any batch gives the same numbers
    assert_eq!(evaluated(&work, "--batch-size 1")["entities"], m["entities"]);
    // sentences in windows: every word is scored all the same
    let cut = evaluated(&work, "--max-length 6");
    assert_eq!(cut["words"], m["words"]);
    let plain = work.run("eval --model MODEL --adapter out --data words.conll").good().stdout;
    assert!(plain.starts_with("3 sentences in ") && plain.contains(": f1 100.00 %, loss"), "{plain}");
    assert!(plain.contains("type  precision") && plain.lines().any(|l| l.starts_with("LOC ")), "{plain}");

    let text = ["--text", "Anna sleeps", "Brown"];
    let said = work.run_with("predict --model MODEL --adapter out --json", &text).json();
    assert_eq!(said["predictions"][0]["words"], json!(["Anna", "sleeps"]));
    assert_eq!(said["predictions"][1]["tags"].as_array().unwrap().len(), 1);
    let file = work.run("predict --model MODEL --adapter out --input words.conll").good().stdout;
    assert!(file.starts_with("Anna\tB-PER\nlives\tO\n") && file.contains("\n\nThe\tO\n"), "{file}");
}

#[test]
fn the_same_sentences_are_read_from_every_format() {
    let (work, report) = tagged("");
    let mut lines = vec![];
    let mut universal = String::new();
    for sentence in SENTENCES.split("\n\n") {
        let pairs: Vec<(&str, &str)> = sentence.lines().filter_map(|l| l.split_once(' ')).collect();
        let (words, tags): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
        lines.push(json!({"tokens": words, "ner_tags": tags}).to_string());
        for (i, (word, tag)) in pairs.iter().enumerate() {
            universal += &format!("{}\t{word}\t_\t_\t_\t_\t_\t_\t_\tE={tag}\n", i + 1);
        }
        universal += "\n";
    }
    work.write("words.jsonl", lines.join("\n")).write("words.conllu", universal);
    let eval = |data: &str| work.run(&format!("eval --model MODEL --adapter out --json {data}")).evaluation();
    assert_eq!(eval("--data words.jsonl"), report["metrics"]);
    assert_eq!(eval("--data words.conllu --label-column misc:E"), report["metrics"]);
}

#[test]
fn what_tagging_refuses() {
    let (work, _) = tagged("");
    let eval = |data: &str| work.run(&format!("eval --model MODEL --adapter out --data {data}"));
    work.write("other.conll", "a B-X\n").write("bare.conll", "a\nb\n").write("texts.tsv", "a\tb\n");
    eval("other.conll").fails(&["other.conll:1", "unknown label `B-X`", "`B-LOC`"]);
    eval("bare.conll").fails(&["bare.conll:1", "without a tag"]);
    eval("texts.tsv").fails(&["texts.tsv", ".conllu"]);
    eval("words.conll --task classification").fails(&["task", "classification", "for tagging"]);
    work.run(&format!("{TAG} --metric perplexity --out x")).fails(&["metric", "perplexity", "f1"]);
    work.run(&TAG.replace("--task tagging", "--task parsing"))
        .fails(&["`parsing`", "classification, tagging, causal-lm"]);
    // a missing label is an error, in evaluation as in training
    work.write("unlabelled.jsonl", "{\"text\":\"a\"}\n");
    let other = Work::new();
    other.train("--out out");
    other.write("eval.jsonl", "{\"text\":\"a\"}\n");
    other.run("eval --model MODEL --adapter out --data eval.jsonl").fails(&["no field `label`"]);
}

#[test]
fn every_byte_of_tagging_is_planned() {
    let (work, free) = tagged("--max-steps 5");
    let bytes = |r: &Value| r["ledger_peak_bytes"].as_u64().unwrap();
    let most = bytes(&free) - 1;
    let ran =
        work.run(&format!("{TAG} --max-steps 5 --out least --memory-budget {most}").replace(" --quiet", ""));
    let ran = ran.good();
    let planned = ran.stderr.lines().any(|l| l.starts_with("at most "));
    let tight = ran.json();
    assert!(planned && bytes(&tight) <= most);
    assert_eq!(free["metrics"], tight["metrics"]);
    let line = "memory --model MODEL --task tagging --batch 3 --length 20 --methods houlsby --measure --json";
    let table = work.run(line).json();
    for row in table["rows"].as_array().unwrap() {
        assert_eq!(row["ledger_equals_predicted"], true, "{row}");
    }
}

#[test]
fn the_frozen_prefix_of_sentences_is_cached() {
    let run = |flags: &str| tagged(&format!("--dropout 0 --layers 3 {flags}")).1["metrics"].clone();
    let plain = run("");
    let cache = tempfile::tempdir().unwrap();
    assert_eq!(run(&format!("--cache-prefix {}", cache.path().display())), plain);
    let head = |flags: &str| tagged(&format!("--dropout 0 --adapter none {flags}")).1["metrics"].clone();
    let plain = head("");
    assert_eq!(head(&format!("--cache-prefix {}", cache.path().display())), plain);
}
