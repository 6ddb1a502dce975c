//! The commands, run as a user runs them: what they print and what they leave.
mod support;
use serde_json::{Value, json};
use support::*;

#[test]
fn a_run_leaves_its_files_and_reports_in_one_line() {
    let work = Work::new();
    let ran =
        work.run(&format!("train --model MODEL --train train.tsv --eval eval.tsv --out out --json {SHORT}"));
    let ran = ran.good();
    assert_eq!(work.names("out"), LEFT);
    assert_eq!(work.names(""), ["eval.tsv", "out", "train.tsv"]);
    assert!(ran.stdout.contains("parameters") && ran.stdout.contains("saved in out"), "{}", ran.stdout);
    assert!(ran.stderr.contains("epoch 1: loss"), "{}", ran.stderr);

    let r = ran.json();
    let keys: Vec<&String> = r.as_object().unwrap().keys().collect();
    let promised = [
        "task",
        "metrics",
        "epochs",
        "train_seconds",
        "tokens_per_second",
        "peak_rss_bytes",
        "ledger_peak_bytes",
        "trainable_parameters",
        "total_parameters",
        "out",
    ];
    assert_eq!(keys, promised);
    assert_eq!((&r["task"], &r["out"]), (&json!("classification"), &json!("out")));
    let m = &r["metrics"];
    assert_eq!((&m["examples"], m["classes"].as_array().unwrap().len()), (&json!(5), 2));
    assert_eq!((&m["classes"][0]["label"], &m["classes"][0]["support"]), (&json!("bad"), &json!(2)));
    let counted: u64 =
        m["confusion"].as_array().unwrap().iter().flat_map(|r| r.as_array().unwrap()).map(whole).sum();
    assert_eq!(counted, 5);
    for key in ["accuracy", "macro_f1", "micro_f1"] {
        assert!((0.0..=1.0).contains(&number(&m[key])), "{m}");
    }
    assert!((-1.0..=1.0).contains(&number(&m["matthews"])) && number(&m["loss"]) > 0.0, "{m}");
    let [epoch] = r["epochs"].as_array().unwrap().as_slice() else { panic!("{r}") };
    assert_eq!(epoch["metrics"]["accuracy"], m["accuracy"]);
    assert!((0.1..2.0).contains(&number(&epoch["loss"])), "{epoch}");
    assert!(whole(&epoch["tokens"]) > 60 && number(&epoch["seconds"]) > 0.0, "{epoch}");
    assert!(
        number(&r["train_seconds"]) >= number(&epoch["seconds"]) && number(&r["tokens_per_second"]) > 0.0
    );
    assert!(whole(&r["peak_rss_bytes"]) > 7_000_000);
    // eight adapters of 12, each with weights and biases down and up; and a head of two layers
    let (adapters, head) = (8 * (2 * 192 * 12 + 12 + 192), 192 * 192 + 192 + 2 * 192 + 2);
    assert_eq!(r["trainable_parameters"], adapters + head);
    assert!((3_000_000..5_000_000).contains(&whole(&r["total_parameters"])));
    let saved: Value = serde_json::from_str(&work.text("out/report.json")).unwrap();
    assert_eq!(saved, r);
}

fn whole(v: &Value) -> u64 {
    v.as_u64().unwrap_or_else(|| panic!("{v} is no whole number"))
}

#[test]
fn the_same_texts_train_the_same_from_every_format() {
    let work = Work::new();
    work.train("--out tsv");
    let objects =
        TRAIN.map(|(text, label)| json!({"text": text, "label": label}).to_string() + "\n").concat();
    let swapped = TRAIN.map(|(text, label)| format!("{label}\t7\t{text}\n")).concat();
    work.write("train.csv", table(",", &TRAIN));
    work.write("train.jsonl", &objects);
    work.write("named.tsv", format!("mark\tnumber\twords\n{swapped}"));
    work.write("bare.tsv", swapped);
    work.write("windows.csv", format!("\u{feff}{}", table(",", &TRAIN)).replace('\n', "\r\n"));
    for (i, how) in [
        "--train train.csv",
        "--train train.jsonl",
        "--train windows.csv",
        "--train named.tsv --text-column words --label-column mark",
        "--train named.tsv --text-column 2 --label-column 0 --header yes",
        "--train bare.tsv --text-column 2 --label-column 0 --header no",
    ]
    .iter()
    .enumerate()
    {
        let out = format!("out{i}");
        work.train(&format!("--out {out} {how}"));
        for file in ["adapter.safetensors", "model_head.safetensors", "head_config.json"] {
            assert!(
                work.read(&format!("tsv/{file}")) == work.read(&format!("{out}/{file}")),
                "{how}: {file}"
            );
        }
    }
}

#[test]
fn pairs_of_texts_are_read_as_pairs() {
    let work = Work::new();
    let rows = TRAIN.map(|(text, label)| format!("{label}\t{text}\tIs it {label}?\n")).concat();
    work.write("train.tsv", format!("label\tsentence1\tsentence2\n{rows}"));
    let pairs = work.train("--out pairs");
    let singles = work.train("--out singles --text-column sentence1");
    let named = work.train("--out named --text-column sentence1 --text-pair-column 2");
    let tokens = |r: &Value| whole(&r["epochs"][0]["tokens"]);
    assert!(tokens(&pairs) >= tokens(&singles) + 8 * 4, "{} {}", tokens(&pairs), tokens(&singles));
    assert_eq!(tokens(&pairs), tokens(&named));
    work.run("predict --model MODEL --adapter pairs --input train.tsv").good();
}

#[test]
fn evaluation_gives_what_training_reported() {
    let work = Work::new();
    let report = work.train("--eval eval.tsv --out out");
    assert_eq!(work.eval("out"), report["metrics"]);
    let plain = work.run("eval --model MODEL --adapter out --data eval.tsv --batch-size 2").good().stdout;
    let accuracy = format!(": accuracy {:.2} %, loss", 100.0 * number(&report["metrics"]["accuracy"]));
    assert!(plain.starts_with("5 texts in ") && plain.contains("tokens/s)"), "{plain}");
    assert!(plain.contains(&accuracy), "{plain}");
    let line = |label: &str| plain.lines().any(|l| l.starts_with(label));
    assert!(line("good") && line("bad") && plain.contains("precision"), "{plain}");
}

#[test]
fn texts_are_cut_as_in_training_unless_said_otherwise() {
    let work = Work::new();
    let report = work.train("--eval eval.tsv --out out --max-length 4");
    assert_eq!(work.eval("out"), report["metrics"]);
    let line = "eval --model MODEL --adapter out --data eval.tsv --json --max-length 20";
    assert_ne!(work.run(line).json()["loss"], report["metrics"]["loss"]);
}

#[test]
fn predictions_are_those_of_the_evaluation() {
    let work = Work::new();
    let report = work.train("--eval eval.tsv --out out");
    let line = "predict --model MODEL --adapter out";
    let from_file = work.run(&format!("{line} --input eval.tsv --json")).json();
    let predictions = from_file["predictions"].as_array().unwrap();
    let right = predictions.iter().zip(EVAL).filter(|(p, (_, label))| p["label"] == *label).count();
    assert_eq!(right as f64 / 5.0, number(&report["metrics"]["accuracy"]));
    for (p, (text, _)) in predictions.iter().zip(EVAL) {
        assert_eq!(p["text"], text);
        let (good, bad) = (number(&p["probabilities"]["good"]), number(&p["probabilities"]["bad"]));
        assert!((good + bad - 1.0).abs() < 1e-9, "{p}");
        assert_eq!(number(&p["probability"]), good.max(bad));
        assert_eq!(p["label"], if good > bad { "good" } else { "bad" });
    }
    let texts = EVAL.map(|(text, _)| text);
    let from_flags = work.run_with(&format!("{line} --json --text"), &texts).json();
    assert_eq!(from_flags["predictions"], from_file["predictions"]);
    let plain = work.run_with(&format!("{line} --text"), &texts).good().stdout;
    for (row, p) in plain.lines().zip(predictions) {
        let cells: Vec<&str> = row.split('\t').collect();
        assert_eq!([cells[0], cells[2]], [&p["label"], &p["text"]].map(|v| v.as_str().unwrap()));
        assert!((cells[1].parse::<f64>().unwrap() - number(&p["probability"])).abs() < 1e-4);
    }
    assert_eq!(plain.lines().count(), 5);
}

#[test]
fn inspection_counts_what_training_counted() {
    let work = Work::new();
    let report = work.train("--out out");
    let bare = work.run("inspect --model MODEL --json").json();
    assert_eq!(
        (&bare["model_type"], &bare["layers"], &bare["channels"]),
        (&json!("bert"), &json!(4), &json!(192))
    );
    assert_eq!((&bare["positions"], &bare["trainable_parameters"]), (&json!(128), &json!(0)));
    assert_eq!(bare["unused"], json!([]));
    let parts = bare["backbone"].as_object().unwrap();
    assert!(parts.contains_key("embeddings") && parts.contains_key("layer 03"), "{parts:?}");
    let all: u64 = parts.values().map(|p| whole(&p["parameters"])).sum();
    assert_eq!(bare["total_parameters"], all);

    let full = work.run("inspect --model MODEL --adapter out --json").json();
    for key in ["trainable_parameters", "total_parameters"] {
        assert_eq!(full[key], report[key]);
    }
    assert_eq!(full["labels"], json!(["bad", "good"]));
    assert_eq!(whole(&full["total_parameters"]), all + whole(&full["trainable_parameters"]));
    let plain = work.run("inspect --model MODEL --adapter out").good().stdout;
    let trainable =
        format!("trainable: {} of {}", report["trainable_parameters"], report["total_parameters"]);
    assert!(plain.contains(&trainable) && plain.contains("layer 03"), "{plain}");
    let plain = work.run("inspect --model MODEL").good().stdout;
    assert!(
        plain.contains("4 layers of 192 channels") && plain.contains(&format!("{all} parameters")),
        "{plain}"
    );
}

#[test]
fn a_forward_pass_matches_the_reference() {
    let work = Work::empty();
    let line = "forward --model FIXTURES/model --out out.safetensors";
    for case in ["houlsby", "parallel", "leave-out"] {
        work.run(&format!("{line} --adapter FIXTURES/{case} --ids FIXTURES/{case}/input.json --grad")).good();
        let (got, want) =
            (work.tensors("out.safetensors"), tensors(&fixture(case).join("expected.safetensors")));
        let compared =
            |n: &str| ["last_hidden_state", "logits", "loss"].contains(&n) || n.starts_with("grad.");
        let names: Vec<&String> = want.keys().filter(|n| compared(n)).collect();
        assert!(names.len() > 10 && got.keys().filter(|n| compared(n)).eq(names.iter().copied()), "{case}");
        for n in names {
            let e = difference(&got[n], &want[n]);
            assert!(e < 1e-4, "{case}: {n}: {e:.1e}");
        }
    }
    work.run(&format!("{line} --ids FIXTURES/plain/input.json")).good();
    let (got, want) =
        (work.tensors("out.safetensors"), tensors(&fixture("plain").join("expected.safetensors")));
    assert!(difference(&got["last_hidden_state"], &want["last_hidden_state"]) < 1e-4);
    assert_eq!(got.keys().filter(|n| *n != "cu_seqlens").collect::<Vec<_>>(), ["last_hidden_state"]);
    assert_eq!(work.names(""), ["out.safetensors"]);
}

#[test]
fn a_sequence_is_computed_the_same_alone_and_among_others() {
    let work = Work::empty();
    let line = "forward --model FIXTURES/model --adapter FIXTURES/houlsby";
    work.write("all.json", json!({"input_ids": [[5], [7, 8, 9, 10, 11], [12, 13]]}).to_string());
    work.write("one.json", json!({"input_ids": [[7, 8, 9, 10, 11]]}).to_string());
    work.run(&format!("{line} --ids all.json --out all.safetensors")).good();
    work.run(&format!("{line} --ids one.json --out one.safetensors --threads 1")).good();
    let (all, one) = (work.tensors("all.safetensors"), work.tensors("one.safetensors"));
    assert!(difference(&all["last_hidden_state"][32..6 * 32], &one["last_hidden_state"]) < 1e-6);
    assert!(difference(&all["logits"][2..4], &one["logits"]) < 1e-5);
    assert!(!all.contains_key("loss"), "there are no labels");
}

#[test]
fn without_data_or_a_model_those_of_the_demonstration_are_taken() {
    let work = Work::new();
    work.run("train --train train.tsv --max-steps 1 --max-length 16 --quiet").good();
    let mut left = LEFT.to_vec();
    left.insert(2, "backbone");
    assert_eq!(work.names("engraft-out"), left);
    work.run("predict --model engraft-out/backbone --adapter engraft-out --text x").good();

    let ran = work.run("train --max-steps 1 --batch-size 4 --max-length 8 --placement output").good();
    assert_eq!(
        work.names("engraft-demo/head-only"),
        LEFT.iter().filter(|f| !f.starts_with("adapter")).copied().collect::<Vec<_>>()
    );
    assert!(ran.stdout.contains("held-out accuracy: head only"), "{}", ran.stdout);
    for run in ["engraft-demo", "engraft-demo/head-only"] {
        work.run(&format!("train --config {run}/run.toml --quiet")).good();
    }
    let next = ran.stdout.lines().last().unwrap().trim();
    assert!(next.contains("predict --model engraft-demo/backbone --adapter engraft-demo --text"), "{next}");
    let next = next.replacen(next.split(' ').next().unwrap(), "engraft", 1);
    assert_eq!(work.shell(&next).good().stdout.lines().count(), 1);
}

#[test]
fn help_and_version_say_what_there_is() {
    let work = Work::empty();
    let help = work.run("--help").good().stdout;
    for command in ["train", "eval", "predict", "inspect", "forward"] {
        assert!(help.contains(command), "{help}");
        assert!(work.run(&format!("{command} --help")).good().stdout.contains("Usage: engraft"));
    }
    assert_eq!(work.run("--version").good().stdout, concat!("engraft ", env!("CARGO_PKG_VERSION"), "\n"));
}
