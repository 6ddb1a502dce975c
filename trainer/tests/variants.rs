//! Several runs over the same batches: each is the very run that it is by itself.
mod support;
use engraft::engine::output;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    process::{Child, Stdio},
    time::Duration,
};
use support::*;

/// Variants with what is their own, as arguments.
type Variants = [(&'static str, &'static str)];
const SOME: &Variants = &[
    ("slow", "lr=1e-4"),
    ("fast", "lr=4e-3, weight-decay=0.1, clip=0.5, schedule=cosine"),
    ("small", "adapter=pfeiffer, reduction-factor=8,3=4, layers=3, adapter-dropout=0.2, epochs=2"),
    ("lora", "adapter=lora[r=4,alpha=8,dropout=0.3], layers=1-3, adam-beta1=0.8, max-steps=5"),
    ("head", "adapter=none, head=linear, name=mine"),
    ("prompt", "adapter=prompt_tuning, eval-every=3, metric=loss, patience=2"),
];

fn several(work: &Work, flags: &str, variants: &Variants) -> Ran {
    let (line, all) = arguments(flags, variants);
    work.run_with(&line, &all.iter().map(String::as_str).collect::<Vec<_>>())
}
fn arguments(flags: &str, variants: &Variants) -> (String, Vec<String>) {
    let flag = |(name, own): &(&str, &str)| ["--variant".into(), format!("{name}: {own}")];
    (train(flags), variants.iter().flat_map(flag).collect())
}
/// What a run leaves, without where it is, what time it took, and what changes no bits.
fn left(work: &Work, out: &str) -> BTreeMap<String, Vec<u8>> {
    let mut files = work.files(out);
    for folder in work.names(out).into_iter().filter(|name| work.path(out).join(name).is_dir()) {
        files.extend(
            work.files(&format!("{out}/{folder}")).into_iter().map(|(f, b)| (format!("{folder}/{f}"), b)),
        );
    }
    files.remove(".lock");
    let report: Value = serde_json::from_slice(&files["report.json"]).unwrap();
    files.insert("report.json".into(), timeless(report).to_string().into_bytes());
    let settings = String::from_utf8(files["run.toml"].clone()).unwrap();
    let changes_none = ["out", "threads", "cache-prefix"];
    let lines = settings.lines().filter(|l| !changes_none.contains(&l.split(" = ").next().unwrap()));
    files.insert("run.toml".into(), lines.collect::<Vec<_>>().join("\n").into_bytes());
    files
}
fn timeless(mut report: Value) -> Value {
    let object = report.as_object_mut().unwrap();
    for key in ["train_seconds", "tokens_per_second", "peak_rss_bytes", "ledger_peak_bytes", "out"] {
        assert!(object.remove(key).is_some(), "{key}");
    }
    report["epochs"].as_array_mut().unwrap().iter_mut().for_each(|e| e["seconds"] = Value::Null);
    report
}
/// Each of them is what its own run gives.
fn equal_alone(work: &Work, flags: &str, variants: &Variants) {
    for (name, own) in variants {
        // its own flags in the place of those of all
        let own: Vec<&str> = own.split(", ").filter(|pair| !pair.is_empty()).collect();
        let is_own = |flag: &str| own.iter().any(|pair| pair.split('=').next() == flag.split(' ').next());
        let of_all = flags.trim_start_matches("--").split(" --").filter(|flag| !is_own(flag));
        let own = own.iter().map(|f| f.replacen('=', " ", 1));
        let all: String = of_all.map(String::from).chain(own).map(|f| format!("--{f} ")).collect();
        work.train(&format!("{all} --out alone"));
        assert!(left(work, "alone") == left(work, &format!("out/{name}")), "{name}: {all}");
    }
}

#[test]
fn each_is_the_run_that_it_is_by_itself() {
    let work = Work::new();
    // dropout as the model's configuration has it
    let flags = "--epochs 3 --max-steps 99 --eval eval.tsv --batch-size 3 --gradient-accumulation 2";
    let report = several(&work, &format!("{flags} --out out"), SOME).json();
    let names: Vec<&String> = report["variants"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["fast", "head", "lora", "prompt", "slow", "small"]);
    assert_eq!(report["variants"]["small"]["epochs"].as_array().unwrap().len(), 2);
    assert_eq!(
        work.names("out"),
        ["fast", "head", "lora", "prompt", "report.json", "run.toml", "slow", "small"]
    );
    equal_alone(&work, flags, SOME);
    // as it was recorded
    work.run("train --config out/lora/run.toml --out again-lora --quiet").good();
    assert!(left(&work, "again-lora") == left(&work, "out/lora"));
    // with another number of threads, from the file of all of them
    work.run("train --config out/run.toml --out again --threads 1 --quiet").good();
    for (name, _) in SOME {
        assert!(left(&work, &format!("again/{name}")) == left(&work, &format!("out/{name}")), "{name}");
    }
    work.eval("out/fast");
    work.run("predict --model MODEL --adapter out/head --text x").good();
}

#[test]
fn seeds_may_differ_where_nothing_is_shuffled() {
    let work = Work::new();
    let variants: &Variants =
        &[("a", "seed=1, layers=3"), ("b", "seed=2, layers=3"), ("c", "seed=1, layers=2")];
    let flags = "--no-shuffle --dropout 0.3";
    several(&work, &format!("{flags} --out out"), variants).good();
    equal_alone(&work, flags, variants);
    several(&work, "--out shuffled", variants).fails(&["`seed`", "no-shuffle"]);
    assert_eq!(work.names("shuffled/a"), [""; 0], "nothing was written");
}

#[test]
fn they_stream_and_cache_and_compute_in_integers() {
    let work = Work::new();
    let variants: &Variants =
        &[("a", "layers=2-3"), ("b", "layers=3, lr=1e-4"), ("c", "layers=2"), ("d", "adapter=none")];
    let upper = "--dropout 0 --epochs 3 --max-steps 99 --eval eval.tsv";
    for more in ["--stream --stream-buffer 3", "--cache-prefix cache", "--backbone-compute int8"] {
        several(&work, &format!("{upper} {more} --out out"), variants).good();
        equal_alone(&work, &format!("{upper} {}", more.replace("--cache-prefix cache", "")), variants);
    }
    assert_eq!(work.names("cache").len(), 3, "one for each layer at which somebody begins");
}

#[test]
fn the_budget_is_that_of_all_of_them_and_known_to_the_byte() {
    let work = Work::new();
    let seeds: &Variants = &[("a", "seed=1, layers=3"), ("b", "seed=2, layers=3"), ("c", "seed=1, layers=2")];
    let of_all = "--eval eval.tsv --max-steps 5 --gradient-accumulation 2 --batch-size 3";
    for (flags, variants) in [("", SOME), ("--no-shuffle", seeds)] {
        let run =
            |more: &str, out: &str| several(&work, &format!("{of_all} {flags} {more} --out {out}"), variants);
        let ran = run("--memory-budget 1kB", "refused");
        let (_, rest) = ran.stderr.split_once("needs at least ").unwrap_or_else(|| panic!("{}", ran.stderr));
        let n: u64 = rest.split(' ').next().unwrap().parse().unwrap();
        let names = work.names("refused");
        assert!(
            names.iter().all(|name| work.names(&format!("refused/{name}")).is_empty()),
            "nothing was written"
        );
        let tight = run(&format!("--memory-budget {n}"), "tight").json();
        let highest = |r: &Value| {
            let all = r["variants"].as_object().unwrap().values();
            all.map(|r| number(&r["ledger_peak_bytes"])).fold(0.0, f64::max)
        };
        let data = n as f64 - highest(&tight);
        assert!((1.0..4000.0).contains(&data), "{data} of {n}");
        let free = run("", "free").json();
        assert!(highest(&free) >= highest(&tight));
        for (name, _) in variants {
            let weights = |out: &str| work.read(&format!("{out}/{name}/model_head.safetensors"));
            assert!(weights("free") == weights("tight"), "{name}");
        }
    }
}

#[test]
fn every_task_and_composition_goes() {
    let work = Work::new();
    language_model(&work);
    let sentences =
        TRAIN.iter().map(|(text, _)| text.split(' ').map(|w| format!("{w} {}\n", &w[..1])).collect());
    work.write("words.conll", sentences.collect::<Vec<String>>().join("\n"));
    let more = "--epochs 2 --max-steps 99";
    let cases: [(String, &Variants); 2] = [
        (
            format!(
                "--model gpt --task causal-lm --train text.txt --eval held-out.txt --max-length 16 {more}"
            ),
            &[
                ("a", "adapter=lora[r=4], layers=1-2"),
                ("b", "lr=1e-2, layers=2"),
                ("c", "adapter=prefix_tuning, layers=2"),
            ],
        ),
        (
            format!("--task tagging --train words.conll --eval words.conll {more}"),
            &[("a", "layers=3"), ("b", "adapter=lora, layers=2-3"), ("c", "adapter=loreft[layers=[1]]")],
        ),
    ];
    for (flags, variants) in cases {
        several(&work, &format!("{flags} --out out"), variants).good();
        equal_alone(&work, &flags, variants);
    }
    // what stands on saved adapters
    for (name, seed) in [("one", 1), ("two", 2)] {
        work.train(&format!("--adapter pfeiffer --layers 2-3 --seed {seed} --out {name}"));
    }
    let variants: &Variants = &[
        ("attention", "adapters=['one','two']"),
        ("gating", "fusion=gating[top_k=1], adapters=['one','two']"),
        ("stack", "adapters=['one'], adapter=pfeiffer, name=top, layers=3"),
    ];
    several(&work, "--out out", variants).good();
    for (name, flags) in [
        ("attention", "--adapters one two"),
        ("gating", "--adapters one two --fusion gating[top_k=1]"),
        ("stack", "--adapters one --adapter pfeiffer --name top --layers 3"),
    ] {
        work.train(&format!("{flags} --out alone"));
        assert!(left(&work, "alone") == left(&work, &format!("out/{name}")), "{name}");
    }
}

#[test]
fn one_that_diverges_ends_alone() {
    let work = Work::new();
    let variants: &Variants = &[("good", "lr=1e-3"), ("wild", "lr=1e30")];
    let flags = "--max-steps 8 --eval eval.tsv";
    several(&work, &format!("{flags} --out out"), variants).fails(&["`wild`", "diverged"]);
    equal_alone(&work, flags, &variants[..1]);
    assert_eq!(work.names("out/wild"), [""; 0]);
    let report: Value = serde_json::from_str(&work.text("out/report.json")).unwrap();
    assert!(report["variants"]["wild"]["error"].as_str().unwrap().contains("diverged"));
    assert!(report["variants"]["good"]["metrics"].is_object());
}

#[cfg(unix)]
#[test]
fn runs_that_are_killed_go_on_to_the_same_bits() {
    let rounds = std::env::var("ENGRAFT_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let work = Work::new();
    let variants: &Variants = &[
        ("a", "lr=1e-3, checkpoint-every=3"),
        ("b", "lr=2e-3, checkpoint-every=5, layers=2-3, eval-every=4, patience=3"),
        ("c", "adapter=lora, max-steps=20"),
    ];
    let flags = "--max-steps 40 --epochs 99 --eval eval.tsv";
    several(&work, &format!("{flags} --out out"), variants).good();
    let start = |line: &str, more: &[String]| -> Child {
        work.arguments(line).args(more).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut kills = 0;
    for round in 0..rounds {
        let (mut line, mut more) = arguments(&format!("{flags} --out killed"), variants);
        let mut wait = 200 + 7 * round;
        loop {
            let mut run = start(&line, &more);
            std::thread::sleep(Duration::from_millis(wait));
            let _ = run.kill();
            if run.wait().unwrap().success() {
                break;
            }
            kills += 1;
            if kills % 3 == 2 && work.path("killed/a/state.safetensors").exists() {
                work.run("train --resume killed/a --quiet").good(); // one of them by itself
            }
            if ["run.toml", ".run.toml"].iter().any(|f| work.path("killed").join(f).exists()) {
                (line, more) = (format!("train --resume killed --quiet --threads {}", 1 + kills % 2), vec![]);
            }
            wait += wait / 3;
        }
        assert!(kills > 0);
        for (name, _) in variants {
            assert!(left(&work, &format!("out/{name}")) == left(&work, &format!("killed/{name}")), "{name}");
        }
        // behind the last of them, and in front of the report of all
        let report = work.read("killed/report.json");
        std::fs::remove_file(work.path("killed/report.json")).unwrap();
        work.run("train --resume killed --quiet").good();
        assert!(work.read("killed/report.json") == report);
        let again = work.run("train --resume killed").good();
        assert!(again.stdout.contains("is complete"), "{}", again.stdout);
    }
    println!("{kills} kills");
}

#[test]
fn what_is_shared_cannot_be_ones_own() {
    let work = Work::new();
    let refused = |own: &'static str, words: &[&str]| {
        several(&work, "--out out", &[("a", own), ("b", "")]).fails(words)
    };
    refused("batch-size=2", &["`a`", "`batch-size` is the same for all"]);
    refused("adapter=full", &["`a`", "`adapter`", "full"]);
    refused("learning=2", &["`a`", "unknown key `learning`"]);
    refused("lr=-1", &["`a`", "`lr`", "above 0"]);
    refused("lr=x", &["`a`", "f64"]);
    refused("bottleneck=4, reduction-factor=4", &["`a`", "exclude each other"]);
    refused("layers=9", &["`a`", "layer 9"]);
    several(&work, "--out out", &[("a", ""), ("a", "lr=1")]).fails(&["`variant`", "`a` twice"]);
    several(&work, "--out out --profile p.json", &[("a", "")]).fails(&["profile", "variant"]);
    work.run("profile --model MODEL --variant a:lr=1").fails(&["`variant`", "engraft profile"]);
    several(&work, "--out out", &[("../a", "")]).misused(&["../a"]);
    several(&work, "--out out", &[("a", "lr")]).misused(&["KEY=VALUE"]);
    work.write("run.toml", "[variant.a]\nlr = 1e-3\n[variant.b]\nlr = 2\nlearning = 1\n");
    work.run("train --train train.tsv --config run.toml").fails(&["`b`", "`learning`"]);
    assert_eq!(work.names("out/a"), [""; 0]);
    // while it runs nobody else writes there
    let lock = output::lock(&work.path("out/b")).unwrap();
    several(&work, "--out out", &[("a", ""), ("b", "")]).fails(&["another run", "out/b"]);
    drop(lock);
    several(&work, "--out out", &[("a", ""), ("b", "")]).good();
}
