//! Several adapters at once, by the program: stacked, fused, some of them, and what is left of them
//! in a directory.
mod support;
use std::{collections::BTreeMap, path::Path};
use support::*;

/// Two saved adapters, `one` and `two`.
fn saved() -> Work {
    let work = Work::new();
    for (seed, name) in [(1, "one"), (2, "two")] {
        work.train(&format!("--adapter pfeiffer --seed {seed} --max-steps 2 --lr 1e-2 --out {name}"));
    }
    work
}
/// Every file below a directory, by its path there.
fn all(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => files.extend(all(&entry.path()).into_iter().map(|(n, b)| (format!("{name}/{n}"), b))),
            false => drop(files.insert(name, std::fs::read(entry.path()).unwrap())),
        }
    }
    files.retain(|name, _| !name.starts_with('.') && !REPORTS.contains(&name.as_str()));
    files
}
fn names(work: &Work, dir: &str) -> Vec<String> {
    all(&work.path(dir)).into_keys().collect()
}
const FUSE: &str = "fuse --model MODEL --train train.tsv --adapters one two --quiet --json";

#[test]
fn a_fusion_of_saved_adapters_is_trained_saved_and_used() {
    let work = saved();
    let report = work.run(&format!("{FUSE} {SHORT} --method attention --eval eval.tsv --out fused")).json();
    assert!(report["trainable_parameters"].as_u64().unwrap() > 0);
    assert_eq!(
        names(&work, "fused"),
        [
            "adapter_setup.json",
            "default/head_config.json",
            "default/model_head.safetensors",
            "one,two/adapter_fusion_config.json",
            "one,two/model_adapter_fusion.safetensors",
            "one/adapter.safetensors",
            "one/adapter_config.json",
            "report.json",
            "run.toml",
            "two/adapter.safetensors",
            "two/adapter_config.json",
        ]
    );
    let tensors = |file: &str| engraft::engine::Checkpoint::open(&work.path(file)).unwrap();
    let (before, after) = (tensors("one/adapter.safetensors"), tensors("fused/one/adapter.safetensors"));
    for name in before.names() {
        let shape = before.shape(name).unwrap();
        // the adapter is known by another name now
        let renamed = name.replace(".default.", ".one.");
        assert_eq!(
            before.values(name, shape).unwrap(),
            after.values(&renamed, shape).unwrap(),
            "{name} is frozen"
        );
    }
    let eval = |flags: &str| {
        work.run(&format!("eval --model MODEL --adapter fused --data eval.tsv --json --quiet {flags}"))
            .evaluation()
    };
    assert_eq!(eval("")["loss"], report["metrics"]["loss"], "what was saved is what was trained");
    let predict = |flags: &str| {
        work.run(&format!("predict --model MODEL --adapter fused --text good --json --quiet {flags}")).json()
    };
    assert_ne!(predict("--adapters one"), predict(""));
    assert_eq!(predict("--adapters one,two"), predict(""));
    assert_eq!(predict("--setup one"), predict("--setup Stack(one)"));
    let shares = |flags: &str| {
        work.run(&format!("shares --model MODEL --adapter fused --data eval.tsv --quiet {flags}"))
    };
    let found = shares("--json --picture shares.svg").json()["fusions"][0].clone();
    assert_eq!(
        (&found["fusion"], &found["adapters"]),
        (&"one,two".into(), &serde_json::json!(["one", "two"]))
    );
    let places = found["places"].as_array().unwrap();
    assert_eq!(places.len(), 4, "one for each layer");
    for place in places {
        let sum: f64 = place["shares"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-5 && place["sublayer"] == "feed-forward", "{place}");
    }
    assert_eq!(work.text("shares.svg").matches("<rect").count(), 1 + 4 * 2);
    assert!(shares("").good().stdout.contains("one,two: mean share of each adapter"));
    assert!(shares("--adapters two").good().stdout.contains("100.0 %"));
    shares("--setup one").fails(&["no fusion in `one`"]);
    let fails = |flags: &str, words: &[&str]| {
        work.run(&format!("predict --model MODEL --adapter fused --text good {flags}")).fails(words);
    };
    fails("--adapters three", &["no `three`", "`one`, `two`"]);
    work.run("predict --model MODEL --adapter fused --text good --setup Stack(one")
        .misused(&["character 10"]);
    fails("--setup Fuse(two,one)", &["no fusion `two,one`", "`one,two`"]);
    work.run("inspect --model MODEL --adapter fused").good();
}

#[test]
fn a_fusion_goes_on_where_it_was_stopped_or_saved() {
    let work = saved();
    let steps = |n: usize| {
        format!("{SHORT} --gradient-accumulation 1 --checkpoint-every 1")
            .replace("steps 2", &format!("steps {n}"))
    };
    work.run(&format!("{FUSE} {} --out whole", steps(6))).json();
    // a budget for memory chooses what is computed again, and changes no bit
    let ledger = work.run(&format!("{FUSE} {} --out other --activations recompute", steps(6))).json()["ledger_peak_bytes"].as_u64().unwrap();
    let budget = ledger + 4096; // and the data
    work.run(&format!("{FUSE} {} --out other --memory-budget {budget}", steps(6))).json();
    let without = |dir: &str| {
        let mut files = all(&work.path(dir));
        ["report.json", "run.toml"].iter().for_each(|f| drop(files.remove(*f)));
        files
    };
    assert!(without("whole") == without("other"));
    // learned further: the adapters stay frozen
    work.run(&format!(
        "train --model MODEL --train train.tsv --init whole --out more {SHORT} --quiet --json"
    ))
    .json();
    let (whole, more) = (without("whole"), without("more"));
    assert_eq!(whole.keys().collect::<Vec<_>>(), more.keys().collect::<Vec<_>>());
    for (name, bytes) in &whole {
        let trains = name.contains("fusion.safetensors") || name.contains("head.safetensors");
        assert_eq!(more[name] != *bytes, trains, "{name}");
    }
    // a run of one adapter takes the folders of the run before with it
    work.train("--adapter pfeiffer --out whole");
    assert_eq!(names(&work, "whole"), LEFT);
}

#[test]
fn joint_training_and_new_adapters_on_saved_ones() {
    let work = saved();
    work.run(&format!("{FUSE} {SHORT} --method weighted[shared=True] --joint --out joint")).json();
    let setup: serde_json::Value = serde_json::from_slice(&work.read("joint/adapter_setup.json")).unwrap();
    assert_eq!(setup["frozen"], serde_json::json!([]));
    let line = format!("train --model MODEL --train train.tsv {SHORT} --quiet --json");
    work.run(&format!("{line} --adapters lower=one --adapter houlsby --name upper --out stack")).json();
    let setup: serde_json::Value = serde_json::from_slice(&work.read("stack/adapter_setup.json")).unwrap();
    assert_eq!(setup["adapter_setup"]["type"], "Stack");
    assert_eq!(setup["frozen"], serde_json::json!(["lower"]));
    assert!(names(&work, "stack").contains(&"upper/adapter.safetensors".to_string()));
    // the head alone over an average
    let report = work
        .run_with(&format!("{line} --adapters one two --out mean"), &["--setup", "Average(one, two)"])
        .json();
    let head = report["trainable_parameters"].as_u64().unwrap();
    let alone = work.train("--adapter none --out head")["trainable_parameters"].as_u64().unwrap();
    assert_eq!(head, alone);
    for (flags, words) in [
        ("--adapters one two --setup one", &["does not name the adapter `two`"][..]),
        ("--adapters one --setup Stack(one,three)", &["no adapter `three`"]),
        ("--adapters one x=one --method gating[top_k=3]", &["`top_k` is 3", "2 adapters"]),
        ("--adapters missing", &["missing"]),
        ("--method attention", &["`fusion`", "`adapters`"]),
        ("--joint", &["`joint`", "`adapters`"]),
        ("--adapters one --init two", &["`init`", "`adapters`"]),
    ] {
        work.run(&format!("{line} --out fails {flags}")).fails(words);
    }
    work.run(&format!("{line} --adapters a.b")).misused(&["a.b", "NAME=DIR"]);
    work.run(&format!("{line} --adapters one --method nothing")).misused(&["nothing", "`attention`"]);
    work.run(&format!("fuse --model MODEL --train train.tsv {SHORT}")).fails(&["`fuse`", "`adapters`"]);
    work.train("--adapter houlsby --out three");
    work.run(&format!("{line} --adapters one three --out fails")).fails(&["`one` and `three`", "mh_adapter"]);
}
