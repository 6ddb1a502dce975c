//! Answers that are generated in evaluations and for predictions, beside transformers, rouge_score
//! and sacreBLEU (`tests/reference/answers.py`).
mod support;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use support::*;

fn of_fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}
/// The model of a family under `m`, with the tokenizer and the data of its answers.
fn answering(family: &str) -> (Work, Value) {
    let (work, at) = (Work::empty(), of_fixture(&format!("answers/{family}")));
    work.copy(&of_fixture(&format!("generation/{family}/model")), "m");
    for (file, bytes) in files(&at) {
        work.write(if file == "tokenizer.json" { "m/tokenizer.json" } else { &file }, bytes);
    }
    let expected = serde_json::from_str(&work.text("expected.json")).unwrap();
    (work, expected)
}
fn near(found: &Value, expected: &Value, bound: f64, about: &str) {
    let (a, b) = (number(found), number(expected));
    assert!((a - b).abs() <= bound * b.abs().max(1.0), "{about}: {a}, expected {b}");
}
/// What the libraries say of a family, and `task` with its flags.
fn check(family: &str, task: &str, flags: &[&str]) {
    let (work, expected) = answering(family);
    let data = if family == "t5" { "data.jsonl" } else { "data.csv" };
    for case in expected["cases"].as_array().unwrap() {
        let (name, how) = (format!("{family} {}", case["name"]), case["flags"].as_str().unwrap());
        let line = format!("eval --model m --task {task} --data {data} --max-new-tokens 12 {how} --json");
        let found = work.run_with(&line, flags).evaluation();
        for (score, value) in expected["tokens"].as_object().unwrap() {
            near(&found[score], value, 1e-5, &format!("{name}: {score}"));
        }
        near(&found["perplexity"], &json!(number(&expected["tokens"]["loss"]).exp()), 1e-4, &name);
        for (score, value) in case["scores"].as_object().unwrap() {
            near(&found[score], value, 1e-9, &format!("{name}: {score}"));
        }
        let signature = case["signature"].as_str().unwrap();
        let own = found["signatures"]["bleu"].as_str().unwrap();
        assert!(own.starts_with(&format!("{signature}|version:engraft-")), "{own}, expected {signature}");
        let rouge = &found["rouge"]["rouge1"];
        let [low, high] = [0, 1].map(|i| number(&rouge["interval"][i]));
        assert!(low <= number(&found["rouge1"]) && number(&found["rouge1"]) <= high && low < high, "{rouge}");
        near(&rouge["f1"], &found["rouge1"], 1e-12, &name);
        // a batch of another size says the same
        let other = work.run_with(&format!("{line} --batch-size 3"), flags).evaluation();
        assert_eq!((&other["bleu"], &other["rougeLsum"]), (&found["bleu"], &found["rougeLsum"]));

        let line = format!("predict --model m --task {task} --input {data} --max-new-tokens 12 {how} --json");
        let said = work.run_with(&line, flags).json();
        let (mut texts, mut before) = (vec![], &Value::Null);
        for one in said["predictions"].as_array().unwrap() {
            // rows with one source have one answer
            if family == "t5" || one["text"] != *before {
                texts.push(&one["generated"]);
            }
            before = &one["text"];
        }
        assert_eq!(json!(texts), case["texts"], "{name}");
    }
}

#[test]
fn an_encoder_decoder_answers_as_in_the_libraries() {
    check("t5", "seq2seq", &["--source-prefix", "answer now "]);
}

#[test]
fn a_language_model_answers_prompts_as_in_the_libraries() {
    let flags = ["--prompt-template", "{source} then ", "--max-length", "40", "--group-targets"];
    check("gpt2", "causal-lm", &flags);
}

#[test]
fn what_is_not_grouped_is_compared_with_its_own_target() {
    let (work, _) = answering("gpt2");
    let flags = ["--prompt-template", "{source} then ", "--max-length", "40"];
    let line = "eval --model m --task causal-lm --data data.csv --max-new-tokens 12";
    let of = |more: &[&str]| work.run_with(line, &[&flags[..], more, &["--json"]].concat()).evaluation();
    let (each, grouped) = (of(&[]), of(&["--group-targets"]));
    assert_eq!((&each["loss"], &each["generated"]), (&grouped["loss"], &each["examples"]));
    assert!(number(&grouped["generated"]) < number(&each["generated"]));
    assert!(number(&grouped["rouge1"]) > number(&each["rouge1"]), "the best of several counts");
    let plain = work.run_with(line, &flags).good().stdout;
    for part in ["texts generated: rouge1", "BLEU = ", "nrefs:1|"] {
        assert!(plain.contains(part), "{plain}");
    }
}

const TRAIN: &str = "train --task causal-lm --train train.csv --eval eval.csv --json --quiet --dropout 0 \
                     --batch-size 8 --max-length 24 --warmup-ratio 0";

/// Sources whose target is their own words, raised by thirty.
fn prompted() -> Work {
    let work = Work::empty();
    language_model(&work);
    let words = |i: usize, plus: usize| {
        let word = |j: usize| format!("w{}", 1 + plus + (5 * i + 3 * j) % 7);
        (0..i % 3 + 1).map(word).collect::<Vec<_>>().join(" ")
    };
    let rows = |range: std::ops::Range<usize>| {
        range.map(|i| format!("{},{}\n", words(i, 0), words(i, 30))).collect::<String>()
    };
    work.write("train.csv", format!("source,target\n{}", rows(0..40)));
    work.write("eval.csv", format!("source,target\n{}", rows(40..52)));
    work
}

#[test]
fn a_language_model_learns_to_answer() {
    let work = prompted();
    let flags = ["--prompt-template", "{source} w80"];
    let line = format!(
        "{TRAIN} --model gpt --adapter full --lr 3e-3 --epochs 16 --predict-with-generate --max-new-tokens 6 \
         --metric rouge1 --out out"
    );
    let report = work.run_with(&line, &flags).json();
    assert_eq!(report["task"], "causal-lm");
    let best = number(&report["metrics"]["rouge1"]);
    let all = report["epochs"].as_array().unwrap().iter().map(|e| number(&e["metrics"]["rouge1"]));
    assert_eq!(best, all.fold(0.0, f64::max), "the best is best at what was asked for");
    assert!(best > 70.0, "{report}");
    let again = "eval --model out --task causal-lm --data eval.csv --max-new-tokens 6 --max-length 24 --json";
    let again = work.run_with(again, &flags).evaluation();
    assert_eq!((number(&again["rouge1"]), &again["loss"]), (best, &report["metrics"]["loss"]));
}

#[test]
fn an_adapter_remembers_its_prompts() {
    let work = prompted();
    let prompt = ["--prompt-template", "{source} w80"];
    let train = |more: &str| {
        work.run_with(&format!("{TRAIN} --model gpt --adapter lora --max-steps 3 {more}"), &prompt).json()
    };
    let report = train("--out out");
    assert!(work.text("out/run.toml").contains("prompt-template = \"{source} w80\""));
    let eval = |data: &str, more: &[&str]| {
        let line =
            format!("eval --model gpt --adapter out --data {data} --json --predict-with-generate=false");
        work.run_with(&line, more).evaluation()
    };
    assert_eq!(eval("eval.csv", &[])["loss"], report["metrics"]["loss"]);
    assert_ne!(
        eval("eval.csv", &[])["loss"],
        eval("eval.csv", &["--prompt-template", "w81 {source}"])["loss"]
    );
    let said = ["--text", "w1 w2", "w3", "--max-new-tokens=2"];
    let said = work.run_with("predict --model gpt --adapter out", &said).good().stdout;
    assert_eq!(said.lines().count(), 2);
    // the loss is that of the target and its end, by hand
    work.write("one.csv", "source,target\nw5 w6,w7\n");
    let one = eval("one.csv", &[]);
    let ids = json!({"input_ids": [[5, 6, 80, 7, 0]], "labels": [[-100, -100, -100, 7, 0]]});
    work.write("ids.json", ids.to_string());
    work.run("forward --model gpt --adapter out --ids ids.json --out o.safetensors").good();
    let loss = f64::from(work.tensors("o.safetensors")["loss"][0]);
    assert!((number(&one["loss"]) - loss).abs() < 1e-5 && one["scored_tokens"] == json!(2));
    // a stream learns the same
    let (streamed, held) = (train("--no-shuffle --stream --out streamed"), train("--no-shuffle --out held"));
    assert_eq!(streamed["metrics"]["loss"], held["metrics"]["loss"]);
}

#[test]
fn long_sources_are_cut_and_what_stands_around_them_is_not() {
    let work = prompted();
    let long = |n: usize| (1..=n).map(|i| format!("w{}", i % 60 + 1)).collect::<Vec<_>>().join(" ");
    work.write("long.csv", format!("source,target\n{},w7\n", long(30)));
    work.write("short.csv", format!("source,target\n{},w7\n", long(6)));
    let eval = |data: &str, flags: &str, template: &str| {
        let line = format!("eval --model gpt --task causal-lm --data {data} {flags} --json");
        work.run_with(&line, &["--prompt-template", template])
    };
    let (flags, template) = ("--max-length 12 --max-target-length 4", "w80 {source} w81");
    let (cut, fits) = (eval("long.csv", flags, template), eval("short.csv", flags, template));
    let said = "1 of 1 texts of long.csv were cut to 8 tokens of a prompt and 4 of a target";
    assert!(cut.stderr.contains(said), "{}", cut.stderr);
    assert!(!fits.stderr.contains("were cut"), "{}", fits.stderr);
    assert_eq!(cut.evaluation(), fits.evaluation());
    eval("short.csv", "--max-length 6 --max-target-length 4", template)
        .fails(&["short.csv:2", "room for 2 tokens"]);
    eval("short.csv", "--max-length 6 --max-target-length 6", "{source}")
        .fails(&["max-target-length", "6 tokens together"]);
}

#[test]
fn what_generates_nothing_is_not_told_how() {
    let work = Work::new();
    let run = |line: &str| work.run(line);
    run(&train("--out out")).good();
    let eval = "eval --model MODEL --adapter out --data eval.tsv";
    run(&format!("{eval} --num-beams 2")).fails(&["num-beams", "classification generates no answers"]);
    run(&format!("{eval} --predict-with-generate")).fails(&["predict-with-generate", "classification"]);
    run("predict --model MODEL --adapter out --max-new-tokens 3 --text a").fails(&["max-new-tokens"]);
    run(&train("--out x --eval eval.tsv --predict-with-generate"))
        .fails(&["classification", "`predict-with-generate`"]);
    run(&train("--out x --eval eval.tsv --num-beams 2")).fails(&["num-beams", "predict-with-generate"]);
    let prompted = prompted();
    let line = format!("{TRAIN} --model gpt --adapter lora --out x");
    let run = |more: &[&str]| prompted.run_with(&line, more);
    run(&["--prompt-template", "w80"]).fails(&["prompt-template", "{source}"]);
    run(&["--prompt-template", "{source}", "--blocks", "hf"]).fails(&["causal-lm", "`blocks`"]);
    run(&["--prompt-template", "{source}", "--metric", "rouge1"]).fails(&["metric", "rouge1", "perplexity"]);
    run(&["--prompt-template", "{source}", "--predict-with-generate", "--memory-budget", "1GB"])
        .fails(&["memory-budget", "predict-with-generate"]);
    let eval =
        "eval --model gpt --task causal-lm --data eval.csv --predict-with-generate=false --num-beams 2";
    prompted
        .run_with(eval, &["--prompt-template", "{source}"])
        .fails(&["num-beams", "predict-with-generate"]);
    let (t5, _) = answering("t5");
    t5.run_with("eval --model m --task causal-lm --data data.jsonl", &["--prompt-template", "{source}"])
        .fails(&["causal-lm", "seq2seq"]);
}

#[test]
fn texts_that_rouge_cannot_see_are_pointed_out() {
    let (work, _) = answering("t5");
    let rows = "{\"source\": \"the\", \"target\": \"мир\"}\n{\"source\": \"a\", \"target\": \"cat\"}\n";
    work.write("a.jsonl", rows);
    let line = "eval --model m --task seq2seq --data a.jsonl --max-new-tokens 3";
    let found = work.run(&format!("{line} --json")).evaluation();
    assert!(found["warnings"][0].as_str().unwrap().starts_with("1 of 2 texts have no reference"), "{found}");
    assert!(work.run(line).good().stdout.contains("warning: 1 of 2"));
}

/// Documents as run_clm of transformers makes blocks of them, and texts by themselves as
/// `evaluate`'s perplexity reads them.
#[test]
fn documents_become_sequences_in_three_ways() {
    let work = Work::empty();
    language_model(&work);
    let line = "eval --model gpt --task causal-lm --data held-out.txt --max-length 16 --json";
    let stream = work.run(line).evaluation();
    let hf = work.run(&format!("{line} --blocks hf")).evaluation();
    let texts = work.run(&format!("{line} --blocks texts")).evaluation();
    // 10 lines of 7 words: 70 in 4 blocks of 16, the rest dropped; and each with a token in front
    assert_eq!((&hf["scored_tokens"], &texts["scored_tokens"]), (&json!(4 * 15), &json!(70)));
    assert_eq!((&hf["bits_per_byte"], &hf["mean_perplexity"]), (&Value::Null, &Value::Null));
    assert!(stream["bits_per_byte"].is_number() && stream["mean_perplexity"].is_null());
    assert!(texts["mean_perplexity"].is_number() && texts["mean_perplexity"] != texts["perplexity"]);
    // by hand, from the logits of the same sequences
    let words = |line: &str| line.split(' ').map(|w| w[1..].parse().unwrap()).collect::<Vec<u32>>();
    let lines: Vec<Vec<u32>> = work.text("held-out.txt").lines().map(|l| words(l.trim())).collect();
    let blocks: Vec<Vec<u32>> = lines.concat().chunks_exact(16).map(<[u32]>::to_vec).collect();
    let each: Vec<Vec<u32>> = lines.iter().map(|l| [&[0], &l[..]].concat()).collect();
    let losses = |sequences: &[Vec<u32>]| -> Vec<f64> {
        let one = |ids: &Vec<u32>| {
            work.write("ids.json", json!({"input_ids": [ids], "labels": [ids]}).to_string());
            work.run("forward --model gpt --task causal-lm --ids ids.json --out o.safetensors").good();
            f64::from(work.tensors("o.safetensors")["loss"][0])
        };
        sequences.iter().map(one).collect()
    };
    let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
    assert!((number(&hf["loss"]) - mean(&losses(&blocks))).abs() < 1e-5);
    let of_each = losses(&each);
    assert!((number(&texts["loss"]) - mean(&of_each)).abs() < 1e-5, "all have as many tokens");
    let perplexities: Vec<f64> = of_each.iter().map(|loss| loss.exp()).collect();
    assert!((number(&texts["mean_perplexity"]) / mean(&perplexities) - 1.0).abs() < 1e-5);
    let train =
        "train --model gpt --task causal-lm --train text.txt --max-length 16 --json --quiet --max-steps 2";
    work.run(&format!(
        "{train} --adapter lora --blocks hf --metric bits_per_byte --eval held-out.txt --out x"
    ))
    .fails(&["metric", "bits_per_byte"]);
    work.run(&format!("{train} --adapter lora --blocks texts --stream --out y")).json();
    assert!(work.text("y/run.toml").contains("blocks = \"texts\""));
}
