//! Training on rows that each name their adapter: what comes out is what each of them learns by
//! itself.
mod support;
use engraft::engine::output;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    process::{Child, Stdio},
    time::Duration,
};
use support::*;

/// Adapters with the labels of their rows, and how many rows each has in a batch.
const NAMES: [(&str, [&str; 3], usize); 3] = [
    ("mood", ["good", "bad", "bad"], 2),
    ("size", ["small", "large", "none"], 1),
    ("who+2", ["1", "2", "10"], 3),
];

/// Rows of (adapter, text, label): in every six of them those that `NAMES` says, in some order.
fn rows(batches: usize) -> Vec<(&'static str, String, &'static str)> {
    let order = [[2, 0, 2, 1, 0, 2], [0, 2, 2, 0, 1, 2], [1, 0, 0, 2, 2, 2]];
    let mut texts = TRAIN.iter().chain(&EVAL).map(|(text, _)| *text).cycle();
    let mut row = |i: usize, n: usize| {
        let (name, labels, _) = NAMES[n];
        (name, format!("{} {i}", texts.next().unwrap_or_default()), labels[(i / 3 + n) % 3])
    };
    (0..batches).flat_map(|b| order[b % 3].map(|n| (b, n))).enumerate().map(|(i, (_, n))| row(i, n)).collect()
}
fn table(rows: &[(&str, String, &str)]) -> String {
    let row = |(name, text, label): &(&str, String, &str)| format!("{label}\t{name}\t{text}\n");
    format!("label\twho\ttext\n{}", rows.iter().map(row).collect::<String>())
}
/// With `rows.tsv` and `held-out.tsv`, and those of each adapter in `own/NAME.tsv` and
/// `own/NAME-held-out.tsv`.
fn work() -> Work {
    let work = Work::new();
    for (file, rows) in [("", rows(8)), ("-held-out", rows(5)[9..].to_vec())] {
        let all = if file.is_empty() {
            "rows.tsv".into()
        } else {
            file.trim_start_matches('-').to_string() + ".tsv"
        };
        work.write(&all, table(&rows));
        for (name, ..) in NAMES {
            let own: Vec<_> = rows.iter().filter(|row| row.0 == name).cloned().collect();
            work.write(&format!("own/{name}{file}.tsv"), table(&own));
        }
    }
    work
}
const MIXED: &str = "--train rows.tsv --adapter-column who";
const LONG: &str = "--batch-size 6 --epochs 2 --max-steps 99";

/// What a run leaves, without where it is and what time it took.
fn left(work: &Work, out: &str) -> BTreeMap<String, Vec<u8>> {
    let mut files = work.files(out);
    files.remove(".lock");
    files.remove("run.toml"); // names another directory
    let mut report: Value = serde_json::from_slice(&files["report.json"]).unwrap();
    for key in ["train_seconds", "tokens_per_second", "peak_rss_bytes", "ledger_peak_bytes", "out"] {
        assert!(report.as_object_mut().unwrap().remove(key).is_some(), "{key}");
    }
    report["epochs"].as_array_mut().unwrap().iter_mut().for_each(|e| e["seconds"] = Value::Null);
    files.insert("report.json".into(), report.to_string().into_bytes());
    files
}
fn all_left(work: &Work, out: &str) -> Vec<BTreeMap<String, Vec<u8>>> {
    NAMES.iter().map(|(name, ..)| left(work, &format!("{out}/{name}"))).collect()
}

#[test]
fn each_is_the_run_on_its_own_rows() {
    let work = work();
    let flags = format!("{LONG} --no-shuffle --dropout 0");
    for (n, adapter) in
        ["houlsby", "lora[r=4]", "prefix_tuning --layers 2-3", "none --head linear"].iter().enumerate()
    {
        let all = format!(
            "{flags} --adapter {adapter} --eval-every 3 --checkpoint-every 2 --gradient-accumulation 2"
        );
        let report = work.train(&format!("{MIXED} {all} --eval held-out.tsv --out out{n}"));
        assert_eq!(
            report["adapters"].as_object().unwrap().keys().collect::<Vec<_>>(),
            ["mood", "size", "who+2"]
        );
        assert_eq!(work.names(&format!("out{n}")), ["mood", "report.json", "run.toml", "size", "who+2"]);
        for (name, _, rows) in NAMES {
            let of_one = all.replace("--batch-size 6", &format!("--batch-size {rows}"));
            let own = format!("--train own/{name}.tsv --eval own/{name}-held-out.tsv --name {name}");
            work.train(&format!("{own} {of_one} --out alone"));
            let (mixed, alone) = (left(&work, &format!("out{n}/{name}")), left(&work, "alone"));
            assert!(mixed == alone, "{adapter} {name}: {:?}", mixed.keys());
        }
    }
    // what was learned is found by the names of its rows, and evaluated as while it was trained
    let line = "--model MODEL --adapters out0 --adapter-column who --quiet --json";
    let found = work.run(&format!("eval {line} --data held-out.tsv")).json();
    let report: Value = serde_json::from_str(&work.text("out0/report.json")).unwrap();
    for (name, ..) in NAMES {
        assert_eq!(found["adapters"][name], report["adapters"][name]["metrics"], "{name}");
        let alone = format!("eval --model MODEL --adapter out0/{name} --data own/{name}-held-out.tsv --json");
        assert_eq!(work.run(&alone).evaluation(), found["adapters"][name], "{name}");
    }
}

#[test]
fn threads_and_caches_change_no_bits() {
    let work = work();
    let upper = format!("{MIXED} {LONG} --eval held-out.tsv --layers 2-3");
    work.train(&format!("{upper} --out out"));
    work.train(&format!("{upper} --out again --threads 1"));
    assert!(all_left(&work, "again") == all_left(&work, "out"));
    work.run("train --config out/run.toml --out repeated --quiet").good();
    assert!(all_left(&work, "repeated") == all_left(&work, "out"));
    let dry = format!("{upper} --dropout 0");
    work.train(&format!("{dry} --out dry"));
    for _ in 0..2 {
        work.train(&format!("{dry} --out cached --cache-prefix cache"));
        assert!(all_left(&work, "cached") == all_left(&work, "dry"));
    }
    assert!(all_left(&work, "dry") != all_left(&work, "out"));
    for more in ["--backbone-compute int8", "--activations recompute", "--batch-tokens 90"] {
        let run = |threads: usize| {
            let out = format!("of-{threads}");
            let line = train(&format!("{upper} {more} --out {out} --threads {threads}"));
            let is_of_tokens = more.contains("tokens");
            work.run(&if is_of_tokens { line.replace("--batch-size 6", "") } else { line }).good();
            all_left(&work, &out)
        };
        let one = run(1);
        assert!(one == run(2), "{more}");
        assert_eq!(more.contains("recompute"), one == all_left(&work, "out"), "{more}");
    }
}

#[test]
fn the_budget_is_that_of_all_of_them() {
    let work = work();
    let flags = format!("{MIXED} {LONG} --eval held-out.tsv --max-length 16");
    // bytes of the data: what the least budget is more than what the device held
    let data = |more: &str| {
        let run = |budget: &str, out: &str| {
            let line = train(&format!("{flags} {more} {budget} --out {out}"));
            work.run(&if more.contains("tokens") { line.replace("--batch-size 6", "") } else { line })
        };
        let ran = run("--memory-budget 1kB", "refused");
        let (_, rest) = ran.stderr.split_once("needs at least ").unwrap_or_else(|| panic!("{}", ran.stderr));
        let n: u64 = rest.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(work.names("refused/mood"), [""; 0], "nothing was written");
        let tight = run(&format!("--memory-budget {n}"), "tight").json();
        let highest = |r: &Value| {
            let all = r["adapters"].as_object().unwrap().values();
            all.map(|r| number(&r["ledger_peak_bytes"])).fold(0.0, f64::max)
        };
        let free = run("", "free").json();
        assert!(highest(&free) >= highest(&tight));
        for (name, ..) in NAMES {
            let weights = |out: &str| work.read(&format!("{out}/{name}/adapter.safetensors"));
            assert!(weights("free") == weights("tight"), "{name}");
        }
        n as f64 - highest(&tight)
    };
    // all learn from every batch: to the byte
    let exact = data("--no-shuffle --gradient-accumulation 2");
    assert!((1.0..8000.0).contains(&exact), "{exact}");
    assert_eq!(exact, data("--no-shuffle --adapter lora"));
    // no more than that where some sit out batches
    let most = data("--seed 3 --batch-tokens 40 --gradient-accumulation 2");
    println!("{exact} {most}");
    assert!((exact..exact + 1e6).contains(&most), "{most}");
}

#[test]
fn rows_are_read_in_every_form_and_some_are_not_evaluated() {
    let work = work();
    let flags = "--adapter-column who --no-shuffle";
    work.train(&format!("--train rows.tsv {flags} --out out"));
    let object = |(name, text, label): &(&str, String, &str)| {
        json!({"who": name, "text": text, "label": label}).to_string() + "\n"
    };
    work.write("rows.jsonl", rows(8).iter().map(object).collect::<String>());
    work.train(&format!("--train rows.jsonl {flags} --out objects"));
    assert!(all_left(&work, "objects") == all_left(&work, "out"));
    // of one nothing is held out
    work.write("few.tsv", table(&rows(5).into_iter().filter(|row| row.0 != "size").collect::<Vec<_>>()));
    let line = train(&format!("--train rows.tsv {flags} --eval few.tsv --out few")).replace("--quiet", "");
    let ran = work.run(&line).good();
    assert!(ran.stderr.contains("no row of --eval names `size`"), "{}", ran.stderr);
    let report: Value = serde_json::from_str(&work.text("few/report.json")).unwrap();
    assert!(
        report["adapters"]["size"]["metrics"].is_null() && report["adapters"]["mood"]["metrics"].is_object()
    );
    let adapter = |out: &str| work.read(&format!("{out}/size/adapter.safetensors"));
    assert!(adapter("few") == adapter("out"));
    let said = work.run(
        &train(&format!("--train rows.tsv {flags} --eval few.tsv --out few")).replace("--json --quiet", ""),
    );
    let said = said.good().stdout;
    assert!(said.contains("mood: loss ") && said.contains("saved in few/who+2"), "{said}");
}

#[test]
fn one_that_diverges_ends_alone_and_one_that_grows_no_better_stops() {
    let work = work();
    let flags = "--batch-size 6 --epochs 9 --max-steps 99 --eval held-out.tsv --dropout 0.2 --metric loss --lr 2e-2 --patience 1";
    work.train(&format!("{MIXED} {flags} --out out"));
    let report: Value = serde_json::from_str(&work.text("out/report.json")).unwrap();
    let epochs = |name: &str| report["adapters"][name]["epochs"].as_array().unwrap().len();
    let all: Vec<usize> = NAMES.iter().map(|(name, ..)| epochs(name)).collect();
    assert!(all.iter().any(|n| *n < 9) && all.iter().any(|n| *n != all[0]), "{all:?}");
    let wild = "--lr 1e30 --batch-size 6 --epochs 2 --max-steps 99";
    work.run(&train(&format!("{MIXED} {wild} --out wild"))).fails(&["adapter `mood`", "diverged"]);
    let report: Value = serde_json::from_str(&work.text("wild/report.json")).unwrap();
    assert!(report["adapters"]["size"]["error"].as_str().unwrap().contains("diverged"));
    assert_eq!(work.names("wild/mood"), [""; 0]);
}

#[cfg(unix)]
#[test]
fn runs_that_are_killed_go_on_to_the_same_bits() {
    let rounds = std::env::var("ENGRAFT_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let work = work();
    let runs = [
        "--checkpoint-every 3 --eval held-out.tsv --eval-every 4 --patience 3 --metric loss --lr 1e-2",
        "--adapter lora[dropout=0.3] --checkpoint-every 2 --gradient-accumulation 2 --batch-size 3",
        "--adapter prompt_tuning --dropout 0.3 --eval held-out.tsv --batch-tokens 60",
    ];
    let line = |more: &str, out: &str| {
        let line = train(&format!("{MIXED} --epochs 99 --max-steps 40 {more} --out {out}"));
        if more.contains("--batch-tokens") { line.replace("--batch-size 4", "") } else { line }
    };
    for (n, more) in runs.iter().enumerate() {
        work.run(&line(more, &format!("whole{n}"))).good();
    }
    let start = |line: &str| -> Child {
        work.arguments(line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut kills = 0;
    for round in 0..rounds {
        for (n, more) in runs.iter().enumerate() {
            let out = format!("killed{n}");
            let mut line = line(more, &out);
            let mut wait = 150 + 7 * round;
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
            assert!(all_left(&work, &format!("whole{n}")) == all_left(&work, &out), "{more}");
            // behind the last of them, and in front of the report of all
            let report = work.read(&format!("{out}/report.json"));
            std::fs::remove_file(work.path(&format!("{out}/report.json"))).unwrap();
            work.run(&format!("train --resume {out} --quiet")).good();
            assert!(work.read(&format!("{out}/report.json")) == report);
            assert!(work.run(&format!("train --resume {out}")).good().stdout.contains("is complete"));
        }
    }
    println!("{kills} kills");
}

/// A kill may come between the states of the runs.
#[test]
fn one_that_stands_behind_takes_its_steps_alone() {
    let work = work();
    let flags =
        format!("{MIXED} --batch-size 4 --epochs 3 --max-steps 99 --dropout 0.3 --adapter prompt_tuning");
    work.train(&format!("{flags} --out whole"));
    work.train(&format!("{flags} --out out"));
    for name in ["mood", "who+2"] {
        // as if it had saved nothing yet
        std::fs::remove_dir_all(work.path("out").join(name)).unwrap();
        std::fs::remove_file(work.path("out/report.json")).unwrap();
        work.run("train --resume out --quiet").good();
        assert!(all_left(&work, "out") == all_left(&work, "whole"), "{name}");
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    let work = work();
    let refused = |flags: &str, words: &[&str]| {
        work.run(&train(&format!("--train rows.tsv --adapter-column who {flags} --out out"))).fails(words);
        assert!(NAMES.iter().all(|(name, ..)| work.names(&format!("out/{name}")).is_empty()), "{flags}");
    };
    refused("--variant a:lr=1", &["`adapter-column`", "`variant`"]);
    refused("--adapter full", &["`adapter`", "full", "one run"]);
    refused("--init somewhere", &["`adapter-column`", "`init`"]);
    refused("--adapters a b", &["`adapter-column`", "`adapters`"]);
    refused("--setup Stack(a,b)", &["`adapter-column`", "`setup`"]);
    refused("--stream", &["`adapter-column`", "`stream`"]);
    refused("--profile p.json", &["`adapter-column`", "`profile`"]);
    refused("--adapter-drop 2", &["`adapter-column`", "`adapter-drop`"]);
    refused("--name mine", &["`name`", "the rows name the adapters"]);
    refused("--task causal-lm", &["`adapter-column`", "`who`", "only a text"]);
    refused("--layers 9", &["layer 9"]);
    refused("--max-steps 1 --batch-size 1 --no-shuffle", &["`max-steps`", "`mood`"]);
    work.run("train --model MODEL --adapter-column who").fails(&["`adapter-column`", "`train`"]);
    work.run("profile --model MODEL --adapter-column who").fails(&["adapter-column", "engraft profile"]);
    work.run(&train("--train rows.tsv --adapter-column whom --out out")).fails(&[
        "rows.tsv",
        "`whom`",
        "--adapter-column",
    ]);

    let with = |rows: &str, words: &[&str]| {
        work.write("bad.tsv", format!("text\twho\tlabel\nA text.\ta\tx\nAnother.\ta\ty\n{rows}"));
        work.run(&train("--train bad.tsv --adapter-column who --out out")).fails(words);
    };
    with("One.\t\tx\n", &["bad.tsv:4", "the name of the adapter is empty"]);
    with("One.\t../b\tx\nTwo.\t../b\ty\n", &["bad.tsv:4", "`../b`", "directory"]);
    with("One.\trun.toml\tx\n", &["bad.tsv:4", "`run.toml`"]);
    with("One.\tb\tx\nTwo.\tb\tx\n", &["adapter `b`", "every row has the label `x`"]);
    work.write(
        "bad.jsonl",
        "{\"text\": \"a\", \"label\": 1, \"who\": \"a\"}\n{\"text\": \"b\", \"label\": 2}\n",
    );
    work.run(&train("--train bad.jsonl --adapter-column who --out out")).fails(&["bad.jsonl:2", "who"]);

    let held_out = |rows: &str, words: &[&str]| {
        work.write("eval.tsv", format!("text\twho\tlabel\n{rows}"));
        work.run(&train(&format!("{MIXED} --eval eval.tsv --out out"))).fails(words);
    };
    held_out(
        "One.\tmood\tgood\nTwo.\tmoods\tgood\n",
        &["eval.tsv:3", "no adapter `moods`", "`mood`, `size`"],
    );
    held_out("One.\tmood\tsmall\n", &["eval.tsv:2", "unknown label `small`", "`bad` and `good`"]);
    assert!(
        NAMES.iter().all(|(name, ..)| work.names(&format!("out/{name}")).is_empty()),
        "nothing was written"
    );

    let lock = output::lock(&work.path("out/size")).unwrap();
    work.run(&train(&format!("{MIXED} --out out"))).fails(&["another run", "out/size"]);
    drop(lock);
    work.train(&format!("{MIXED} --out out"));
    // one of them is no run by itself
    work.run("train --config out/mood/run.toml --out again --quiet").fails(&[
        "`name`",
        "`mood`",
        "directory above",
    ]);
}
