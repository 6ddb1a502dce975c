//! Data sets as `datasets` saves them, given to the program: by their directories.
mod support;
use std::path::Path;
use support::*;

fn saved(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tables").join(name);
    path.to_str().unwrap().to_string()
}
fn line(flags: &str) -> String {
    format!("train --model MODEL --adapter none --quiet --max-steps 2 --batch-size 2 {flags}")
}
/// The labels of a head, in the order of their numbers.
fn labels(work: &Work, out: &str) -> Vec<String> {
    let config: serde_json::Value =
        serde_json::from_slice(&work.read(&format!("{out}/head_config.json"))).unwrap();
    let ids = config["config"]["label2id"].as_object().or(config["label2id"].as_object()).unwrap();
    let mut all: Vec<_> = ids.iter().map(|(name, id)| (id.as_u64().unwrap(), name.clone())).collect();
    all.sort();
    all.into_iter().map(|(_, name)| name).collect()
}

#[test]
fn a_directory_is_a_data_set_and_its_classes_are_the_labels() {
    let work = Work::empty();
    let dict = saved("saved/dict");
    work.run(&line(&format!("--train {dict} --eval {dict} --skip-unlabelled --out classes"))).good();
    assert_eq!(labels(&work, "classes"), ["negative", "neutral", "positive"]);
    let toml = work.text("classes/run.toml");
    assert!(toml.contains("dict/train/data-00000-of-00002.arrow"), "{toml}");
    assert!(toml.contains("dict/validation/data-00000-of-00001.arrow"), "{toml}");
    work.run(&line(&format!("--train {dict} --stream --out streamed"))).good();
    let weights = |out: &str| work.tensors(&format!("{out}/model_head.safetensors"));
    assert_eq!(weights("streamed"), weights("classes"));
    let fails = |data: &str, words: &[&str]| {
        let eval = format!("eval --model MODEL --adapter classes --data {data} --quiet");
        work.run(&eval).fails(words);
    };
    fails(&format!("{dict}:test --skip-unlabelled"), &["no record of it has a label"]);
    fails(&format!("{dict}:dev"), &["no split `dev`", "`train`, `validation` and `test`"]);
    let predict =
        |data: &str| work.run(&format!("predict --model MODEL --adapter classes --input {data} --quiet"));
    predict(&dict).fails(&["`train`, `validation` and `test`: name the one to read"]);
    assert!(predict(&format!("{dict}:test")).good().stdout.ends_with("\tnot to be guessed\n"));
}

#[test]
fn a_run_on_a_table_is_the_run_on_the_same_objects() {
    let work = Work::empty();
    for (task, table, objects) in [
        ("tagging", "saved/tags", "saved/tags.jsonl"),
        ("question-answering", "questions/squad", "questions/squad.jsonl"),
        ("question-answering", "questions/squad.parquet", "questions/squad.jsonl"),
        ("multiple-choice --label-column answerKey", "questions/choices.parquet", "questions/choices.jsonl"),
    ] {
        let run = |data: &str, out: &str| {
            work.run(&line(&format!("--task {task} --train {} --out {out}", saved(data)))).good();
            work.tensors(&format!("{out}/model_head.safetensors"))
        };
        let (table, objects) = (run(table, "table"), run(objects, "objects"));
        if task == "tagging" {
            assert_eq!(labels(&work, "table"), ["O", "B-PER", "I-PER", "B-LOC"]);
            assert_eq!(labels(&work, "objects"), ["B-LOC", "B-PER", "I-PER", "O"], "in sorted order");
        } else {
            assert_eq!(table, objects, "{task}");
        }
    }
}
