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
        .fails(&["`parsing`", "classification, regression"]);
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

const LM: &str = "train --model gpt --task causal-lm --train text.txt --eval held-out.txt --json --quiet --max-length 16 \
                  --batch-size 4 --warmup-ratio 0";

#[test]
fn a_language_model_learns_and_says_how_probable_texts_are() {
    let work = Work::empty();
    language_model(&work);
    let before = "eval --model gpt --task causal-lm --data held-out.txt --max-length 16 --json";
    let before = work.run(before).evaluation();
    for (adapter, lr, out) in
        [("lora[r=4,alpha=8]", "1e-2", "lora"), ("houlsby", "1e-2", "houlsby"), ("full", "1e-3", "full")]
    {
        let report = work.run(&format!("{LM} --epochs 8 --adapter {adapter} --lr {lr} --out {out}")).json();
        let m = &report["metrics"];
        assert_eq!(report["task"], "causal-lm");
        let (loss, perplexity) = (number(&m["loss"]), number(&m["perplexity"]));
        assert!((loss.exp() / perplexity - 1.0).abs() < 1e-9 && number(&m["bits_per_byte"]) > 0.0, "{m}");
        assert!(perplexity < 0.5 * number(&before["perplexity"]), "{adapter}: {m} after {before}");
        // 10 lines of 7 words and their ends, in blocks of 16 of which the first token is given
        assert_eq!(m["scored_tokens"], 75);
        let model = if out == "full" {
            "--model full --task causal-lm".into()
        } else {
            format!("--model gpt --adapter {out}")
        };
        let eval =
            |flags: &str| work.run(&format!("eval {model} --data held-out.txt --json {flags}")).evaluation();
        let eval_16 = eval("--max-length 16");
        assert!(difference(&[number(&eval_16["loss"]) as f32], &[loss as f32]) < 1e-6);
        if out != "full" {
            assert_eq!(&eval(""), m, "texts are cut as in training");
            assert_eq!(eval("--batch-size 1")["scored_tokens"], m["scored_tokens"]);
        }
        let said =
            work.run_with(&format!("predict {model} --json --text"), &["w1 w2 w3 w4", "w80 w3", "w1"]).json();
        let of = |i: usize| &said["predictions"][i];
        assert_eq!([&of(0)["tokens"], &of(1)["tokens"], &of(2)["tokens"]], [&json!(3), &json!(1), &json!(0)]);
        assert!(number(&of(0)["loss"]) < number(&of(1)["loss"]) && of(2)["loss"].is_null(), "{said}");
    }
    assert_eq!(work.names("lora"), ["adapter.safetensors", "adapter_config.json", "report.json", "run.toml"]);
    assert!(work.names("full").contains(&"model.safetensors".to_string()));
}

#[test]
fn documents_are_lines_paragraphs_or_rows() {
    let work = Work::empty();
    language_model(&work);
    let lines = "w1 w2 w3\nw4 w5\n\nw6 w7\n";
    work.write("a.txt", lines).write("a.csv", "id,text\n1,\"w1 w2 w3\nw4 w5\"\n2,w6 w7\n");
    let eval =
        |flags: &str| work.run(&format!("eval --model gpt --task causal-lm --json {flags}")).evaluation();
    // one block: 7 words and an end behind each document, all but the first predicted
    assert_eq!(eval("--data a.txt")["scored_tokens"], 9);
    let paragraphs = eval("--data a.txt --documents paragraphs");
    assert_eq!((&paragraphs["scored_tokens"], &paragraphs["examples"]), (&json!(8), &json!(2)));
    assert_eq!(eval("--data a.csv")["loss"], paragraphs["loss"]);
    work.write("one.txt", "")
        .run("eval --model gpt --task causal-lm --data one.txt")
        .fails(&["one.txt", "empty"]);
    work.run("eval --model MODEL --task causal-lm --data a.txt").fails(&["language-modelling head"]);
    work.run("eval --model gpt --task tagging --data a.txt").fails(&["task", "adapter"]);
    work.run(&format!("{LM} --epochs 1 --adapter none --out x")).fails(&["no head to train"]);
}

#[test]
fn every_byte_of_a_language_model_is_planned() {
    let work = Work::empty();
    language_model(&work);
    let line = "memory --model gpt --task causal-lm --batch 3 --length 20 --methods full,houlsby,lora[r=2] --measure --json";
    for row in work.run(line).json()["rows"].as_array().unwrap() {
        assert_eq!(row["ledger_equals_predicted"], true, "{row}");
    }
    let bytes = |r: &Value| r["ledger_peak_bytes"].as_u64().unwrap();
    let free = work.run(&format!("{LM} --max-steps 5 --adapter houlsby --out free")).json();
    let tight =
        format!("{LM} --max-steps 5 --adapter houlsby --out tight --memory-budget {}", bytes(&free) - 1);
    let ran = work.run(&tight.replace(" --quiet", "")).good();
    let said = ran.stderr.lines().any(|l| l.starts_with("plan for "));
    let tight = ran.json();
    assert!(said && bytes(&tight) < bytes(&free));
    assert_eq!(free["metrics"], tight["metrics"]);
}
