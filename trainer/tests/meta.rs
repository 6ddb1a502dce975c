//! Learning to learn, through the program.
mod support;
use serde_json::Value;
use std::{
    process::{Command, Stdio},
    time::Duration,
};
use support::*;

/// Texts whose class is that of a word in them.
fn texts(classes: &[&str], each: usize) -> String {
    let one = |i: usize| {
        let class = classes[i % classes.len()];
        let (before, behind) =
            (["the", "a", "our"][i / 2 % 3], ["was late", "came", "is here", "left"][i / 3 % 4]);
        format!("{before} {class} {behind} {i}\t{class}\n")
    };
    format!("text\tlabel\n{}", (0..each * classes.len()).map(one).collect::<String>())
}
fn work() -> Work {
    let work = Work::empty();
    let write = |name: &str, classes: &[&str], each: usize| {
        work.write(name, texts(classes, each));
    };
    write("a.tsv", &["train", "lift"], 12);
    write("b.tsv", &["river", "night", "coffee"], 8);
    write("new.tsv", &["guard", "coach"], 9);
    write("new-eval.tsv", &["guard", "coach"], 20);
    write("many.tsv", &["train", "lift", "river", "night", "coffee", "guard", "coach", "seat"], 9);
    work.write("tasks.toml", "[tasks.a]\ntrain = 'a.tsv'\n[tasks.b]\ntrain = 'b.tsv'\n");
    work
}
const TASKS: &str = "meta --config tasks.toml --model MODEL --json --quiet --batch-size 4 --max-length 24 --lr 2e-3 \
                     --adapter pfeiffer --inner-steps 2 --tasks-per-step 2";
const EPISODES: &str = "meta --train many.tsv --ways 3 --shots 2 --queries 4 --held-out-classes 4 --model MODEL --json --quiet \
                        --max-length 24 --lr 2e-3 --adapter pfeiffer --inner-steps 2 --tasks-per-step 2 --outer-steps 4";

#[test]
fn an_adapter_out_of_tasks_is_a_start_for_others() {
    let work = work();
    let new = ["--targets", "new: train=new.tsv, eval=new-eval.tsv"];
    let line = format!("{TASKS} --outer-steps 6 --shots 2,4 --support-sets 3");
    let report = work.run_with(&format!("{line} --out out"), &new).json();
    assert_eq!(report["losses"].as_array().unwrap().len(), 6);
    assert_eq!(
        work.names("out"),
        ["adapter.safetensors", "adapter_config.json", "meta.json", "report.json", "run.toml"]
    );
    for shots in ["2", "4"] {
        let starts = &report["targets"]["new"]["shots"][shots];
        for start in ["meta", "fresh"] {
            let scores = &starts[start];
            let each: Vec<f64> = serde_json::from_value(scores["each"].clone()).unwrap();
            assert_eq!(each.len(), 3);
            assert!((number(&scores["mean"]) - each.iter().sum::<f64>() / 3.0).abs() < 1e-12);
            assert!(number(&scores["deviation"]) >= 0.0);
        }
        assert!(starts["baseline"].is_null());
    }
    // an ordinary run starts from it, and is a baseline for the next
    let tsv = "--train new.tsv --eval new-eval.tsv --max-steps 2 --batch-size 4 --json --quiet";
    work.run(&format!("train --model MODEL --init out --head linear --task classification {tsv} --out own"))
        .json();
    let more = work.run_with(&format!("{line} --baseline own --threads 1 --out again"), &new).json();
    assert!(
        work.read("again/adapter.safetensors") == work.read("out/adapter.safetensors"),
        "any number of threads"
    );
    assert_eq!(more["targets"]["new"]["shots"]["2"]["meta"], report["targets"]["new"]["shots"]["2"]["meta"]);
    assert_eq!(more["targets"]["new"]["shots"]["4"]["baseline"]["each"].as_array().unwrap().len(), 3);
    for (flags, is_same) in
        [("", true), ("--algorithm fomaml", false), ("--inner-rule sgd", false), ("--seed 7", false)]
    {
        work.run(&format!("{TASKS} --outer-steps 6 --out other {flags}")).json();
        let other = work.read("other/adapter.safetensors");
        assert_eq!(other == work.read("out/adapter.safetensors"), is_same, "{flags}");
    }
}

#[test]
fn episodes_say_how_good_a_start_is() {
    let work = work();
    let report = work.run(&format!("{EPISODES} --episodes 6 --out out")).json();
    let found = &report["episodes"];
    assert_eq!((&found["ways"], &found["shots"], &found["count"]), (&3.into(), &2.into(), &6.into()));
    let held_out: Vec<String> = serde_json::from_value(found["held_out_classes"].clone()).unwrap();
    assert_eq!(held_out.len(), 4);
    for start in ["meta", "fresh"] {
        let scores = &found["starts"][start];
        let each: Vec<f64> = serde_json::from_value(scores["each"].clone()).unwrap();
        assert!(each.len() == 6 && each.iter().all(|x| (x * 12.0).fract().abs() < 1e-9), "{each:?}");
        let deviation = number(&scores["deviation"]);
        assert!((number(&scores["interval"]) - 1.96 * deviation / 6f64.sqrt()).abs() < 1e-12);
    }
    // new episodes out of another file
    work.write(
        "other.tsv",
        texts(&["train", "lift", "river", "night", "coffee", "guard", "coach", "seat"], 7),
    );
    let other = work.run(&format!("{EPISODES} --episodes 2 --eval other.tsv --out other")).json();
    assert_eq!(other["episodes"]["held_out_classes"], found["held_out_classes"]);
    assert!(work.read("other/adapter.safetensors") == work.read("out/adapter.safetensors"));
    let shown = work
        .run(&format!("{EPISODES} --episodes 2 --out shown").replace(" --json --quiet", ""))
        .good()
        .stdout;
    assert!(
        shown.contains("2 episodes of 3 classes, 2 examples of each") && shown.contains("fresh: accuracy"),
        "{shown}"
    );
}

#[cfg(unix)]
#[test]
fn a_run_that_was_stopped_goes_on() {
    let work = work();
    let line = |out: &str| format!("{TASKS} --outer-steps 120 --checkpoint-every 1 --out {out}");
    let mut run = work.arguments(&line("stopped"));
    let mut run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !work.path("stopped/meta.json").exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(Command::new("kill").args(["-TERM", &run.id().to_string()]).status().unwrap().success());
    assert!(!run.wait().unwrap().success(), "120 steps take longer");
    let standing: Value = serde_json::from_str(&work.text("stopped/meta.json")).unwrap();
    assert!((1..120).contains(&standing["taken"].as_u64().unwrap()));
    work.run(&format!("{} --resume", line("stopped").replace("--lr 2e-3", "--lr 3e-3")))
        .fails(&["resume", "told something else"]);
    let went_on = work.run(&format!("{} --resume --threads 1", line("stopped"))).json();
    let through = work.run(&line("through")).json();
    assert_eq!(went_on["losses"], through["losses"]);
    assert!(work.read("stopped/adapter.safetensors") == work.read("through/adapter.safetensors"));
}

#[test]
fn what_it_has_no_use_for_is_refused() {
    let work = work();
    let refused = |line: String, words: &[&str]| {
        work.run(&format!("{line} --out bad")).fails(words);
        assert!(!work.path("bad/adapter.safetensors").exists());
    };
    refused("meta --model MODEL".into(), &["`meta` needs `tasks`"]);
    refused("meta --model MODEL --ways 3".into(), &["`ways` needs `train`"]);
    refused(format!("{TASKS} --epochs 3"), &["no use for `epochs`"]);
    refused(TASKS.replace("pfeiffer", "none"), &["adapter"]);
    refused(TASKS.replace("pfeiffer", "full"), &["adapter"]);
    refused(format!("{TASKS} --outer-rate 1.5"), &["outer-rate"]);
    refused(format!("{EPISODES} --shots 2,4"), &["shots"]);
    refused(EPISODES.replace("--ways 3", "--ways 5"), &["ways", "held out"]);
    refused(EPISODES.replace("--queries 4", "--queries 8"), &["ways", "0 classes have 10 examples"]);
    let targets =
        |text: &str| work.run_with(&format!("{TASKS} --out bad --outer-steps 1"), &["--targets", text]);
    targets("new: train=new.tsv").fails(&["task `new`", "needs `eval`"]);
    targets("new: train=new.tsv, eval=new-eval.tsv, metric=bleu").fails(&["task `new`", "metric", "bleu"]);
    let few = work.run_with(
        &format!("{TASKS} --out bad --outer-steps 1 --shots 10"),
        &["--targets", "new: train=new.tsv, eval=new-eval.tsv"],
    );
    few.fails(&["shots", "`coach` has 9 examples"]);
}
