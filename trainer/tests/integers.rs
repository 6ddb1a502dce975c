//! `--backbone-compute`: training, evaluating and predicting with frozen products in 8-bit integers.
mod support;
use serde_json::Value;
use support::*;

#[test]
fn every_mode_trains_and_is_evaluated_as_it_was_trained() {
    let work = Work::new();
    let exact = work.train("--out f32 --eval eval.tsv");
    for mode in ["int8-forward", "int8"] {
        let report = work.train(&format!("--backbone-compute {mode} --out {mode} --eval eval.tsv"));
        let loss = |r: &Value| number(&r["metrics"]["loss"]);
        let off = (loss(&report) - loss(&exact)).abs();
        assert!(off > 0.0 && off < 0.03 * loss(&exact), "{mode}: {} for {}", loss(&report), loss(&exact));
        assert!(work.text(&format!("{mode}/run.toml")).contains(&format!("backbone-compute = \"{mode}\"")));
        assert_eq!(work.eval(mode), report["metrics"], "what run.toml says");
        let line = format!("eval --model MODEL --adapter {mode} --data eval.tsv --json --backbone-compute");
        assert_eq!(work.run(&format!("{line} {mode}")).json(), report["metrics"]);
        assert_ne!(
            work.run(&format!("{line} f32")).json()["loss"],
            report["metrics"]["loss"],
            "the flag wins"
        );
        // evaluated the same way, the two modes differ in what was learnt only
        let text = format!("predict --model MODEL --adapter {mode} --text x --json");
        let one = work.run(&format!("{text} --threads 1")).good().stdout;
        assert_eq!(work.run(&format!("{text} --threads 3")).good().stdout, one);
        assert_ne!(work.run(&format!("{text} --backbone-compute f32")).good().stdout, one);
    }
    let adapter = |mode: &str| work.read(&format!("{mode}/adapter.safetensors"));
    assert!(adapter("int8") != adapter("int8-forward"), "the gradients differ");
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_any_number_of_threads() {
    let work = Work::new();
    for threads in [1, 2, 3] {
        work.train(&format!("--backbone-compute int8 --out {threads} --threads {threads}"));
        assert!(work.read("1/adapter.safetensors") == work.read(&format!("{threads}/adapter.safetensors")));
    }
    let again = work.run("train --config 1/run.toml --out again").json();
    assert!(again["train_seconds"].is_number());
    assert!(
        work.read("1/adapter.safetensors") == work.read("again/adapter.safetensors"),
        "run.toml repeats it"
    );
}

#[test]
fn every_set_of_instructions_is_close_to_the_fastest() {
    let work = Work::new();
    work.train("--out out --backbone-compute int8");
    work.write("ids.json", "{\"input_ids\": [[2, 7, 9, 30, 3], [2, 5, 3]]}");
    let line =
        "forward --model MODEL --adapter out --ids ids.json --backbone-compute int8 --out x.safetensors";
    let hidden = |ran: Ran| {
        ran.good();
        work.tensors("x.safetensors")["last_hidden_state"].clone()
    };
    let chosen = hidden(work.run(line));
    for isa in ["avx512", "avx2", "portable"] {
        let ran = Ran::of(work.arguments(line).env("ENGRAFT_KERNELS", isa));
        if !ran.stderr.contains("no such instructions") {
            // the integers are the same; norms and attention are not to the bit, and what is rounded the other way then is
            // a step of an integer off
            assert!(difference(&hidden(ran), &chosen) < 2e-2, "{isa}");
        }
    }
}

#[test]
fn what_trains_whole_is_refused() {
    let work = Work::new();
    for mode in ["int8-forward", "int8"] {
        let line = train(&format!("--adapter full --backbone-compute {mode} --out out"));
        work.run(&line).fails(&["backbone-compute", mode, "the whole backbone trains"]);
    }
    work.run(&train("--backbone-compute int4")).misused(&["int4", "int8-forward"]);
    work.train("--adapter full --out full");
    let line = "forward --model full --adapter full --ids ids.json --grad --out o.safetensors";
    work.write("ids.json", "{\"input_ids\": [[2, 3]], \"labels\": [1]}");
    work.run(&format!("{line} --backbone-compute int8")).fails(&["--backbone-compute", "whole backbone"]);
    work.run(line).good();
    assert!(work.names("out").is_empty());
}
