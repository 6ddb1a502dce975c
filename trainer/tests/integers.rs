//! `--backbone-compute`: training, evaluating and predicting with frozen products in 8-bit
//! integers.
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
        assert_eq!(work.run(&format!("{line} {mode}")).evaluation(), report["metrics"]);
        assert_ne!(
            work.run(&format!("{line} f32")).evaluation()["loss"],
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
            // the integers are the same; norms and attention are not to the bit, and what is
            // rounded the other way then is a step of an integer off
            assert!(difference(&hidden(ran), &chosen) < 2e-2, "{isa}");
        }
    }
}

#[test]
fn what_trains_whole_is_refused() {
    let work = Work::new();
    for mode in ["int8-forward", "int8"] {
        let line = train(&format!("--adapter full --backbone-compute {mode} --out out"));
        work.run(&line).fails(&["backbone-compute", mode, "what trains is computed in f32"]);
    }
    work.run(&train("--backbone-compute int4")).misused(&["int4", "int8-forward"]);
    work.train("--adapter full --out full");
    let line = "forward --model full --adapter full --ids ids.json --grad --out o.safetensors";
    work.write("ids.json", "{\"input_ids\": [[2, 3]], \"labels\": [1]}");
    work.run(&format!("{line} --backbone-compute int8"))
        .fails(&["backbone-compute", "what trains is computed in f32"]);
    work.run(line).good();
    assert!(work.names("out").is_empty());
}

#[test]
fn storage_that_integers_cannot_be_read_from_is_refused_or_wins_over_run_toml() {
    let work = Work::new();
    let report = work.train("--backbone-compute int8 --backbone-dtype int8 --out out --eval eval.tsv");
    let eval = "eval --model MODEL --adapter out --data eval.tsv --json";
    assert_eq!(work.run(&format!("{eval} --backbone-dtype int8")).evaluation(), report["metrics"]);
    for dtype in ["bf16", "f16", "nf4"] {
        let words =
            ["`backbone-compute` cannot be int8", &format!("`backbone-dtype` is {dtype}"), "stored as int8"];
        let flags = format!("--backbone-dtype {dtype} --backbone-compute int8");
        work.run(&train(&format!("{flags} --out x"))).fails(&words);
        work.run(&format!("{eval} {flags}")).fails(&words);
        work.run(&format!("inspect --model MODEL {flags}")).fails(&words);
        let f32 = work.run(&format!("{eval} --backbone-dtype {dtype} --backbone-compute f32")).evaluation();
        assert_eq!(work.run(&format!("{eval} --backbone-dtype {dtype}")).evaluation(), f32);
    }
    // a model that is int8 already is taken as it is; one in nf4 is not
    work.run("quantize --model MODEL --dtype int8 --out q").good();
    let again = work.run(&format!("{} --model q", eval.replace("--model MODEL ", ""))).evaluation();
    assert_eq!(again, report["metrics"]);
    work.run("quantize --model MODEL --dtype nf4 --out n").good();
    work.run(&train("--model n --backbone-compute int8 --out x"))
        .fails(&["stored as nf4", "cannot become int8"]);
}

#[test]
fn bytes_are_counted_as_they_are_held() {
    let work = Work::empty();
    let storage =
        |flags: &str| work.run(&format!("inspect --model MODEL --json {flags}")).json()["storage"].clone();
    let (exact, integers) = (storage(""), storage("--backbone-compute int8"));
    assert!(number(&integers["int8"]) > 0.0);
    assert_eq!(exact["int8"], Value::Null);
    let line = "memory --model MODEL --batch 4 --length 16 --methods houlsby --activations f32,recompute --measure --json";
    for mode in ["int8-forward", "int8"] {
        let memory = work.run(&format!("{line} --backbone-compute {mode}")).json();
        let rows = memory["rows"].as_array().unwrap();
        assert!(rows.len() == 2 && rows.iter().all(|r| r["ledger_equals_predicted"] == true), "{memory}");
    }
}

#[test]
fn a_prefix_is_cached_for_each_arithmetic() {
    let work = Work::new();
    let flags = "--layers 2-3 --dropout 0 --epochs 2 --max-steps 4";
    for mode in ["f32", "int8", "int8-forward", "f32"] {
        work.train(&format!("{flags} --backbone-compute {mode} --out plain"));
        work.train(&format!("{flags} --backbone-compute {mode} --out cached --cache-prefix cache"));
        for file in ["adapter.safetensors", "model_head.safetensors"] {
            assert!(
                work.read(&format!("plain/{file}")) == work.read(&format!("cached/{file}")),
                "{mode}: {file}"
            );
        }
    }
}
