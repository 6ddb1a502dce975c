//! What the options of training do to what is saved.
mod support;
use serde_json::{Value, json};
use support::*;

/// Nothing is random but the beginning, and the learning rate stays.
const PLAIN: &str = "--no-shuffle --dropout 0 --schedule constant";

fn config(work: &Work, out: &str) -> Value {
    let card: Value = serde_json::from_str(&work.text(&format!("{out}/adapter_config.json"))).unwrap();
    card["config"].clone()
}
fn saved(work: &Work, out: &str) -> [Vec<u8>; 2] {
    ["adapter.safetensors", "model_head.safetensors"].map(|f| work.read(&format!("{out}/{f}")))
}

#[test]
fn a_saved_configuration_repeats_its_run_bit_for_bit() {
    let work = Work::new();
    let flags = "--adapter pfeiffer --bottleneck 5 --non-linearity tanh --layers 1-2 --seed 11 --eval eval.tsv \
                 --batch-size 3 --lr 2e-3 --weight-decay 0.1 --warmup-steps 1 --schedule cosine --clip 0.5 \
                 --head linear --scaling 1.5 --ln-before --name other --metric loss --eval-every 1";
    let line = train(flags).replace(" --warmup-ratio 0", "");
    let first = work.run(&format!("{line} --out out")).json();
    let before = work.files("out");
    let again = work.run("train --config out/run.toml").json();
    assert_eq!(
        (&first["metrics"], &first["epochs"][0]["loss"]),
        (&again["metrics"], &again["epochs"][0]["loss"])
    );
    let after = work.files("out");
    assert!(before.keys().eq(after.keys()));
    for (name, bytes) in before.iter().filter(|(name, _)| *name != "report.json") {
        assert!(*bytes == after[name], "{name}");
    }
    work.run("train --config out/run.toml --seed 12 --out other").good();
    assert!(
        work.text("other/run.toml").contains("seed = 12") && saved(&work, "other") != saved(&work, "out")
    );
}

#[test]
fn a_run_can_start_from_what_was_saved() {
    let work = Work::new();
    let first = work.train("--out first --eval eval.tsv --lr 5e-3");
    let second = work.train("--init first --out second --eval eval.tsv --max-steps 1 --lr 1e-30");
    assert_eq!(first["metrics"], second["metrics"]);
    assert!(saved(&work, "first") == saved(&work, "second"), "nothing was learnt");
    let fresh = work.train("--out fresh --eval eval.tsv --max-steps 1 --lr 1e-30");
    assert_ne!(first["metrics"]["loss"], fresh["metrics"]["loss"]);
    work.train("--init first --out first --max-steps 1");
    assert!(saved(&work, "first") != saved(&work, "second"), "it learnt on");
}

#[test]
fn a_head_alone_trains_and_is_found_alone() {
    let work = Work::new();
    let report = work.train("--adapter none --head linear --out out --eval eval.tsv");
    assert_eq!(report["trainable_parameters"], 192 * 2 + 2);
    assert_eq!(work.names("out"), ["head_config.json", "model_head.safetensors", "report.json", "run.toml"]);
    assert_eq!(work.eval("out"), report["metrics"]);
    let inspected = work.run("inspect --model MODEL --adapter out --json").json();
    assert_eq!((&inspected["trainable_parameters"], &inspected["adapter"]), (&json!(386), &json!({})));
}

#[test]
fn a_head_alone_replaces_an_adapter_in_the_same_directory() {
    let work = Work::new();
    work.train("--out out");
    let report = work.train("--adapter none --out out --eval eval.tsv");
    assert_eq!(work.eval("out"), report["metrics"], "the adapter of the run before is not part of this one");
}

#[test]
fn the_whole_backbone_trains_and_is_saved_as_a_model() {
    let work = Work::new();
    let report = work.train("--adapter full --out out --eval eval.tsv --lr 1e-4");
    assert_eq!(report["trainable_parameters"], report["total_parameters"]);
    let names = work.names("out");
    assert!(
        ["config.json", "model.safetensors", "tokenizer.json"].iter().all(|f| names.iter().any(|n| n == f))
    );
    let metrics = work.run("eval --model out --adapter out --data eval.tsv --json").evaluation();
    assert_eq!(metrics, report["metrics"]);
    let changed = |model: &str| {
        let line = format!("eval --model {model} --adapter out --data eval.tsv --json");
        work.run(&line).json()["loss"].clone()
    };
    assert_ne!(changed("MODEL"), changed("out"), "the backbone learnt");
}

#[test]
fn every_preset_trains_and_is_loaded_again() {
    let work = Work::new();
    for (preset, adapters) in [
        ("houlsby", 8),
        ("double_seq_bn", 8),
        ("pfeiffer", 4),
        ("seq_bn", 4),
        ("parallel", 4),
        ("scaled-parallel", 4),
    ] {
        let report = work.train(&format!("--adapter {preset} --out {preset} --eval eval.tsv --head linear"));
        assert_eq!(work.eval(preset), report["metrics"], "{preset}");
        let downs = work.tensors(&format!("{preset}/adapter.safetensors"));
        let downs = downs.keys().filter(|n| n.contains("adapter_down") && n.ends_with("weight"));
        assert_eq!(downs.count(), adapters, "{preset}");
    }
}

#[test]
fn the_shape_of_an_adapter_is_what_was_asked_for() {
    let work = Work::new();
    let shape = |out: &str, flags: &str| {
        work.train(&format!("--max-steps 1 --out {out} {flags}"));
        work.tensors(&format!("{out}/adapter.safetensors"))
    };
    let layers = |t: &Tensors| {
        (0..4).filter(|l| t.keys().any(|n| n.contains(&format!("layer.{l}.")))).collect::<Vec<usize>>()
    };
    assert_eq!(layers(&shape("layers", "--layers 1-2")), [1, 2]);
    assert_eq!(layers(&shape("left", "--leave-out 0,3")), [1, 2]);
    assert!(saved(&work, "layers") == saved(&work, "left"));

    let attention = shape("attention", "--placement attention --bottleneck 7");
    assert!(attention.keys().all(|n| n.contains("attention")) && attention.len() == 16, "{attention:?}");
    assert!(attention.values().any(|v| v.len() == 7 * 192));
    assert!(shape("output", "--placement output").keys().all(|n| !n.contains("attention")));

    let per_layer = shape("map", "--adapter pfeiffer --reduction-factor 16,0=4,2=32");
    let mut widths = vec![];
    per_layer
        .iter()
        .filter(|(n, _)| n.ends_with("adapter_down.0.bias"))
        .for_each(|(_, v)| widths.push(v.len()));
    assert_eq!(widths, [48, 12, 6, 12]);
    assert_eq!(config(&work, "map")["reduction_factor"], json!({"0": 4.0, "2": 32.0, "default": 16.0}));

    let scale = |t: Tensors| {
        t.into_iter().filter(|(n, _)| n.contains("scal")).map(|(_, v)| v.len()).collect::<Vec<_>>()
    };
    assert_eq!(scale(shape("learned", "--adapter pfeiffer --scaling learned")), [1; 4]);
    assert_eq!(scale(shape("channel", "--adapter pfeiffer --scaling channel")), [192; 4]);
    assert_eq!(config(&work, "learned")["scaling"], "learned");
    assert!(scale(shape("fixed", "--adapter pfeiffer --scaling 0.5")).is_empty());
    assert_eq!(config(&work, "fixed")["scaling"], 0.5);
    for out in ["layers", "attention", "map", "learned", "channel", "fixed"] {
        work.eval(out);
    }
}

#[test]
fn an_adapter_starts_as_it_was_asked_to() {
    let work = Work::new();
    let flags = "--adapter houlsby --adapter-init near-identity --bottleneck 48 --max-steps 1 --lr 1e-30";
    work.train(&format!("--out out {flags}"));
    let t = work.tensors("out/adapter.safetensors");
    for (part, deviation) in [("adapter_down.0.weight", 0.02), ("adapter_up.weight", 1e-3)] {
        let v: Vec<f32> = t.iter().filter(|(n, _)| n.ends_with(part)).flat_map(|(_, v)| v.clone()).collect();
        let found = (v.iter().map(|x| f64::from(x * x)).sum::<f64>() / v.len() as f64).sqrt();
        assert!((found / deviation - 1.0).abs() < 0.02, "{part}: {found}");
    }
    assert!(t.iter().filter(|(n, _)| n.ends_with("bias")).all(|(_, v)| v.iter().all(|x| x.abs() < 1e-20)));
}

#[test]
fn accumulated_batches_count_as_one() {
    let work = Work::new();
    let flags = format!("{PLAIN} --adam-eps 1e-3");
    work.train(&format!("--out whole --batch-size 8 {flags}"));
    let report = work.train(&format!("--out parts --batch-size 2 --gradient-accumulation 4 {flags}"));
    assert_eq!(report["epochs"].as_array().unwrap().len(), 2, "two steps of eight texts are two epochs");
    work.train(&format!("--out uneven --batch-size 3 --gradient-accumulation 3 {flags}"));
    work.train(&format!("--out few --batch-size 2 {flags}"));
    let tensors = |out: &str| work.tensors(&format!("{out}/adapter.safetensors"));
    let apart = |other: &str| {
        let (whole, other) = (tensors("whole"), tensors(other));
        whole.iter().map(|(n, v)| difference(&other[n], v)).fold(0.0, f64::max)
    };
    assert!(apart("parts") < 1e-4, "{:.1e}", apart("parts"));
    assert!(apart("uneven") < 1e-4, "{:.1e}", apart("uneven"));
    assert!(apart("few") > 1e-2, "{:.1e}", apart("few"));
}

#[test]
fn batches_of_tokens_train_as_batches_of_the_same_texts() {
    let work = Work::new();
    let bare = train("").replace("--max-steps 2 ", "").replace("--batch-size 4 ", "");
    let run =
        |out: &str, flags: &str| work.run(&format!("{bare} --eval eval.tsv --out {out} {flags}")).json();
    // no text is as short as one token, and all together are shorter than a thousand
    for (tokens, texts) in [("1", "1"), ("1000", "8")] {
        let one = run("tokens", &format!("--epochs 2 --batch-tokens {tokens}"));
        let other = run("texts", &format!("--epochs 2 --batch-size {texts}"));
        assert!(saved(&work, "tokens") == saved(&work, "texts"), "{tokens} tokens, {texts} texts");
        assert_eq!(one["metrics"], other["metrics"]);
    }
    // as many steps as five epochs take, each in its own order: no epoch is cut
    let report = run("some", "--batch-tokens 30 --epochs 5");
    let epochs = report["epochs"].as_array().unwrap();
    assert_eq!(epochs.len(), 5);
    assert!(epochs.iter().all(|e| e["tokens"] == epochs[0]["tokens"]), "every epoch is whole: {report}");
    assert!(work.text("some/run.toml").contains("batch-tokens = 30"));
    let again = work.run("train --config some/run.toml --out again").json();
    assert_eq!(again["metrics"], report["metrics"]);
    assert!(saved(&work, "some") == saved(&work, "again"));
    let line = "eval --model MODEL --adapter some --data eval.tsv --json";
    assert_eq!(
        work.run(&format!("{line} --batch-tokens 20")).json()["confusion"],
        report["metrics"]["confusion"]
    );
    let line = "predict --model MODEL --adapter some --input eval.tsv";
    work.run(&format!("{line} --batch-tokens 20")).good();
    work.run(&format!("{line} --batch-tokens 20 --batch-size 2")).misused(&["--batch-tokens"]);
    work.run(&train("--out x --batch-size 4 --batch-tokens 9"))
        .fails(&["`batch-size` and `batch-tokens` exclude each other"]);
}

#[test]
fn accumulated_batches_of_tokens_weigh_by_their_texts() {
    let work = Work::new();
    let flags = format!("{PLAIN} --adam-eps 1e-3 --max-steps 1");
    work.train(&format!("--out whole --batch-size 8 {flags}"));
    let bare = train(&format!("--out parts --batch-tokens 30 --gradient-accumulation 8 {flags}"));
    let report = work.run(&bare.replace("--batch-size 4 ", "")).json();
    assert_eq!(report["epochs"].as_array().unwrap().len(), 1);
    let (whole, parts) =
        (work.tensors("whole/adapter.safetensors"), work.tensors("parts/adapter.safetensors"));
    let apart = whole.iter().map(|(n, v)| difference(&parts[n], v)).fold(0.0, f64::max);
    assert!(apart < 1e-4, "{apart:.1e}");
}

#[test]
fn without_shuffling_the_first_batch_is_the_head_of_the_file() {
    let work = Work::new();
    work.write("head.tsv", table("\t", &TRAIN[..4]));
    work.train(&format!("--out all {PLAIN} --max-steps 1"));
    work.train(&format!("--out head {PLAIN} --max-steps 1 --train head.tsv"));
    work.train("--out shuffled --dropout 0 --schedule constant --max-steps 1");
    assert!(saved(&work, "all") == saved(&work, "head"));
    assert!(saved(&work, "all") != saved(&work, "shuffled"));
}

/// Texts whose labels turned round: the better the training, the worse the evaluation.
fn turned() -> Work {
    let work = Work::new();
    let wrong = TRAIN.map(|(text, label)| (text, if label == "good" { "bad" } else { "good" }));
    work.write("eval.tsv", table("\t", &wrong));
    work
}
const GETS_WORSE: &str = "--eval eval.tsv --metric loss --batch-size 8 --lr 2e-3";

#[test]
fn training_stops_when_patience_is_over_and_the_best_is_kept() {
    let work = turned();
    let flags = format!("{PLAIN} {GETS_WORSE} --max-steps 9");
    let report = work.train(&format!("{flags} --patience 2 --out out"));
    let losses: Vec<f64> =
        report["epochs"].as_array().unwrap().iter().map(|e| e["metrics"]["loss"].as_f64().unwrap()).collect();
    assert!(losses.len() == 3 && losses[0] < losses[1] && losses[1] < losses[2], "{losses:?}");
    assert_eq!(report["metrics"]["loss"], losses[0], "the metrics are those of what was saved");
    assert_eq!(work.eval("out"), report["metrics"]);
    let first = flags.replace("--max-steps 9", "--max-steps 1");
    work.train(&format!("{first} --out first"));
    assert!(saved(&work, "out") == saved(&work, "first"));
}

#[test]
fn the_last_checkpoint_is_kept_where_nothing_says_which_is_best() {
    let work = turned();
    let flags = format!("{PLAIN} --batch-size 8 --lr 2e-3");
    let report = work.train(&format!("{flags} --max-steps 3 --out out"));
    assert_eq!((&report["metrics"], &report["epochs"][2]["metrics"]), (&Value::Null, &Value::Null));
    work.train(&format!("{flags} --max-steps 1 --out first"));
    assert!(saved(&work, "out") != saved(&work, "first"));
}

#[test]
fn evaluation_every_so_many_steps_counts_steps() {
    let work = turned();
    let flags = format!("{PLAIN} {GETS_WORSE} --batch-size 4 --max-steps 4 --eval-every 3 --patience 1");
    let report = work.train(&format!("{} --out out", flags.replacen("--batch-size 8 ", "", 1)));
    let epochs = report["epochs"].as_array().unwrap();
    assert_eq!(epochs.len(), 2);
    assert_eq!(epochs[0]["metrics"], Value::Null);
    // the third step is the best; the last weights, of the fourth, are evaluated too
    assert!(number(&epochs[1]["metrics"]["loss"]) > number(&report["metrics"]["loss"]));
}

#[test]
fn the_head_is_the_one_asked_for() {
    let work = Work::new();
    for (head, layers) in [("classification", 2), ("linear", 1)] {
        let report = work.train(&format!("--head {head} --out {head} --eval eval.tsv"));
        let weights = work.tensors(&format!("{head}/model_head.safetensors"));
        assert_eq!(weights.len(), 2 * layers, "{head}");
        assert_eq!(work.eval(head), report["metrics"]);
    }
}

#[test]
fn labels_are_counted_and_keep_their_names() {
    let work = Work::new();
    let rows: String =
        TRAIN.iter().enumerate().map(|(i, (text, _))| format!("{text}\t{}\n", [10, 9, 2][i % 3])).collect();
    work.write("train.tsv", format!("text\tlabel\n{rows}"));
    work.train("--out out --head linear");
    let inspected = work.run("inspect --model MODEL --adapter out --json").json();
    assert_eq!(inspected["labels"], json!(["2", "9", "10"]));
    let predicted = work.run("predict --model MODEL --adapter out --text x --json").json();
    let names: Vec<&String> =
        predicted["predictions"][0]["probabilities"].as_object().unwrap().keys().collect();
    assert_eq!(names.len(), 3);
}

#[test]
fn quiet_runs_print_nothing_and_others_plain_lines() {
    let work = Work::new();
    let line = train("--out out --eval eval.tsv");
    let quiet = work.run(&line.replace("--json ", "")).good();
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    let json = work.run(&line).good();
    assert_eq!((json.stdout.lines().count(), json.stderr.as_str()), (1, ""));
    let plain = work.run(&line.replace("--json --quiet ", "")).good();
    assert!(
        plain.stderr.contains("epoch 1: loss") && !plain.stderr.contains(['\u{1b}', '\r']),
        "{}",
        plain.stderr
    );
    let last = plain.stdout.lines().last().unwrap();
    assert!(last.contains("predict --model") && last.contains("--adapter out"), "{last}");
}
