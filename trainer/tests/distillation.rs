//! Students that learn from teachers, through the program.
#![cfg(unix)]
mod support;
use serde_json::{Value, json};
use std::{
    process::{Command, Stdio},
    time::Duration,
};
use support::*;

const TEACHER: &str = "--eval eval.tsv --max-steps 20 --lr 5e-3 --adapter houlsby --out teacher";
const STUDENT: &str = "--eval eval.tsv --max-steps 6 --lr 5e-3 --adapter pfeiffer --reduction-factor 64";

fn taught() -> Work {
    let work = Work::new();
    work.train(TEACHER);
    work
}
/// What was learned, without reports and settings.
fn learned(work: &Work, out: &str) -> Vec<Vec<u8>> {
    ["adapter.safetensors", "model_head.safetensors"].map(|file| work.read(&format!("{out}/{file}"))).into()
}
fn losses(report: &Value) -> Vec<f64> {
    report["epochs"].as_array().unwrap().iter().map(|e| number(&e["loss"])).collect()
}

#[test]
fn a_student_learns_from_a_teacher_and_the_run_is_repeated() {
    let work = taught();
    let plain = work.train(&format!("{STUDENT} --out plain"));
    let line = |more: &str| format!("{STUDENT} --teacher teacher {more}");
    let soft = work.train(&line("--out soft"));
    assert!(losses(&soft) != losses(&plain) && learned(&work, "soft") != learned(&work, "plain"));
    assert_eq!(soft["trainable_parameters"], plain["trainable_parameters"]);
    assert_eq!(work.names("soft"), work.names("plain"), "nothing of the teacher is saved");
    // a share of nothing is learning from labels, to the bit
    work.train(&line("--distill-alpha 0 --out none"));
    assert!(learned(&work, "none") == learned(&work, "plain"));
    for more in
        ["", "--distill-hidden 1,3 --distill-alpha 1 --distill-temperature 3 --distill-hidden-weight 5"]
    {
        work.train(&line(&format!("{more} --out first")));
        assert!(more.is_empty() == (learned(&work, "first") == learned(&work, "soft")));
        let settings = work.text("first/run.toml");
        assert!(settings.contains("teacher = \"teacher\""), "{settings}");
        work.run("train --config first/run.toml --out again --json --quiet --threads 1").json();
        assert!(learned(&work, "again") == learned(&work, "first"), "{more}");
    }
    assert!(work.text("first/run.toml").contains("distill-hidden = \"1,3\""));
    // what the teacher finds is what it says by itself, and several say it together
    let ran = work.run(&train(&line("--out soft")).replace(" --quiet", "")).good();
    let right = number(
        &work.run("eval --model MODEL --adapter teacher --data train.tsv --json").evaluation()["accuracy"],
    );
    assert!(
        ran.stderr.contains(&format!("of {} of them the label is", (8.0 * right).round())),
        "{}",
        ran.stderr
    );
    work.train(&line("teacher --out twice"));
    assert!(learned(&work, "twice") == learned(&work, "soft"), "twice the same is the same");
    // a part of the data, the folds and the seeds of it
    work.train(&line("--train-examples 4 --out part"));
    work.run(&train(
        &format!("{STUDENT} --teacher teacher --folds 2 --out folds").replace("--eval eval.tsv ", ""),
    ))
    .good();
}

#[test]
fn the_whole_model_teaches_a_model_of_another_kind() {
    let work = Work::new();
    language_model(&work);
    work.train("--eval eval.tsv --max-steps 12 --adapter full --lr 1e-3 --out whole");
    let line = "--model gpt --adapter pfeiffer --lr 5e-3 --teacher whole --distill-hidden 0,1:3";
    let first = work.train(&format!("{line} --max-steps 8 --out first"));
    assert!(losses(&first).iter().all(|loss| loss.is_finite()));
    // stopped and gone on with, projections with it
    let mut run = work
        .arguments(&train(&format!("{line} --epochs 80 --max-steps 120 --checkpoint-every 1 --out stopped")));
    let mut run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !work.path("stopped/state.safetensors").exists() {
        assert!(run.try_wait().unwrap().is_none(), "it ended before it was stopped");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(Command::new("kill").args(["-TERM", &run.id().to_string()]).status().unwrap().success());
    let is_over = run.wait().unwrap().success();
    assert!(!is_over, "120 steps take longer");
    let names: Vec<String> = work.tensors("stopped/state.safetensors").into_keys().collect();
    assert!(names.iter().any(|n| n == "weight.distillation.1.weight"), "{names:?}");
    work.run("train --resume stopped --json --quiet").json();
    work.train(&format!("{line} --epochs 80 --max-steps 120 --checkpoint-every 1 --out through"));
    assert!(learned(&work, "stopped") == learned(&work, "through"));
    // another teacher is other data
    let mut run = work
        .arguments(&train(&format!("{line} --epochs 80 --max-steps 120 --checkpoint-every 1 --out other")));
    let mut run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !work.path("other/state.safetensors").exists() {
        assert!(run.try_wait().unwrap().is_none(), "it ended before it was stopped");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(Command::new("kill").args(["-TERM", &run.id().to_string()]).status().unwrap().success());
    run.wait().unwrap();
    work.train("--eval eval.tsv --max-steps 3 --adapter full --lr 1e-3 --seed 5 --out whole");
    work.run("train --resume other --json --quiet")
        .fails(&["state.safetensors", "no longer what the run began"]);
}

#[test]
fn every_kind_of_outputs_is_taught() {
    let work = Work::new();
    let texts: Vec<&str> = TRAIN.iter().map(|(text, _)| *text).collect();
    let numbers = texts.iter().enumerate().map(|(i, text)| format!("{}\t{text}\n", i as f64 / 2.0));
    work.write("numbers.tsv", format!("label\ttext\n{}", numbers.collect::<String>()));
    let sets = texts.iter().enumerate().map(|(i, text)| {
        json!({"text": text, "label": (["a", if i % 2 == 0 { "b" } else { "c" }])}).to_string() + "\n"
    });
    work.write("sets.jsonl", sets.collect::<String>());
    let words = |(i, text): (usize, &&str)| {
        let one = |(k, word): (usize, &str)| format!("{word}\t{}\n", ["O", "B-X", "I-X"][(i + k) % 3]);
        text.split(' ').enumerate().map(one).collect::<String>() + "\n"
    };
    work.write("words.conll", texts.iter().enumerate().map(words).collect::<String>());
    language_model(&work);
    for (task, data, model) in [
        ("regression", "numbers.tsv", "MODEL"),
        ("multi-label", "sets.jsonl", "MODEL"),
        ("tagging", "words.conll", "MODEL"),
        ("causal-lm", "text.txt", "gpt"),
    ] {
        let line = |more: &str| format!("--task {task} --train {data} --model {model} {more}");
        work.train(&line("--adapter houlsby --max-steps 10 --lr 5e-3 --out teacher"));
        let student = "--adapter pfeiffer --max-steps 12 --lr 1e-2 --teacher teacher --distill-alpha 1";
        let report = work.train(&line(&format!("{student} --distill-hidden 1 --out student")));
        let all = losses(&report);
        assert!(all.iter().all(|loss| loss.is_finite()), "{task}: {all:?}");
        work.train(&line(&format!("{student} --out student")));
        // what has no labels' names has a vocabulary: the other task's head says other things
        work.run(&train(&line("--teacher other --out bad"))).fails(&["other"]);
    }
    for (task, data) in [("masked-lm", "text.txt"), ("question-answering", "none.json")] {
        work.write(
            "none.json",
            json!({"data": [{"title": "t", "paragraphs": [{"context": "A lovely ride.", "qas": [
            {"id": "1", "question": "What?", "answers": [{"text": "ride", "answer_start": 9}]}]}]}]})
            .to_string(),
        );
        let line = format!("--task {task} --train {data}");
        let ran = work.run(&train(&format!("{line} --out own --max-steps 1")));
        if ran.code == Some(0) {
            work.run(&train(&format!("{line} --teacher own --out bad"))).fails(&["teacher", task]);
        }
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    let work = taught();
    let refused = |flags: &str, words: &[&str]| {
        work.run(&train(&format!("{flags} --out bad"))).fails(words);
        assert!(!work.path("bad/adapter.safetensors").exists(), "{flags}");
    };
    for flag in
        ["--distill-alpha 0.5", "--distill-temperature 1", "--distill-hidden 1", "--teacher-model MODEL"]
    {
        refused(flag, &["needs `teacher`"]);
    }
    let with = |more: &str| format!("--teacher teacher {more}");
    refused(&with("--distill-alpha 1.5"), &["distill-alpha", "0 to 1"]);
    refused(&with("--distill-temperature 0"), &["distill-temperature"]);
    refused(&with("--distill-hidden-weight 3"), &["needs `distill-hidden`"]);
    refused(&with("--distill-hidden 9"), &["distill-hidden", "4 layers"]);
    refused(&with("--layers 2-3 --distill-hidden 1"), &["distill-hidden", "below layer 2"]);
    refused(&with("--distill-hidden 1:2,3:1"), &["distill-hidden", "higher"]);
    refused(&with("--stream"), &["`teacher` and `stream`"]);
    refused("--teacher teacher teacher --distill-hidden 1", &["distill-hidden", "one teacher"]);
    refused("--teacher teacher --teacher-model MODEL MODEL", &["teacher-model", "2 models"]);
    refused("--teacher nowhere", &["nowhere"]);
    work.run("train --model MODEL --teacher teacher --out bad").fails(&["`teacher` needs `train`"]);
    // labels of another name
    let other = work.text("train.tsv").replace("\tbad", "\tawful");
    work.write("other.tsv", other);
    refused(
        "--train other.tsv --teacher teacher",
        &["only the teacher has: `bad`", "only the data has: `awful`"],
    );
    // an adapter for another task
    work.write("numbers.tsv", "text\tlabel\na\t1\nb\t2\n");
    refused("--task regression --train numbers.tsv --teacher teacher", &["teacher", "is for classification"]);
}

#[test]
fn the_bytes_of_a_lesson_are_in_the_plan() {
    let work = taught();
    let flags = format!("{STUDENT} --batch-size 3 --teacher teacher --distill-hidden 2,3");
    let run = |budget: &str, out: &str| {
        work.run(&train(&format!("{flags} --out {out} {budget}")).replace(" --quiet", ""))
    };
    let ran = run("--memory-budget 20kB", "refused");
    let (_, rest) = ran.stderr.split_once("needs at least ").unwrap_or_else(|| panic!("{}", ran.stderr));
    let least: u64 = rest.split(' ').next().unwrap().parse().unwrap();
    let tight = run(&format!("--memory-budget {least}"), "least").json();
    // 8 rows of 2 probabilities and of 2 layers of 192 channels, and where they end
    let lesson = 8 * (2 + 2 * 192) * 4 + 8 * 8;
    let data = least - tight["ledger_peak_bytes"].as_u64().unwrap();
    assert!((lesson + 1..lesson + 4000).contains(&data), "{data} {lesson}");
    let free = run("", "free").json();
    assert_eq!(free["metrics"], tight["metrics"]);
    assert!(learned(&work, "free") == learned(&work, "least"));
    run("--memory-budget 10kB", "refused").fails(&["teacher", "8 labelled rows", "may be kept"]);
}
