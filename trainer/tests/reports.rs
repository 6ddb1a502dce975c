//! What runs write besides what they learned.
#[path = "support/events.rs"]
mod events;
mod support;
use events::events;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use support::*;

/// Everything in a directory, without hidden files.
fn everything(work: &Work, name: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(work.path(name)).unwrap();
    let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with('.')).collect()
}
fn json_of(work: &Work, name: &str) -> Value {
    serde_json::from_str(&work.text(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}
fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn a_run_leaves_what_tools_for_transformers_read() {
    let work = Work::new();
    let report = work.train("--eval eval.tsv --out out --epochs 2 --max-steps 4 --eval-every 1");
    let expected = LEFT.iter().chain(&REPORTS).map(ToString::to_string).collect();
    assert_eq!(everything(&work, "out"), expected);

    let state = json_of(&work, "out/trainer_state.json");
    let of_trainer = "best_global_step best_metric best_model_checkpoint epoch eval_steps global_step \
                      is_hyper_param_search is_local_process_zero is_world_process_zero log_history logging_steps \
                      max_steps num_input_tokens_seen num_train_epochs save_steps stateful_callbacks total_flos \
                      train_batch_size trial_name trial_params";
    assert_eq!(keys(&state), of_trainer.split_whitespace().collect::<Vec<_>>());
    assert_eq!(
        (&state["global_step"], &state["epoch"], &state["train_batch_size"]),
        (&json!(4), &json!(2.0), &json!(4))
    );
    assert_eq!(state["best_metric"], report["metrics"]["accuracy"]);
    let log = state["log_history"].as_array().unwrap();
    let said = |key: &str| -> Vec<&Value> { log.iter().filter(|e| e.get(key).is_some()).collect() };
    for key in ["loss", "eval_loss"] {
        let steps: Vec<_> = said(key).iter().map(|e| e["step"].as_u64().unwrap()).collect();
        assert_eq!(steps, [1, 2, 3, 4], "{key}");
        let epochs: Vec<_> = said(key).iter().map(|e| number(&e["epoch"])).collect();
        assert_eq!(epochs, [0.5, 1.0, 1.5, 2.0], "{key}");
    }
    let first = said("loss")[0];
    assert!(number(&first["grad_norm"]) > 0.0 && number(&first["learning_rate"]) == 1e-3, "{first}");
    assert!(number(&first["memory_backbone"]) > 1e5 && number(&first["memory_saved"]) > 0.0, "{first}");
    let mean = said("loss").iter().map(|e| number(&e["loss"])).sum::<f64>() / 4.0;
    let last = log.last().unwrap();
    assert!((number(&last["train_loss"]) - mean).abs() < 1e-12, "{last}");

    let (trained, evaluated) =
        (json_of(&work, "out/train_results.json"), json_of(&work, "out/eval_results.json"));
    let of_training = "epoch total_flos train_loss train_runtime train_samples train_samples_per_second \
                       train_steps_per_second";
    assert_eq!(keys(&trained), of_training.split_whitespace().collect::<Vec<_>>());
    assert_eq!((&trained["train_samples"], &trained["epoch"]), (&json!(8), &json!(2.0)));
    for score in ["accuracy", "macro_f1", "loss"] {
        assert_eq!(evaluated[format!("eval_{score}")], report["metrics"][score]);
    }
    assert_eq!(evaluated["eval_samples"], 5);
    let all = json_of(&work, "out/all_results.json");
    for one in [&trained, &evaluated] {
        one.as_object().unwrap().iter().for_each(|(key, value)| assert_eq!(&all[key], value, "{key}"));
    }
    assert!(work.text("out/train_results.json").starts_with("{\n    \"epoch\": 2.0,\n"));
    // without an evaluation there is none
    work.train("--out bare --report=false");
    let gone = ["eval_results.json", "report.html"].map(String::from).into();
    assert_eq!(&everything(&work, "out") - &everything(&work, "bare"), gone);
}

#[test]
fn the_page_shows_what_came_out_and_nothing_of_the_data_is_markup() {
    let work = Work::new();
    let bad = "<script>alert('x')</script> & \"quotes\"";
    work.write("train.tsv", work.text("train.tsv") + &format!("{bad}\tgood\n"));
    work.write("eval.tsv", work.text("eval.tsv") + &format!("{bad}\tbad\n"));
    work.train("--eval eval.tsv --out out --epochs 2 --max-steps 6");
    let page = work.text("out/report.html");
    for part in [
        "<!doctype html>",
        "<h2>Curves</h2>",
        "<h2>Scores by class</h2>",
        "<h2>Confusion</h2>",
        "<h2>Memory</h2>",
        "<h2>Hardest examples</h2>",
        "<h2>Configuration</h2>",
        "&lt;script&gt;alert(&#39;x&#39;)",
        "prefers-color-scheme: dark",
        "train.tsv",
        "Memory in MiB by optimiser step: backbone, adapter",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let bare = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!bare.contains("<script") && !bare.contains("http"), "no network");
    let count = |part: &str| page.matches(part).count();
    assert_eq!((count("class=\"example\""), count("<figure>")), (6, 5));
    assert_eq!(count("<svg"), count("</svg>"));
    // the first of the hardest has the highest loss
    let losses: Vec<f64> =
        page.split("<span>loss ").skip(1).map(|s| s.split('<').next().unwrap().parse().unwrap()).collect();
    assert!(losses.is_sorted_by(|a, b| a >= b), "{losses:?}");
    // 31 classes are too many for a matrix
    let rows =
        |n: usize| (0..n).map(|i| format!("word{i} and word{}\tc{}\n", i % 7, i % 31)).collect::<String>();
    work.write("many.tsv", format!("text\tlabel\n{}", rows(62)));
    work.train("--train many.tsv --eval many.tsv --out many");
    let page = work.text("many/report.html");
    assert!(page.contains("confused most often") && !page.contains("class=\"matrix\""));
    assert!(page.contains("And 1 more with fewer examples."));
    // a language model has no classes and nothing to show of examples
    language_model(&work);
    let line = "train --model gpt --task causal-lm --train text.txt --eval held-out.txt --max-steps 2 --out lm --quiet";
    work.run(line).good();
    let page = work.text("lm/report.html");
    assert!(page.contains("perplexity") && !page.contains("Confusion") && !page.contains("Hardest"));
}

#[test]
fn events_for_tensorboard() {
    let work = Work::new();
    let flags = "--eval eval.tsv --epochs 2 --max-steps 6 --checkpoint-every 1";
    work.train(&format!("{flags} --out out --tensorboard"));
    let found = events(&work.path("out/runs"));
    let of =
        |tag: &str| found.iter().filter(|(_, t, _)| t == tag).map(|(step, ..)| *step).collect::<Vec<_>>();
    for tag in ["train/loss", "train/learning_rate", "train/grad_norm", "train/memory_saved"] {
        assert_eq!(of(tag), [1, 2, 3, 4], "{tag}");
    }
    assert_eq!(of("eval/accuracy"), [2, 4]);
    let state = json_of(&work, "out/trainer_state.json");
    let loss = |step: u64| {
        let log = state["log_history"].as_array().unwrap();
        let entry = log.iter().find(|e| e["step"] == step && e.get("loss").is_some()).unwrap();
        number(&entry["loss"]) as f32
    };
    found
        .iter()
        .filter(|(_, tag, _)| tag == "train/loss")
        .for_each(|(step, _, x)| assert_eq!(*x, loss(*step)));
    // the next run takes them away, and every so many steps are noted
    work.train(&format!("{flags} --out out --log-every 3"));
    assert!(!work.path("out/runs").exists());
    let log = json_of(&work, "out/trainer_state.json")["log_history"].clone();
    let steps: Vec<_> =
        log.as_array().unwrap().iter().filter(|e| e.get("loss").is_some()).map(|e| &e["step"]).collect();
    assert_eq!(steps, [1, 3, 4]);
}

#[test]
fn what_cannot_be_written_loses_nothing_that_was_learned() {
    let work = Work::new();
    work.write("out/report.html/in-the-way", "");
    let line = train("--eval eval.tsv --out out").replace(" --quiet", "");
    let ran = work.run(&line).good();
    assert!(
        ran.stderr.contains("warning: what was learned is saved, reports are not")
            && ran.stderr.contains("report.html")
    );
    assert!(work.path("out/adapter.safetensors").exists() && work.path("out/report.json").exists());
    assert!(!work.path("out/state.safetensors").exists(), "it is over");
    assert_eq!(work.eval("out"), json_of(&work, "out/report.json")["metrics"]);
    // in the way of the state's reports, on the way
    work.write("other/trainer_state.json/in-the-way", "");
    let ran = work.run(&line.replace("--out out", "--out other --checkpoint-every 1")).good();
    assert!(
        ran.stderr.contains("warning: what was learned is saved")
            && ran.stderr.contains("trainer_state.json")
    );
    assert_eq!(work.read("other/adapter.safetensors"), work.read("out/adapter.safetensors"));
}

#[test]
fn a_card_of_somebody_else_stays() {
    let work = Work::new();
    work.write("out/README.md", "# Mine\n");
    work.train("--eval eval.tsv --out out");
    assert_eq!(work.text("out/README.md"), "# Mine\n");
    // one of ours is written anew, until somebody makes it theirs
    work.train("--eval eval.tsv --out ours --name mood");
    let card = work.text("ours/README.md");
    for part in [
        "- adapter-transformers\n",
        "# Adapter `mood` for",
        "`train.tsv`",
        "| eval_accuracy | ",
        "classification",
    ] {
        assert!(card.contains(part), "{part}: {card}");
    }
    work.train("--out ours --name other");
    assert!(work.text("ours/README.md").contains("# Adapter `other` for"));
    let theirs = work.text("ours/README.md").replace("<!-- Written by engraft", "<!-- Taken from engraft");
    work.write("ours/README.md", &theirs);
    work.train("--out ours --name third");
    assert_eq!(work.text("ours/README.md"), theirs);
}

#[test]
fn reports_of_a_model_are_none_of_its_files() {
    let work = Work::new();
    work.train("--adapter full --out whole");
    work.run("quantize --model whole --dtype int8 --out small").good();
    let found = everything(&work, "small");
    assert!(
        found.contains("model.safetensors") && REPORTS.iter().all(|name| !found.contains(*name)),
        "{found:?}"
    );
}

#[test]
fn runs_side_by_side() {
    let work = Work::new();
    work.train("--eval eval.tsv --out slow");
    work.train("--eval eval.tsv --out fast --lr 2e-3 --max-steps 3");
    let said = work.run("report slow fast --html both.html").good().stdout;
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines[0].starts_with("run ") && lines[0].contains("accuracy") && lines[0].contains("held-out loss"),
        "{said}"
    );
    assert!(lines[1].starts_with("slow ") && lines[2].starts_with("fast "), "{said}");
    assert_eq!(lines[4].split_whitespace().collect::<Vec<_>>(), ["run", "lr", "max-steps"]);
    assert_eq!(lines[6].split_whitespace().collect::<Vec<_>>(), ["fast", "0.002", "3"]);
    let page = work.text("both.html");
    for part in [
        "2 runs side by side",
        "<h2>Results</h2>",
        "Settings that differ",
        "Training loss by optimiser step: slow, fast",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let json = work.run("report slow fast --json").json();
    assert_eq!(json["runs"][1]["report"], json_of(&work, "fast/report.json"));
    // several runs of one directory
    let variants = ["--variant", "a: lr=1e-3", "b: lr=2e-3"];
    work.run_with(&train("--eval eval.tsv --out both"), &variants).good();
    let said = work.run("report both").good().stdout;
    assert!(said.contains("both/a ") && said.contains("both/b ") && said.contains("lr"), "{said}");
    work.run("report eval.tsv").fails(&["eval.tsv"]);
    work.write("empty/x", "");
    work.run("report empty").fails(&["empty", "no run came to its end"]);
    work.write("broken/report.json", "{\"task\": 1}");
    work.run("report broken").fails(&["broken/report.json"]);
    work.run("report slow --html slow").fails(&["slow", "directory"]);
}
