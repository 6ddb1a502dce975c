//! Several tasks in one run, as a user trains them.
mod support;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    process::{Child, Stdio},
    time::Duration,
};
use support::*;

const TAGGED: &str = "Anna B-PER\nlives O\nin O\nParis B-LOC\n. O\n\nThe O\nriver O\nSeine B-LOC\nis O\nlong O\n. O\n\n\
                      Mister O\nBrown B-PER\nJunior I-PER\nsleeps O\n\nHere O\nis O\nLyon B-LOC\n";
/// With `train.tsv` and `eval.tsv` of moods, `sizes.csv` of sizes, and `words.conll`.
fn work() -> Work {
    let work = Work::new();
    let size =
        |(i, (text, _)): (usize, &(&str, &str))| format!("{},\"{text}\"\n", ["big", "small", "none"][i % 3]);
    let sizes: String = TRAIN.iter().chain(&EVAL).enumerate().map(size).collect();
    work.write("sizes.csv", format!("size,said\n{sizes}")).write("words.conll", TAGGED);
    work.write(
        "tasks.toml",
        "[tasks.mood]\ntrain = 'train.tsv'\neval = 'eval.tsv'\n\n\
         [tasks.size]\ntrain = ['sizes.csv']\neval = 'sizes.csv'\ntext-column = 'said'\nlabel-column = 'size'\nhead = 'linear'\n\n\
         [tasks.names]\ntask = 'tagging'\ntrain = 'words.conll'\neval = 'words.conll'\n",
    );
    work
}
const NAMES: [&str; 3] = ["mood", "names", "size"];
/// A run of the three tasks.
fn tasks(flags: &str) -> String {
    let epochs = if flags.contains("--epochs") { "" } else { "--epochs 3" };
    format!(
        "train --config tasks.toml --model MODEL --json --quiet --batch-size 6 --lr 5e-3 --max-length 24 {epochs} {flags}"
    )
}
/// What a run leaves of each task, without where it is and what time it took.
fn left(work: &Work, out: &str) -> Vec<BTreeMap<String, Vec<u8>>> {
    let of = |name: &&str| {
        let mut files = work.files(&format!("{out}/{name}"));
        files.retain(|name, _| name.ends_with(".safetensors") || name.ends_with("_config.json"));
        assert!(files.len() >= 4, "{files:?}");
        files
    };
    NAMES.iter().map(of).collect()
}
/// The scores of a report of all, which say nothing of time.
fn scores(work: &Work, out: &str) -> Value {
    let report: Value = serde_json::from_str(&work.text(&format!("{out}/report.json"))).unwrap();
    report["metrics"].clone()
}
/// What was learned is found in the directory of each task, and is what was evaluated.
fn evaluates_as_reported(work: &Work, out: &str) {
    let scores = scores(work, out);
    for (name, data) in NAMES.iter().zip(["eval.tsv", "words.conll", "sizes.csv"]) {
        let line = format!("eval --model MODEL --adapter {out}/{name} --data {data} --json --quiet");
        let found = work.run(&line).evaluation();
        let own = found
            .as_object()
            .unwrap()
            .iter()
            .filter(|(k, v)| (v.is_number() || v.is_null()) && *k != "examples");
        let mut n = 0;
        for (score, value) in own {
            assert_eq!(&scores[format!("{name}_{score}")], value, "{name} {score}");
            n += 1;
        }
        assert!(n > 2, "{found}");
    }
}

#[test]
fn each_task_has_an_adapter_of_its_own() {
    let work = work();
    let report = work.run(&tasks("--out out")).json();
    assert_eq!(work.names("out"), ["mood", "names", "report.json", "run.toml", "size"]);
    assert_eq!(report["tasks"].as_object().unwrap().keys().collect::<Vec<_>>(), NAMES);
    assert_eq!(report["tasks"]["names"]["task"], "tagging");
    assert_eq!(report["metrics"]["mood_accuracy"], report["tasks"]["mood"]["metrics"]["accuracy"]);
    evaluates_as_reported(&work, "out");
    let said =
        work.run_with("predict --model MODEL --adapter out/names --json", &["--text", "Anna sleeps"]).json();
    assert_eq!(said["predictions"][0]["words"], json!(["Anna", "sleeps"]));
    assert!(work.text("out/size/run.toml").contains("label-column = \"size\""));
    // the same again, from what it wrote, and on one thread
    work.run("train --config out/run.toml --out again --quiet --threads 1").good();
    assert!(left(&work, "again") == left(&work, "out") && scores(&work, "again") == scores(&work, "out"));
    // on the command line
    let line = "train --model MODEL --json --quiet --batch-size 6 --epochs 3 --lr 5e-3 --max-length 24 --out said --tasks";
    work.run_with(
        line,
        &[
            "mood: train=train.tsv, eval=eval.tsv",
            "size: train=sizes.csv, eval=sizes.csv, text-column=said, label-column=size, head=linear",
            "names: task=tagging, train=words.conll, eval=words.conll",
        ],
    )
    .json();
    assert!(left(&work, "said") == left(&work, "out"));
    // other draws, other weights
    for how in ["uniform", "temperature=2", "capped=5"] {
        work.run(&tasks(&format!("--sampling {how} --out drawn"))).json();
        assert!(left(&work, "drawn") != left(&work, "out"), "{how}");
        assert!(work.text("drawn/run.toml").contains(&format!("sampling = \"{how}\"")));
    }
    let plain = work.run(&tasks("--out out").replace("--json --quiet", "")).good();
    assert!(
        plain.stdout.contains("names: loss ") && plain.stdout.contains("saved in out/size"),
        "{}",
        plain.stdout
    );
    assert!(plain.stderr.contains("training several tasks"), "{}", plain.stderr);
}

#[test]
fn one_adapter_serves_all_tasks() {
    let work = work();
    let report = work.run(&tasks("--shared --out out")).json();
    let metrics = &report["metrics"];
    let of = |key: &str| number(&metrics[key]);
    let mean = (of("mood_accuracy") + of("names_f1") + of("size_accuracy")) / 3.0;
    assert!((of("mean") - mean).abs() < 1e-12, "{metrics}");
    assert_eq!(metrics["tasks"]["names"]["entities"][1]["type"], "PER");
    let means: Vec<f64> =
        report["epochs"].as_array().unwrap().iter().map(|e| number(&e["metrics"]["mean"])).collect();
    assert_eq!(means.iter().copied().fold(0.0, f64::max), mean, "the best of {means:?} is saved");
    assert_eq!(scores(&work, "out"), *metrics);
    evaluates_as_reported(&work, "out");
    // the adapter is one, the heads are not
    let all = left(&work, "out");
    let same = |file: &str| all.iter().all(|files| files.get(file) == all[0].get(file));
    assert!(same("adapter.safetensors") && same("adapter_config.json") && !same("model_head.safetensors"));
    assert_eq!(
        work.names("out"),
        ["mood", "names", "report.json", "run.toml", "size"],
        "the state of a run that is over goes"
    );
    work.run("train --config out/run.toml --out again --quiet --threads 1").good();
    assert!(left(&work, "again") == left(&work, "out") && scores(&work, "again") == scores(&work, "out"));
    // what a task counts is a matter of the task
    work.edit("tasks.toml", |text| text.extend(b"task-weight = 20\n"));
    work.run(&tasks("--shared --out heavy")).json();
    assert!(left(&work, "heavy") != left(&work, "out"));
    assert!(work.text("heavy/names/run.toml").contains("task-weight = 20"));
    let plain = work.run(&tasks("--shared --out out").replace("--json --quiet", "")).good();
    for words in ["mood accuracy", "names f1", "--adapter out/mood"] {
        assert!(plain.stdout.contains(words), "{words}: {}", plain.stdout);
    }
    assert!(plain.stderr.contains("training an adapter for several tasks"), "{}", plain.stderr);
}

#[test]
fn the_best_is_best_at_what_is_asked_for() {
    let work = work();
    let best = |flags: &str, key: &str| {
        let report = work.run(&tasks(&format!("--shared --out out --epochs 6 {flags}"))).json();
        let epochs = report["epochs"].as_array().unwrap().iter();
        let all: Vec<f64> = epochs.map(|e| number(&e["metrics"][key])).collect();
        (number(&report["metrics"][key]), all)
    };
    let most = |all: &[f64]| all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let least = |all: &[f64]| all.iter().copied().fold(f64::INFINITY, f64::min);
    let (found, all) = best("--metric names.f1", "names_f1");
    assert_eq!(found, most(&all));
    let (found, all) = best("--metric size.loss", "size_loss");
    assert_eq!(found, least(&all));
    let (found, all) = best("--metric mood.loss,size.loss", "mean");
    assert_eq!(found, least(&all));
    // of each task its own
    work.edit("tasks.toml", |text| text.extend(b"metric = 'recall'\n"));
    let (found, all) = best("", "mean");
    assert_eq!(found, most(&all));
    let report: Value = serde_json::from_str(&work.text("out/report.json")).unwrap();
    let of = |key: &str| number(&report["metrics"][key]);
    let mean = (of("mood_accuracy") + of("names_recall") + of("size_accuracy")) / 3.0;
    assert!((found - mean).abs() < 1e-12);
}

#[test]
fn memory_and_caches_change_no_bits() {
    let work = work();
    for shared in ["", "--shared"] {
        work.run(&tasks(&format!("--out out --dropout 0 --layers 2-3 {shared}"))).json();
        let more = tasks(&format!("--out more --dropout 0 --layers 2-3 {shared}"));
        let refused = work.run(&format!("{more} --memory-budget 1kB"));
        let (_, rest) =
            refused.stderr.split_once("needs at least ").unwrap_or_else(|| panic!("{}", refused.stderr));
        let n: u64 = rest.split(' ').next().unwrap().parse().unwrap();
        let tight = work.run(&format!("{more} --memory-budget {n}")).json();
        assert!(left(&work, "more") == left(&work, "out"), "{shared}");
        let highest = |report: &Value| number(&report["ledger_peak_bytes"]);
        let highest = match report_of_each(&tight) {
            Some(all) => all.iter().map(highest).fold(0.0, f64::max),
            None => highest(&tight),
        };
        assert!(highest <= n as f64, "{shared}: {highest} of {n}");
        work.run(&format!("{more} --cache-prefix cache"))
            .fails(&["`cache-prefix`", "`mood` and `names` read different rows"]);
    }
    // tasks that read the same rows share what is cached
    work.write("two.toml", work.text("tasks.toml").split("[tasks.names]").next().unwrap());
    let two = tasks("--dropout 0 --layers 2-3").replace("tasks.toml", "two.toml");
    for shared in ["", "--shared"] {
        work.run(&format!("{two} {shared} --out out")).json();
        for _ in 0..2 {
            work.run(&format!("{two} {shared} --out cached --cache-prefix cache")).json();
            for name in ["mood", "size"] {
                let of = |out: &str| work.read(&format!("{out}/{name}/adapter.safetensors"));
                assert!(of("cached") == of("out"), "{shared} {name}");
            }
        }
    }
}
fn report_of_each(report: &Value) -> Option<Vec<Value>> {
    Some(report["tasks"].as_object()?.values().cloned().collect())
}

#[cfg(unix)]
#[test]
fn runs_that_are_killed_go_on_to_the_same_bits() {
    let work = work();
    let runs = [
        "--checkpoint-every 2 --eval-every 4 --patience 9 --sampling uniform",
        "--shared --checkpoint-every 3 --eval-every 2 --adapter lora[dropout=0.3] --gradient-accumulation 2",
        "--shared --dropout 0.3 --sampling temperature=2 --metric mood.loss",
    ];
    let start = |line: &str| -> Child {
        work.arguments(line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut kills = 0;
    for (n, more) in runs.iter().enumerate() {
        let line = |out: &str| tasks(&format!("--epochs 20 --max-steps 40 {more} --out {out}"));
        work.run(&line(&format!("whole{n}"))).good();
        let (out, mut wait) = (format!("killed{n}"), 200);
        let mut line = line(&out);
        loop {
            let mut run = start(&line);
            std::thread::sleep(Duration::from_millis(wait));
            let _ = run.kill();
            if run.wait().unwrap().success() {
                break;
            }
            kills += 1;
            if ["run.toml", ".run.toml"].iter().any(|f| work.path(&out).join(f).exists()) {
                line = format!("train --resume {out} --quiet --threads {}", 1 + kills % 2);
            }
            wait += wait / 3;
        }
        assert!(left(&work, &format!("whole{n}")) == left(&work, &out), "{more}");
        assert_eq!(scores(&work, &format!("whole{n}")), scores(&work, &out), "{more}");
        assert!(work.run(&format!("train --resume {out}")).good().stdout.contains("is complete"));
    }
    println!("{kills} kills");
}

#[test]
fn what_does_not_go_together_is_refused() {
    let work = work();
    let refused = |flags: &str, words: &[&str]| {
        work.run(&tasks(&format!("{flags} --out out"))).fails(words);
        assert!(work.names("out/mood").is_empty(), "{flags}");
    };
    refused("--adapter-column who", &["`tasks`", "`adapter-column`"]);
    refused("--init somewhere", &["`tasks`", "`init`"]);
    refused("--adapters a b", &["`tasks`", "`adapters`"]);
    refused("--stream", &["`tasks`", "`stream`"]);
    refused("--profile p.json", &["`tasks`", "`profile`"]);
    refused("--adapter-drop 2", &["`tasks`", "`adapter-drop`"]);
    refused("--adapter full", &["`adapter`", "full"]);
    refused("--name mine", &["`name`", "a task names its adapter"]);
    refused("--task-weight 2", &["task `mood`", "`task-weight`", "--shared"]);
    refused("--no-shuffle --sampling uniform", &["`sampling`", "proportional"]);
    refused("--shared --task-weight 0", &["`task-weight`", "above 0"]);
    refused("--shared --metric accuracy", &["`metric`", "TASK.SCORE", "mood, names, size"]);
    refused("--shared --metric mood.f1", &["`metric`", "classification computes accuracy"]);
    refused("--shared --metric mood.accuracy,size.loss", &["`metric`", "their mean says nothing"]);
    refused("--metric recall", &["`metric`", "classification computes"]);
    for needs in ["--shared", "--sampling uniform", "--task-weight 2"] {
        let option = needs.trim_start_matches('-').split(' ').next().unwrap();
        work.run(&train(&format!("{needs} --out out"))).fails(&[option, "tasks"]);
    }
    let with = |text: &str, words: &[&str]| {
        work.write("bad.toml", text);
        work.run(&tasks("--out out").replace("tasks.toml", "bad.toml")).fails(words);
    };
    with("[tasks.a]\neval = 'eval.tsv'\n", &["task `a`", "`train`"]);
    with("[tasks.a]\ntrain = 'train.tsv'\nlr = 1\n", &["task `a`", "`lr` is the same for all"]);
    with("[tasks.a]\ntrain = 'train.tsv'\nlabels = 1\n", &["task `a`", "unknown key `labels`"]);
    with("[tasks.'a/b']\ntrain = 'train.tsv'\n", &["a/b", "directory"]);
    with("[tasks]\n", &["`tasks`", "empty"]);
    with("[tasks.a]\ntrain = 'nowhere.tsv'\n", &["task `a`", "nowhere.tsv"]);
    with(
        "[tasks.a]\ntask = 'juggling'\ntrain = 'train.tsv'\n",
        &["task `a`", "`juggling`", "classification"],
    );
    with("[tasks.a]\ntrain = 'train.tsv'\nsource-prefix = 'x'\n", &["task `a`", "`source-prefix`"]);
    with("[tasks.a]\ntrain = 'sizes.csv'\nlabel-column = 'said'\n", &["task `a`", "sizes.csv"]);
    with(
        "metric = 'mean'\nshared = true\n[tasks.a]\ntrain = 'train.tsv'\nmetric = 'loss'\n",
        &["task `a`", "`metric`", "given twice"],
    );
    work.write(
        "one.toml",
        "[tasks.a]\ntrain = 'train.tsv'\n[tasks.b]\ntrain = 'train.tsv'\neval = 'eval.tsv'\n",
    );
    let one = tasks("--out few").replace("tasks.toml", "one.toml").replace("--quiet", "");
    let ran = work.run(&format!("{one} --shared")).good();
    assert!(ran.stderr.contains("nothing to evaluate `a` on"), "{}", ran.stderr);
    work.run(&format!("{one} --shared --metric a.loss")).fails(&["a.loss", "no data to evaluate"]);
    // one of them is no run by itself
    work.run(&tasks("--out out")).json();
    work.run("train --config out/mood/run.toml --out alone --quiet").fails(&[
        "`name`",
        "`mood`",
        "directory above",
    ]);
}
