//! Numbers, sets of labels and pairs of texts through the program: what is read, trained, scored,
//! predicted and refused.
mod support;
use serde_json::{Value, json};
use support::*;

/// Texts with a number that says how good they are.
fn numbers(texts: &Texts) -> String {
    let value = |(i, label): (usize, &str)| i as f64 / 4.0 + if label == "good" { 4.0 } else { 1.0 };
    let rows = texts.iter().enumerate().map(|(i, (text, label))| format!("{}\t{text}\n", value((i, label))));
    format!("label\ttext\n{}", rows.collect::<String>())
}
/// Texts with what they speak of, which may be nothing or several things.
fn sets(texts: &Texts) -> String {
    let one = |(text, label): &(&str, &str)| {
        let seat = ["seat", "coach", "ride"].iter().any(|word| text.contains(word));
        let labels: Vec<&str> = [(seat, "seat"), (*label == "good", "good"), (*label == "bad", "Bad mood")]
            .into_iter()
            .filter_map(|(is, name)| (is && !text.contains("loud")).then_some(name))
            .collect();
        json!({"text": text, "label": labels}).to_string() + "\n"
    };
    texts.iter().map(one).collect()
}
fn keys(v: &Value) -> Vec<&str> {
    v.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn runs_with_numbers_are_planned() {
    let work = Work::empty();
    work.write("train.tsv", numbers(&TRAIN)).write("train.jsonl", sets(&TRAIN));
    let train = |task: &str, data: &str, flags: &str| {
        let line = format!("train --model MODEL --task {task} --train {data} --max-steps 6 {flags} --json");
        work.run(&line).json()
    };
    for (task, data) in [("regression", "train.tsv"), ("multi-label", "train.jsonl")] {
        let plain = train(task, data, &format!("--out {task}"));
        let budget = number(&plain["ledger_peak_bytes"]) as u64 - 1;
        let tight = train(task, data, &format!("--out {task}-tight --memory-budget {budget}"));
        assert!(number(&tight["ledger_peak_bytes"]) <= budget as f64, "{task}");
        assert_eq!(tight["epochs"][0]["loss"], plain["epochs"][0]["loss"], "{task}");
    }
}

#[test]
fn a_number_for_each_text() {
    let work = Work::empty();
    work.write("train.tsv", numbers(&TRAIN)).write("eval.tsv", numbers(&EVAL));
    let learn = "--task regression --eval eval.tsv --max-steps 30 --lr 1e-2 --out out";
    let report = work.train(learn);
    let losses: Vec<f64> = report["epochs"].as_array().unwrap().iter().map(|e| number(&e["loss"])).collect();
    assert!(losses.last().unwrap() < &(losses[0] / 4.0), "{losses:?}");
    let scores = ["loss", "pearson", "spearmanr", "mse", "mae", "r2", "combined_score", "examples"];
    assert_eq!(keys(&report["metrics"]), scores);
    let metrics = work.eval("out");
    assert_eq!(metrics, report["metrics"]);
    assert!((number(&metrics["loss"]) - number(&metrics["mse"])).abs() < 1e-9);
    let mean = (number(&metrics["pearson"]) + number(&metrics["spearmanr"])) / 2.0;
    assert!((number(&metrics["combined_score"]) - mean).abs() < 1e-12);
    // the head is AdapterHub's classification of one label
    let head: Value = serde_json::from_str(&work.text("out/head_config.json")).unwrap();
    let config = &head["config"];
    assert_eq!(
        (&config["head_type"], &config["num_labels"], &config["label2id"]),
        (&json!("classification"), &json!(1), &json!({"LABEL_0": 0}))
    );
    // predictions are numbers, and the scores are those of them
    let line = "predict --model MODEL --adapter out --input eval.tsv";
    let predicted = work.run(&format!("{line} --json")).json();
    assert_eq!(
        (&predicted["task"], keys(&predicted["predictions"][0])),
        (&json!("regression"), vec!["text", "value"])
    );
    let values: Vec<f64> =
        predicted["predictions"].as_array().unwrap().iter().map(|p| number(&p["value"])).collect();
    let truth = [4.0, 1.25, 4.5, 1.75, 5.0];
    let errors = values.iter().zip(truth).map(|(z, y)| (z - y).powi(2)).sum::<f64>() / 5.0;
    assert!((errors - number(&metrics["mse"])).abs() < 1e-5, "{values:?}");
    let shown = work.run(line).good().stdout;
    assert_eq!(shown.lines().next().unwrap(), format!("{:.4}\t{}", values[0], EVAL[0].0));
    // one text has no correlation: null, not NaN
    work.write("one.tsv", "text\tlabel\na\t3\n");
    let one = work.run("eval --model MODEL --adapter out --data one.tsv --json").evaluation();
    assert_eq!(
        (&one["pearson"], &one["combined_score"], one["mse"].is_number()),
        (&Value::Null, &Value::Null, true)
    );
    // example by example
    work.run("eval --model MODEL --adapter out --data eval.tsv --predictions p.jsonl").good();
    let first: Value = serde_json::from_str(work.text("p.jsonl").lines().next().unwrap()).unwrap();
    assert_eq!((&first["truth"], &first["input"]), (&json!(4.0), &json!(EVAL[0].0)));
    let error = number(&first["prediction"]) - 4.0;
    assert!((number(&first["statistics"]["mse"]["mean"][0]) - error * error).abs() < 1e-5, "{first}");
    // `forward` takes numbers that are no whole ones
    work.write("ids.json", r#"{"input_ids": [[1, 2, 3], [4, 5]], "labels": [1.5, -2]}"#);
    work.run("forward --model MODEL --adapter out --ids ids.json --out o.safetensors --grad").good();
    let t = work.tensors("o.safetensors");
    let mean = ((t["logits"][0] - 1.5).powi(2) + (t["logits"][1] + 2.0).powi(2)) / 2.0;
    assert!((t["loss"][0] - mean).abs() < 1e-5 * mean.abs(), "{:?} {mean}", t["loss"]);
    work.write("ids.json", r#"{"input_ids": [[1, 2, 3]], "labels": [[1, 2]]}"#);
    work.run("forward --model MODEL --adapter out --ids ids.json --out o.safetensors")
        .fails(&["sequence 0", "one number"]);
    // what is no number is refused with its line, and a head of classes for what it is
    work.write("bad.tsv", "text\tlabel\na\t3\nb\thigh\n");
    work.run(&train("--task regression --train bad.tsv --out bad"))
        .fails(&["bad.tsv:3", "`high` is no number"]);
    work.run("eval --model MODEL --adapter out --task classification --data eval.tsv")
        .fails(&["`task`", "is for regression"]);
    work.run(&train("--task regression --threshold 0.4 --out bad")).fails(&["regression", "threshold"]);
}

#[test]
fn any_number_of_labels_for_each_text() {
    let work = Work::empty();
    work.write("train.jsonl", sets(&TRAIN)).write("eval.jsonl", sets(&EVAL));
    let learn = "--task multi-label --train train.jsonl --eval eval.jsonl --max-steps 20 --lr 1e-2";
    let report = work.train(&format!("{learn} --out out"));
    assert_eq!(report["task"], "multi-label");
    let line = |more: &str| format!("eval --model MODEL --adapter out --data eval.jsonl --json {more}");
    let metrics = work.run(&line("")).evaluation();
    assert_eq!(metrics, report["metrics"]);
    let labels: Vec<&Value> = metrics["labels"].as_array().unwrap().iter().map(|l| &l["label"]).collect();
    assert_eq!(labels, ["Bad mood", "good", "seat"]);
    for name in ["f1", "macro_f1", "samples_f1", "accuracy", "hamming_loss"] {
        assert!((0.0..=1.0).contains(&number(&metrics[name])), "{name}: {metrics}");
    }
    let head: Value = serde_json::from_str(&work.text("out/head_config.json")).unwrap();
    assert_eq!(head["config"]["head_type"], "multilabel_classification");
    // a table says the same with its labels in a cell
    let cell = |line: &str| {
        let v: Value = serde_json::from_str(line).unwrap();
        let labels: Vec<&str> = v["label"].as_array().unwrap().iter().map(|l| l.as_str().unwrap()).collect();
        format!("{}\t{}\n", v["text"].as_str().unwrap(), labels.join(" & ").to_lowercase())
    };
    let rows: String = sets(&EVAL).lines().map(cell).collect();
    work.write("eval.tsv", format!("text\tlabel\n{rows}"));
    let table = "eval --model MODEL --adapter out --data eval.tsv --json";
    assert_eq!(
        work.run_with(table, &["--label-separator", "&"]).evaluation(),
        metrics,
        "capitals do not count"
    );
    work.run(table).fails(&["eval.tsv:2", "unknown label `seat & good`"]);
    // example by example
    work.run("eval --model MODEL --adapter out --data eval.jsonl --predictions p.jsonl").good();
    let first: Value = serde_json::from_str(work.text("p.jsonl").lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["truth"], keys(&first["scores"])),
        (&json!(["good", "seat"]), vec!["Bad mood", "good", "seat"])
    );
    assert_eq!(first["statistics"]["f1"]["f1"][2], 2.0);
    // with a threshold of its own more is predicted, and each label with its probability
    let (more, less) = (work.run(&line("--threshold 0.001")), work.run(&line("--threshold 0.999")));
    assert_eq!(number(&more.evaluation()["recall"]), 1.0);
    assert_eq!(number(&less.evaluation()["f1"]), 0.0);
    let predict = "predict --model MODEL --adapter out --text";
    let all = work.run_with(&format!("{predict} x --json --threshold 0.3"), &[]).json();
    let one = &all["predictions"][0];
    assert_eq!(
        (keys(one), keys(&one["probabilities"])),
        (vec!["text", "labels", "probabilities"], vec!["Bad mood", "good", "seat"])
    );
    let chosen: Vec<&str> = one["labels"].as_array().unwrap().iter().map(|l| l.as_str().unwrap()).collect();
    let likely = keys(&one["probabilities"]).into_iter().filter(|l| number(&one["probabilities"][l]) > 0.3);
    assert_eq!(chosen, likely.collect::<Vec<_>>());
    work.run(&line("--threshold 1")).fails(&["`threshold`", "between 0 and 1"]);
    // `forward` takes a number for each label
    let ids = |labels: &str| format!(r#"{{"input_ids": [[1, 2, 3], [4, 5]], "labels": {labels}}}"#);
    let forward = "forward --model MODEL --adapter out --ids ids.json --out o.safetensors --grad";
    work.write("ids.json", ids("[[1, 0, 0.5], [0, 0, 0]]"));
    work.run(forward).good();
    let t = work.tensors("o.safetensors");
    let term = |(z, y): (&f32, f64)| {
        let z = f64::from(*z);
        z.max(0.0) - z * y + (-z.abs()).exp().ln_1p()
    };
    let mean = t["logits"].iter().zip([1.0, 0.0, 0.5, 0.0, 0.0, 0.0]).map(term).sum::<f64>() / 6.0;
    assert!((f64::from(t["loss"][0]) - mean).abs() < 1e-6, "{:?} {mean}", t["loss"]);
    for (labels, why) in
        [("[[1, 0], [0, 0]]", "2 numbers for 3 labels"), ("[[1, 0, 2], [0, 0, 0]]", "2 for a label")]
    {
        work.write("ids.json", ids(labels));
        work.run(forward).fails(&["sequence 0", why]);
    }
    // of a run that was stopped nothing is lost, and it repeats itself
    work.run("train --config out/run.toml --out again --json --quiet").good();
    assert!(work.files("again")["model_head.safetensors"] == work.files("out")["model_head.safetensors"]);
}

#[test]
fn pairs_are_kept_apart_or_joined_if_that_is_asked_for() {
    let work = Work::empty();
    language_model(&work);
    let pair =
        |i: usize| format!("w{} w{}\tw{}\t{}\n", 1 + i, 2 + i, 3 + i % 3, ["ENTAILMENT", "neutral"][i % 2]);
    work.write("nli.tsv", "premise\thypothesis\tlabel\n".to_string() + &(0..8).map(pair).collect::<String>());
    let line = "--model gpt --task classification --train nli.tsv --out out";
    work.run(&train(line)).fails(&["`pair-separator`", "gpt/tokenizer.json", "nothing between the texts"]);
    let mut learn: Vec<String> = train(line).split_whitespace().map(String::from).collect();
    learn.extend(["--pair-separator".into(), " w9 ".into()]);
    support::Ran::of(work.command().args(&learn)).good();
    // what was said is remembered, and labels are the same in small letters
    work.write("eval.tsv", work.text("nli.tsv").to_lowercase());
    let eval = |file: &str| {
        let line = format!("eval --model gpt --adapter out --data {file} --json");
        work.run(&line).evaluation()
    };
    assert_eq!(eval("eval.tsv"), eval("nli.tsv"));
    // the same as one text
    let joined: String = (0..8).map(|i| pair(i).replacen('\t', " w9 ", 1)).collect();
    work.write("joined.tsv", format!("text\tlabel\n{joined}"));
    assert_eq!(eval("joined.tsv"), eval("nli.tsv"));
}

#[test]
fn texts_without_a_label_are_left_out_if_asked_for() {
    let work = Work::new();
    let text = work.text("train.tsv") + "no gold label here .\t-1\nnone at all .\t\n";
    work.write("more.tsv", text);
    work.run(&train("--train more.tsv --out bad")).fails(&[
        "more.tsv:11",
        "the label is empty",
        "--skip-unlabelled",
    ]);
    let ran = work.run(&train("--train more.tsv --skip-unlabelled --out out").replace("--quiet", "")).good();
    assert!(
        ran.stderr.contains("2 of the records of more.tsv have no label and were left out"),
        "{}",
        ran.stderr
    );
    work.train("--out plain");
    assert!(work.files("out")["model_head.safetensors"] == work.files("plain")["model_head.safetensors"]);
    work.write("minus.tsv", "text\tlabel\na\tgood\nb\t-1\n");
    work.run("eval --model MODEL --adapter plain --data minus.tsv").fails(&["minus.tsv:3", "label `-1`"]);
    let all =
        work.run("eval --model MODEL --adapter plain --data more.tsv --skip-unlabelled --json").evaluation();
    assert_eq!(all["examples"], 8);
}

#[test]
fn entities_in_another_scheme_and_counted_strictly() {
    let work = Work::empty();
    // IOB1: an entity begins with I unless it stands directly behind one of its type
    work.write(
        "train.conll",
        "the O\nguard I-X\nkind I-X\nquiet B-X\nnight O\n\nlate I-Y\nloud I-Y\n\nfine O\n",
    );
    let learn = "--task tagging --train train.conll --eval train.conll --max-steps 2 --scheme-from iob1 --scheme-to iobes";
    let report = work.train(&format!("{learn} --strict iobes --out out"));
    assert_eq!(report["metrics"]["strict"], "iobes");
    let head: Value = serde_json::from_str(&work.text("out/head_config.json")).unwrap();
    assert_eq!(keys(&head["config"]["label2id"]), ["B-X", "B-Y", "E-X", "E-Y", "O", "S-X"]);
    let supports: Vec<_> =
        report["metrics"]["entities"].as_array().unwrap().iter().map(|e| e["support"].clone()).collect();
    assert_eq!(supports, [2, 1]);
    // what was said is remembered for an evaluation
    let eval = "eval --model MODEL --adapter out --data train.conll --json";
    assert_eq!(work.run(eval).evaluation(), report["metrics"]);
    work.write("bad.conll", "the O\nguard E-X\n");
    work.run("eval --model MODEL --adapter out --data bad.conll").fails(&[
        "bad.conll:1",
        "`E-X` of word 2",
        "iob1",
    ]);
    work.run(&train("--task tagging --train train.conll --strict ioe2 --out bad"))
        .fails(&["`strict`", "`B-X`"]);
    work.run(&train("--task tagging --train train.conll --scheme-from iob1 --out bad"))
        .fails(&["scheme-from", "scheme-to"]);
    work.run(&train("--scheme-from iob1 --scheme-to iob2 --out bad")).fails(&["scheme-from", "only words"]);
    work.run("eval --model MODEL --adapter out --data train.conll --strict bilou")
        .fails(&["`strict`", "`E-X`"]);
}
