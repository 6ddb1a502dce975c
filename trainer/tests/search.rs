//! The search for options: each trial is the run that it is by itself, and a search goes on.
mod support;
use serde_json::Value;
use support::*;

const SPACE: &str = r#"
lr = { low = 1e-4, high = 1e-2, log = true }
bottleneck = { choices = [4, 8] }
batch-size = { low = 2, high = 4 }
"#;

fn work() -> Work {
    let work = Work::new();
    work.write("space.toml", SPACE);
    work
}
/// The command line of a short search.
fn search(flags: &str) -> String {
    let own = "--model MODEL --train train.tsv --eval eval.tsv --warmup-ratio 0 --max-length 24";
    format!("search --space space.toml {own} --json --quiet {flags}")
}
fn trials(work: &Work, out: &str) -> Vec<Value> {
    let lines = work.text(&format!("{out}/trials.jsonl"));
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
/// What was learned.
fn learned(work: &Work, out: &str) -> [Vec<u8>; 2] {
    ["adapter.safetensors", "model_head.safetensors"].map(|f| work.read(&format!("{out}/{f}")))
}

#[test]
fn the_best_trial_is_a_run_like_any_other() {
    let work = work();
    let flags = "--max-steps 3 --layers 2-3 --dropout 0 --trials 12 --metric loss";
    let report = work.run(&search(&format!("{flags} --out out"))).json();
    let all = trials(&work, "out");
    assert_eq!((all.len(), report["metric"].as_str()), (12, Some("loss")));
    assert_eq!(report["trials"].as_array().unwrap(), &all);
    assert!(!work.path("out/.below").exists(), "what was kept for all of them is gone");
    let best = all.iter().min_by(|a, b| number(&a["value"]).total_cmp(&number(&b["value"]))).unwrap();
    assert_eq!(report["best"], best["number"]);
    let picture = work.text("out/parallel.svg");
    assert_eq!((picture.matches("<path").count(), picture.matches("<circle").count()), (12, 4));
    let title = format!("12 trials by loss; the best is trial {}", best["number"]);
    for part in [title.as_str(), ">\nbottleneck\n<", ">\nlr\n<", ">\n1e-4\n<", ">\n8\n<"] {
        assert!(picture.contains(part), "{part}: {picture}");
    }
    let folder = format!("out/trial-{}", best["number"]);
    assert!(learned(&work, "out") == learned(&work, &folder));
    // what was found is ready to use, and the trial a run that is repeated
    let loss = number(&work.eval("out")["loss"]);
    assert!((loss - number(&best["value"])).abs() < 1e-6, "{loss}");
    work.run(&format!("train --config {folder}/run.toml --out again --quiet")).good();
    assert!(learned(&work, "again") == learned(&work, "out"));
    let params = &best["params"];
    let of = |key: &str| params[key].to_string();
    let own =
        format!("--lr {} --bottleneck {} --batch-size {}", of("lr"), of("bottleneck"), of("batch-size"));
    work.train(&format!(
        "{own} --eval eval.tsv --max-steps 3 --layers 2-3 --dropout 0 --metric loss --out alone"
    ));
    assert!(learned(&work, "alone") == learned(&work, "out"));
}

#[test]
fn a_search_goes_on_as_if_it_had_not_been_stopped() {
    let work = work();
    let flags = |n: usize| format!("--max-steps 2 --trials {n} --sampler random");
    work.run(&search(&format!("{} --out whole", flags(4)))).good();
    work.run(&search(&format!("{} --out out", flags(2)))).good();
    work.run(&search(&format!("{} --out out --resume", flags(4)))).good();
    let timeless = |out: &str| {
        let mut all = trials(&work, out);
        all.iter_mut().for_each(|t| t["seconds"] = Value::Null);
        all
    };
    assert_eq!(timeless("out"), timeless("whole"));
    assert!(learned(&work, "out") == learned(&work, "whole"));
    let other = search(&format!("{} --out out --resume --lr 1", flags(5)));
    work.run(&other).fails(&["resume", "other settings"]);
    work.write("space.toml", SPACE.replace("1e-2", "1e-1"));
    work.run(&search(&format!("{} --out out --resume", flags(5)))).fails(&["resume", "other space"]);
}

#[test]
fn halving_gives_more_steps_to_the_best() {
    let work = work();
    let report = work.run(&search("--max-steps 8 --trials 5 --halving 2 --out out --metric loss")).json();
    let all = trials(&work, "out");
    let with = |state: &str| all.iter().filter(|t| t["state"] == state).count();
    assert_eq!((with("COMPLETE"), with("PRUNED")), (1, 4), "{all:?}");
    // 5 on a quarter of the steps, 2 on half of them, 1 on all
    let rungs = |t: &Value| t["intermediate"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let mut budgets: Vec<Vec<String>> = all.iter().map(rungs).collect();
    budgets.sort();
    assert_eq!(budgets[0], ["25"]);
    assert_eq!(budgets[2], ["25"]);
    assert_eq!(budgets[3], ["25", "50"]);
    assert_eq!(budgets[4], ["25", "50", "100"]);
    let first = |t: &Value| number(&t["intermediate"]["25"]);
    let mut order: Vec<&Value> = all.iter().collect();
    order.sort_by(|a, b| first(a).total_cmp(&first(b)));
    assert!(order[..2].iter().all(|t| rungs(t).len() > 1), "the best go on: {all:?}");
    let best = &all[report["best"].as_u64().unwrap() as usize];
    assert_eq!(best["state"], "COMPLETE");
    let steps: Value = serde_json::from_slice(&work.read("out/report.json")).unwrap();
    assert_eq!(steps["run"]["task"], "classification");
}

#[test]
fn what_cannot_be_is_refused() {
    let work = work();
    let fails = |flags: &str, words: &[&str]| work.run(&search(flags)).fails(words);
    fails("--trials 2 --seeds 1,2", &["one run"]);
    fails("--trials 2 --halving 2 --sampler tpe", &["sampler", "halving"]);
    work.run("search --space space.toml --model MODEL --train train.tsv").fails(&["eval"]);
    work.run("search --space none.toml --model MODEL --train train.tsv --eval eval.tsv")
        .fails(&["none.toml"]);
    for (space, words) in [
        ("max-length = { low = 1, high = 9 }", ["max-length", "same for all"]),
        ("lr = { low = -1.0, high = -0.5 }", ["trial", "lr"]),
        ("lr = { low = 1, high = 0 }", ["space.toml", "`lr`"]),
        ("adapter = { choices = ['nothing'] }", ["trial", "nothing"]),
    ] {
        work.write("space.toml", space);
        fails("--trials 2 --max-steps 1", &words);
    }
}
