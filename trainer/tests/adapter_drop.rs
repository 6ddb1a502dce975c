//! AdapterDrop: layers that go without their adapters, at run time and while training; and whose
//! results count.
mod support;
use support::*;

/// Its tensors in a layer.
fn layer(work: &Work, out: &str, layer: usize) -> Tensors {
    let mut all = work.tensors(&format!("{out}/adapter.safetensors"));
    all.retain(|name, _| name.contains(&format!(".layer.{layer}.")));
    assert!(!all.is_empty());
    all
}
fn saved(work: &Work, out: &str) -> [Vec<u8>; 2] {
    ["adapter.safetensors", "model_head.safetensors"].map(|file| work.read(&format!("{out}/{file}")))
}

#[test]
fn layers_are_skipped_at_run_time() {
    let work = Work::new();
    work.train("--adapter houlsby --lr 1e-2 --out all --eval eval.tsv");
    work.train("--adapter houlsby --lr 1e-2 --layers 2-3 --out upper --eval eval.tsv");
    let eval =
        |flags: &str| work.run(&format!("eval --model MODEL --data eval.tsv --json {flags}")).evaluation();
    // nothing is there to skip
    assert_eq!(eval("--adapter upper --skip-layers 0-1"), eval("--adapter upper"));
    assert_ne!(eval("--adapter all --skip-layers 0-1")["loss"], eval("--adapter all")["loss"]);
    // everything
    for name in ["all", "upper"] {
        let none = eval(&format!("--adapter {name} --setup None"));
        assert_eq!(eval(&format!("--adapter {name} --skip-layers 0-3")), none);
        assert_ne!(eval(&format!("--adapter {name} --skip-layers 3"))["loss"], none["loss"]);
    }
    let predict = |flags: &str| {
        work.run_with(
            &format!("predict --model MODEL --adapter all --json {flags}"),
            &["--text", "A lovely ride."],
        )
        .good()
        .stdout
    };
    assert_ne!(predict("--skip-layers 0,2"), predict(""));
    work.write("ids.json", r#"{"input_ids": [[2, 17, 11, 3], [2, 25, 3]]}"#);
    let hidden = |flags: &str| {
        work.run(&format!("forward --model MODEL --ids ids.json --out o.safetensors {flags}")).good();
        work.tensors("o.safetensors")["last_hidden_state"].clone()
    };
    assert_eq!(hidden("--adapter all --skip-layers 0-3"), hidden(""));
    assert_ne!(hidden("--adapter all --skip-layers 1"), hidden("--adapter all"));
    // one without a head
    work.copy(&work.path("all"), "bare");
    std::fs::remove_file(work.path("bare/head_config.json")).unwrap();
    assert_eq!(hidden("--adapter bare --skip-layers 1"), hidden("--adapter all --skip-layers 1"));
    for command in
        ["eval --data eval.tsv", "predict --text hello", "forward --ids ids.json --out o.safetensors"]
    {
        for adapter in ["all", "bare"] {
            let ran = work.run(&format!("{command} --model MODEL --adapter {adapter} --skip-layers 1,4"));
            if adapter == "all" || command.starts_with("forward") {
                ran.fails(&["skip-layers", "layer 4", "4 layers"]);
            }
        }
    }
    work.run("eval --model MODEL --adapter all --data eval.tsv --skip-layers 3-1")
        .misused(&["are no layers"]);
}

#[test]
fn lower_adapters_are_dropped_while_training() {
    let work = Work::new();
    // the first two layers never train, whatever the rate
    for (lr, out) in [("1e-3", "slow"), ("1e-2", "fast")] {
        work.train(&format!("--lr {lr} --adapter-drop 2-2 --out {out}"));
    }
    for l in 0..4 {
        assert_eq!(layer(&work, "slow", l) == layer(&work, "fast", l), l < 2, "layer {l}");
    }
    // with a range they do, in some steps
    work.train("--max-steps 8 --adapter-drop 3 --out some");
    work.train("--max-steps 8 --out never");
    assert_ne!(saved(&work, "some"), saved(&work, "never"));
    assert_ne!(layer(&work, "some", 0), layer(&work, "slow", 0));
    assert!(work.text("some/run.toml").contains("adapter-drop = 3\n"));
    // the run.toml repeats it to the bit, with any number of threads, and so does a cached prefix
    for threads in [1, 2] {
        work.run(&format!("train --config some/run.toml --threads {threads} --out again --quiet")).good();
        assert_eq!(saved(&work, "again"), saved(&work, "some"));
    }
    let upper = "--layers 1-3 --dropout 0 --max-steps 8 --adapter-drop 1-3";
    work.train(&format!("{upper} --out plain"));
    work.train(&format!("{upper} --cache-prefix cache --out cached"));
    assert_eq!(saved(&work, "cached"), saved(&work, "plain"));
    // steps of a profile drop too
    let profile = "profile --model MODEL --steps 2 --warmup 0 --length 8 --batch-size 2 --quiet --json";
    work.run(&format!("{profile} --adapter-drop 3-3")).json();
}

#[test]
fn a_plan_knows_what_is_dropped() {
    let work = Work::new();
    let run =
        |flags: &str, out: &str| work.run(&train(&format!("{flags} --activations f32 --out {out}"))).json();
    let peak = |report: serde_json::Value| number(&report["ledger_peak_bytes"]);
    let (all, dropped) = (peak(run("", "all")), peak(run("--adapter-drop 3-3", "dropped")));
    assert!(dropped < all, "{dropped} {all}");
    // what a plan says of them is the ledger's number to the byte
    let least = |flags: &str| {
        let ran = work.run(&train(&format!("{flags} --memory-budget 1kB --out refused")));
        let at = ran.stderr.split("needs at least ").nth(1).unwrap_or_else(|| panic!("{}", ran.stderr));
        at.split(' ').next().unwrap().parse::<f64>().unwrap()
    };
    // with so many it goes, and holds all of them but the data
    let held = |flags: &str, out: &str| {
        let n = least(flags);
        let ran = work.run(&train(&format!("{flags} --memory-budget {n} --out {out}")));
        (n, n - peak(ran.json()))
    };
    let ((all, data), (dropped, same)) = (held("", "all"), held("--adapter-drop 3-3", "dropped"));
    assert!(data > 0.0 && data < 10_000.0, "{data}");
    assert_eq!(same, data);
    assert!(dropped < all, "{dropped} {all}");
    // of a range the fewest count
    assert_eq!(least("--adapter-drop 0-3"), least(""));
}

#[test]
fn what_cannot_be_dropped_is_refused() {
    let work = Work::new();
    let refused = |flags: &str, words: &[&str]| work.run(&train(&format!("{flags} --out x"))).fails(words);
    refused("--adapter-drop 4", &["adapter-drop", "is 3", "at most 3"]);
    refused("--layers 0-1 --adapter-drop 2", &["adapter-drop", "is 1"]);
    refused("--adapter none --adapter-drop 1", &["adapter-drop", "none"]);
    refused("--adapter full --adapter-drop 1", &["adapter-drop", "full"]);
    work.run(&train("--adapter-drop 3-1")).misused(&["no number of layers"]);
    work.run("profile --model MODEL --steps 1 --length 8 --adapter-drop 4").fails(&["adapter-drop"]);
}

#[test]
fn layers_are_left_out_of_a_saved_adapter() {
    let work = Work::new();
    work.train("--adapter houlsby --lr 1e-2 --out all");
    work.train("--init all --leave-out 0,2 --lr 1e-12 --max-steps 1 --out some");
    let card: serde_json::Value = serde_json::from_str(&work.text("some/adapter_config.json")).unwrap();
    assert_eq!(card["config"]["leave_out"], serde_json::json!([0, 2]));
    let (all, some) = (work.tensors("all/adapter.safetensors"), work.tensors("some/adapter.safetensors"));
    assert_eq!(some.len() * 2, all.len());
    assert!(some.iter().all(|(name, values)| difference(values, &all[name]) < 1e-6));
    // the same as one whose layers are skipped, and the run.toml repeats it
    work.write("ids.json", r#"{"input_ids": [[2, 17, 11, 3]]}"#);
    let hidden = |flags: &str| {
        work.run(&format!("forward --model MODEL --ids ids.json --out o.safetensors {flags}")).good();
        work.tensors("o.safetensors")["last_hidden_state"].clone()
    };
    assert!(difference(&hidden("--adapter some"), &hidden("--adapter all --skip-layers 0,2")) < 1e-6);
    work.run("train --config some/run.toml --out again --quiet").good();
    assert_eq!(saved(&work, "again"), saved(&work, "some"));
    // with a new head, and once more
    work.train("--init some --head linear --leave-out 1 --out less");
    assert_eq!(work.tensors("less/adapter.safetensors").len() * 4, all.len());
    let refused = |flags: &str, words: &[&str]| work.run(&train(&format!("{flags} --out x"))).fails(words);
    refused("--init all --leave-out 4", &["leave-out", "layer 4"]);
    refused("--init all --leave-out 0-3", &["nothing to train"]);
    refused("--init all --layers 1", &["init", "layers"]);
    work.train("--adapter lora[use_rslora=True] --out peft");
    refused("--init peft --leave-out 1", &["peft/adapter_config.json", "left out"]);
}

#[test]
fn a_run_says_whose_results_count_and_everybody_follows() {
    let work = Work::new();
    for (seed, name) in [(1, "one"), (2, "two")] {
        work.train(&format!("--adapter pfeiffer --seed {seed} --lr 1e-2 --out {name}"));
    }
    let setup = ["--setup", "Average(one, two)"];
    let train = |flags: &str| {
        let line = format!(
            "train --quiet --json --model MODEL --train train.tsv --eval eval.tsv {SHORT} --adapters one two {flags}"
        );
        work.run_with(&line, &setup).json()["metrics"].clone()
    };
    let (ours, theirs) = (train("--out ours"), train("--compat adapters-1.3.0 --out theirs"));
    assert_ne!(ours["loss"], theirs["loss"], "it divides by the number of adapters once more");
    assert!(work.text("theirs/run.toml").contains("compat = \"adapters-1.3.0\"\n"));
    assert_eq!(work.eval("ours"), ours);
    assert_eq!(work.eval("theirs"), theirs);
    let eval = |flags: &str| work.run(&format!("eval --model MODEL --data eval.tsv --json {flags}"));
    let other = eval("--adapter theirs --compat documented").good();
    assert!(other.stderr.contains("--compat \"documented\" is given"), "{}", other.stderr);
    assert_ne!(other.evaluation()["loss"], theirs["loss"]);
    eval("--adapter ours --compat adapters-2").misused(&["adapters-1.3.0", "documented"]);
}
