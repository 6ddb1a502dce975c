//! `engraft profile` and `--profile`: the sums, the table, the trace.
mod support;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use support::*;

const QUICK: &str = "--steps 2 --warmup 1 --batch-size 3 --length 9 --json --quiet";

/// Calls of every operation of every kernel.
fn calls(summary: &Value) -> BTreeMap<String, u64> {
    let of = |k: &Value| {
        let name = format!("{} {}", k["kernel"].as_str().unwrap(), k["operation"].as_str().unwrap());
        (name, k["calls"].as_u64().unwrap())
    };
    summary["kernels"].as_array().unwrap().iter().map(of).collect()
}
fn sum(rows: &Value, key: &str) -> f64 {
    rows.as_array().unwrap().iter().map(|r| number(&r[key])).sum()
}
/// What must hold of every summary.
fn check(s: &Value, steps: u64) {
    let seconds = number(&s["seconds"]);
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} {b}");
    assert_eq!((&s["steps"], &s["left_out"]), (&json!(steps), &json!(0)));
    let inside = sum(&s["kernels"], "seconds");
    assert!(inside > 0.0 && inside <= seconds, "{inside} of {seconds}");
    near(inside + number(&s["outside_seconds"]), seconds);
    assert!(sum(&s["phases"], "seconds") <= seconds && sum(&s["places"], "seconds") <= seconds);
    for rows in ["phases", "places"] {
        for r in s[rows].as_array().unwrap() {
            assert!(number(&r["kernel_seconds"]) <= number(&r["seconds"]), "{r}");
            near(number(&r["share"]), number(&r["seconds"]) / seconds);
        }
    }
    for p in s["places"].as_array().unwrap() {
        let phases: f64 = p["phases"].as_object().unwrap().values().map(number).sum();
        near(phases, number(&p["seconds"]));
    }
    for k in s["kernels"].as_array().unwrap() {
        assert!(number(&k["roofline"]) >= 0.0 && number(&k["calls"]) > 0.0, "{k}");
    }
    assert!(number(&s["peak_gflops"]) > 0.0 && number(&s["peak_gbytes"]) > 0.0);
    let peaks: Vec<f64> = s["memory"].as_object().unwrap().values().map(|m| number(&m["peak"])).collect();
    let (most, all) = (number(&s["peak_bytes"]), peaks.iter().sum::<f64>());
    assert!(peaks.iter().all(|p| *p <= most) && most <= all, "{peaks:?} {most}");
}
fn names(rows: &Value, key: &str) -> Vec<String> {
    rows.as_array().unwrap().iter().map(|r| r[key].as_str().unwrap().to_string()).collect()
}
const PLACES: [&str; 6] = ["embeddings", "layer 0", "layer 1", "layer 2", "layer 3", "head"];

#[test]
fn calls_are_those_of_the_model_and_its_tape() {
    let work = Work::empty();
    let s = work.run(&format!("profile --adapter pfeiffer --dropout 0 {QUICK}")).json();
    check(&s, 2);
    assert_eq!(work.names(""), [""; 0], "nothing is saved");
    assert_eq!(names(&s["phases"], "phase"), ["forward", "backward", "optimiser"]);
    assert_eq!(names(&s["places"], "place"), PLACES);
    let calls = calls(&s);
    let of = |name: &str| calls[name] / 2; // two steps
    // four layers of six products and an adapter; two products in the head
    assert_eq!(of("matmul times_transposed"), 4 * 6 + 2);
    assert_eq!(of("bottleneck forward"), 4);
    // the first adapter stands at the end of layer 0: the three layers above it go back through
    // their six products, the head through its two
    assert_eq!((of("matmul times"), of("bottleneck backward")), (3 * 6 + 2, 4));
    assert_eq!(of("matmul transposed_times"), 4 * 2 + 2);
    assert_eq!((of("attention forward"), of("attention backward")), (4, 3));
    assert_eq!(of("cross_entropy forward") + of("cross_entropy backward"), 2);
    // all weights and biases at once
    assert_eq!((of("adamw step"), of("reduce dots")), (1, 1));
    let layer = |l: usize, phase: &str| s["places"][l + 1]["phases"].get(phase).map(number);
    assert!(layer(0, "forward").is_some() && layer(0, "backward").is_some());
    let bare = work.run(&format!("profile --adapter none {QUICK}")).json();
    check(&bare, 2);
    let backward: Vec<bool> =
        bare["places"].as_array().unwrap().iter().map(|p| p["phases"].get("backward").is_some()).collect();
    assert_eq!(backward, [false, false, false, false, false, true], "only the head trains");
}

#[test]
fn a_trace_nests_and_has_counters() {
    let work = Work::empty();
    let s = work.run(&format!("profile --trace t/trace.json --threads 2 {QUICK}")).json();
    let trace: Value = serde_json::from_slice(&work.read("t/trace.json")).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let of = |ph: &str| events.iter().filter(|e| e["ph"] == ph).collect::<Vec<_>>();
    let spans = of("X");
    // in nanoseconds, whole again
    let ns = |v: &Value| (number(v) * 1e3).round() as u64;
    let mut open: Vec<(u64, &str)> = vec![];
    let mut kernels = BTreeMap::<String, u64>::new();
    for e in &spans {
        assert_eq!(e["tid"], 0, "one thing after the other");
        let (begin, end) = (ns(&e["ts"]), ns(&e["ts"]) + ns(&e["dur"]));
        while open.last().is_some_and(|(until, _)| *until <= begin && begin < end) {
            open.pop();
        }
        assert!(open.last().is_none_or(|(until, _)| end <= *until), "{e} ends after what it is in");
        let around: Vec<&str> = open.iter().map(|(_, kind)| *kind).collect();
        match e["cat"].as_str().unwrap() {
            "step" => assert!(around.is_empty()),
            "phase" => assert_eq!(around, ["step"]),
            "place" => assert_eq!(around, ["step", "phase"]),
            "kernel" => {
                assert!(around.iter().all(|k| *k != "kernel"), "{e}");
                *kernels.entry(e["name"].as_str().unwrap().into()).or_default() += 1;
                assert!(number(&e["args"]["bytes"]) >= 0.0 && number(&e["args"]["flops"]) >= 0.0);
            }
            other => panic!("{other}"),
        }
        open.push((end, e["cat"].as_str().unwrap()));
    }
    assert_eq!(kernels, calls(&s));
    let counters = of("C");
    assert!(counters.len() > 100);
    let most = |class: &str| counters.iter().map(|c| c["args"][class].as_u64().unwrap()).max().unwrap();
    for class in ["backbone", "adapter", "gradient", "optimiser", "saved", "scratch"] {
        assert_eq!(s["memory"][class]["peak"], most(class), "{class}");
        assert!(most(class) > 0, "{class}");
    }
    assert!(counters.windows(2).all(|w| number(&w[0]["ts"]) <= number(&w[1]["ts"])));
    assert!(of("M").iter().any(|e| e["name"] == "process_name"));
    assert_eq!(number(&trace["otherData"]["peak_gflops"]), number(&s["peak_gflops"]));
}

#[test]
fn a_run_is_profiled_and_stays_what_it_is() {
    let work = Work::new();
    let flags = "--eval eval.tsv --max-steps 3 --batch-size 4";
    let plain = work.train(&format!("--out plain {flags}"));
    let report = work.train(&format!("--out out --profile traces/t.json {flags}"));
    assert!(plain.get("profile").is_none(), "nothing is recorded unasked");
    check(&report["profile"], 3);
    assert_eq!(report["metrics"], plain["metrics"]);
    for file in ["adapter.safetensors", "model_head.safetensors"] {
        assert!(work.read(&format!("out/{file}")) == work.read(&format!("plain/{file}")), "{file}");
    }
    let phases = names(&report["profile"]["phases"], "phase");
    assert_eq!(phases, ["forward", "backward", "optimiser", "inference"]);
    let trace: Value = serde_json::from_slice(&work.read("traces/t.json")).unwrap();
    assert!(trace["traceEvents"].as_array().unwrap().len() > 100);
    let saved: Value = serde_json::from_str(&work.text("out/report.json")).unwrap();
    assert_eq!(saved["profile"], report["profile"]);
    let said = work.run(&train("--out said --profile t.json --max-steps 1").replace("--json --quiet ", ""));
    let said = said.good().stdout;
    for words in ["% of roofline", "matmul times_transposed", "layer 3", "trace in t.json"] {
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn the_steps_of_a_saved_run_are_profiled() {
    let work = Work::new();
    let report = work.train("--out out --eval eval.tsv --max-steps 3 --gradient-accumulation 2");
    let before = work.files("out");
    let s = work.run("profile --config out/run.toml --steps 5 --warmup 0 --init out --json").json();
    check(&s, 5);
    assert!(work.files("out") == before);
    assert_eq!(calls(&s)["cross_entropy forward"], 10, "two batches in a step");
    assert_eq!(names(&s["phases"], "phase"), ["forward", "backward", "optimiser"]);
    assert!(report["profile"].is_null());
    let table = work.run("profile --steps 1 --warmup 0 --batch-size 1 --length 3").good().stdout;
    for words in
        ["machine: ", "GFLOP/s", "outside of any kernel", "outside of any phase", "layer 3", "most memory"]
    {
        assert!(table.contains(words), "{table}");
    }
}

#[test]
fn what_steps_alone_cannot_use_is_refused() {
    let work = Work::new();
    for flags in [
        "--eval eval.tsv --train train.tsv",
        "--out out",
        "--epochs 2",
        "--max-steps 2",
        "--schedule linear",
        "--warmup-ratio 0.1",
        "--warmup-steps 2",
        "--eval-every 2",
        "--eval-batch-size 2",
        "--metric loss",
        "--patience 2",
        "--profile t.json",
    ] {
        let option = flags.split(' ').next().unwrap().trim_start_matches("--");
        work.run(&format!("profile {flags}")).fails(&[&format!("`{option}` cannot be given")]);
    }
    work.run("profile --train train.tsv --length 3").fails(&["`length` and `train` exclude each other"]);
    for flags in ["--max-length 3", "--header no", "--no-shuffle"] {
        work.run(&format!("profile {flags}")).fails(&["needs `train`"]);
    }
    work.write("run.toml", "memory-budget = \"700MB\"");
    work.run("profile --config run.toml")
        .fails(&["`memory-budget` cannot be taken from the file", "--activations"]);
    std::fs::remove_file(work.path("run.toml")).unwrap();
    work.run("profile --length 999").fails(&["`length` cannot be 999", "1 to 128"]);
    work.run("profile --steps 0").misused(&["--steps"]);
    work.run("profile --length 0").misused(&["--length", "at least 1"]);
    work.run("profile --trace train.tsv/t.json").fails(&["train.tsv"]);
    std::fs::create_dir(work.path("folder")).unwrap();
    work.run("profile --trace folder").fails(&["folder", "directory"]);
    work.run(&train("--out out --profile folder")).fails(&["folder", "directory"]);
    work.run("profile --device cuda").fails(&["cuda"]);
    assert_eq!(work.names(""), ["eval.tsv", "folder", "train.tsv"]);
}
