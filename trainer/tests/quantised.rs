//! `--backbone-dtype` and `engraft quantize`, as a user runs them.
mod support;
use engraft::{
    Device, Storage,
    engine::Class,
    learner::{Backbone, Opening},
};
use serde_json::Value;
use support::*;

const QUANTISED: [&str; 2] = ["int8", "nf4"];

/// Work with the built-in backbone in `q`, quantised.
fn quantised(dtype: &str) -> Work {
    let work = Work::new();
    work.run(&format!("quantize --model MODEL --dtype {dtype} --out q")).good();
    work
}
fn inspect(work: &Work, flags: &str) -> Value {
    work.run(&format!("inspect {flags} --json")).json()
}

#[test]
fn quantize_writes_a_model_that_every_command_takes() {
    for dtype in QUANTISED {
        let work = quantised(dtype);
        assert_eq!(work.names("q"), ["config.json", "model.safetensors", "tokenizer.json"]);
        for file in ["config.json", "tokenizer.json"] {
            assert!(work.read(&format!("q/{file}")) == std::fs::read(backbone().join(file)).unwrap());
        }
        let report = work.train("--model q --eval eval.tsv --out out");
        let eval = |flags: &str| {
            work.run(&format!("eval {flags} --adapter out --data eval.tsv --json")).evaluation()
        };
        assert_eq!(eval("--model q"), report["metrics"]);
        assert_eq!(eval(&format!("--model q --backbone-dtype {dtype}")), report["metrics"]);
        assert_eq!(eval(&format!("--model MODEL --backbone-dtype {dtype}")), report["metrics"]);
        assert_ne!(eval("--model MODEL")["loss"], report["metrics"]["loss"], "{dtype} rounds");
        let text = ["--text", "A lovely ride."];
        let predict = |flags: &str| {
            work.run_with(&format!("predict {flags} --adapter out --json"), &text).json()["predictions"]
                .clone()
        };
        assert_eq!(predict("--model q"), predict(&format!("--model MODEL --backbone-dtype {dtype}")));
        // half floats too, and f32 is what it was
        for half in ["bf16", "f16"] {
            work.run(&format!("quantize --model MODEL --dtype {half} --out h")).good();
            assert_eq!(eval("--model h"), eval(&format!("--model MODEL --backbone-dtype {half}")), "{half}");
        }
        assert_eq!(eval("--model MODEL --backbone-dtype f32"), eval("--model MODEL"));
        // converted for training, it is converted again to evaluate, unless said otherwise
        let report = work.train(&format!("--backbone-dtype {dtype} --eval eval.tsv --out converted"));
        assert_eq!(work.eval("converted"), report["metrics"]);
        let plain = "eval --model MODEL --adapter converted --data eval.tsv --json --backbone-dtype f32";
        assert_ne!(work.run(plain).evaluation()["loss"], report["metrics"]["loss"], "the flag wins");
    }
}

#[test]
fn the_file_and_the_conversion_give_the_same_bits_and_the_adapters_files_do_not_tell() {
    for dtype in QUANTISED {
        let work = quantised(dtype);
        work.write(
            "ids.json",
            r#"{"input_ids": [[2, 17, 11, 90, 3], [2, 3], [2, 400, 25, 3]], "labels": [0, 1, 1]}"#,
        );
        // the host's name is the directory's: give both the same
        work.copy(backbone(), "a/model").copy(&work.path("q"), "b/model");
        let kept =
            ["adapter.safetensors", "adapter_config.json", "head_config.json", "model_head.safetensors"];
        let run = |model: &str, flags: &str, out: &str| {
            work.train(&format!("--model {model} {flags} --out {out}"));
            let line = format!("forward --model {model} {flags} --adapter {out} --ids ids.json --grad --out");
            work.run(&format!("{line} {out}.safetensors")).good();
            (work.read(&format!("{out}.safetensors")), kept.map(|f| work.read(&format!("{out}/{f}"))))
        };
        let converted = run("a/model", &format!("--backbone-dtype {dtype}"), "one");
        assert!(converted == run("b/model", "", "two"), "{dtype}");
        assert!(converted.0 != run("a/model", "", "three").0, "{dtype}");
        assert_eq!(work.names("one"), LEFT);
        let tensors = |out: &str| -> Vec<String> {
            work.tensors(&format!("{out}/adapter.safetensors")).into_keys().collect()
        };
        assert_eq!(tensors("one"), tensors("three"), "the adapter's files are as over f32");
        // the settings repeat the run
        assert!(work.text("one/run.toml").contains(&format!("backbone-dtype = \"{dtype}\"")));
        work.run("train --config one/run.toml --quiet --out again").good();
        assert!(kept.map(|f| work.read(&format!("again/{f}"))) == converted.1);
    }
}

#[test]
fn inspect_counts_the_bytes_that_are_held() {
    let work = quantised("nf4");
    let exact = inspect(&work, "--model MODEL --backbone-dtype f32"); // its files are f16
    let floats = number(&exact["storage"]["f32"]);
    assert_eq!(floats, 4.0 * number(&exact["total_parameters"]));
    for (dtype, storage, most) in [("int8", Storage::Int8, 0.27), ("nf4", Storage::Nf4, 0.15)] {
        let table = inspect(&work, &format!("--model MODEL --backbone-dtype {dtype}"));
        assert_eq!(table["total_parameters"], exact["total_parameters"], "{dtype}");
        let stored = table["storage"].as_object().unwrap();
        assert_eq!(stored.keys().collect::<Vec<_>>(), ["f32", dtype]);
        let bytes: f64 = stored.values().map(number).sum();
        assert!(bytes <= most * floats, "{dtype}: {bytes} of {floats}");
        let device = Device::cpu(1).unwrap();
        let how = Opening { storage: Some(storage), ..Opening::default() };
        let held = Backbone::open(backbone(), &device, how).unwrap();
        let usage = device.ledger().usage();
        assert_eq!(
            (usage.live(Class::Backbone) as f64, usage.live_total() as f64),
            (bytes, bytes),
            "{dtype}"
        );
        drop(held);
    }
    assert_eq!(inspect(&work, "--model q"), inspect(&work, "--model MODEL --backbone-dtype nf4"));
    let shown = work.run("inspect --model q").good().stdout;
    assert!(shown.contains("stored as f32 ") && shown.contains(", nf4 "), "{shown}");
}

#[test]
fn quantize_says_what_it_did() {
    let work = Work::empty();
    let said = work.run("quantize --model MODEL --dtype int8 --out deep/er").good().stdout;
    assert!(said.contains(" as int8: ") && said.contains("% of f32; written to deep/er"), "{said}");
    let json = work.run("quantize --model MODEL --dtype nf4 --out deep/er --json").json();
    assert_eq!((&json["dtype"], &json["out"]), (&"nf4".into(), &"deep/er".into()));
    assert!(number(&json["bytes"]) < 0.15 * number(&json["f32_bytes"]));
    assert_eq!(inspect(&work, "--model deep/er")["storage"]["int8"], Value::Null, "it was replaced");
}

#[test]
fn what_cannot_be_is_refused() {
    let work = quantised("int8");
    let weight = "tensor `bert.embeddings.word_embeddings.weight` is stored as int8";
    for command in ["inspect", "eval --adapter MODEL --data eval.tsv", "predict --adapter MODEL --text x"] {
        let words = ["model.safetensors", weight, "cannot become nf4", "the model that it was made from"];
        work.run(&format!("{command} --model q --backbone-dtype nf4")).fails(&words);
    }
    work.run(&train("--model q --backbone-dtype f32 --out out")).fails(&[weight, "cannot become f32"]);
    work.run("quantize --model q --dtype nf4 --out r").fails(&[weight, "cannot become nf4"]);
    assert!(!work.path("r").exists(), "nothing is left behind");
    // what trains is f32
    work.run(&train("--model q --adapter full --out out")).fails(&[weight, "cannot train"]);
    let full = train("--adapter full --backbone-dtype int8 --out out");
    work.run(&full).fails(&["`backbone-dtype` cannot be int8", "what trains is f32"]);
    work.run(&train("--adapter full --backbone-dtype f32 --max-steps 1 --out full")).good();
    work.write("ids.json", r#"{"input_ids": [[2, 17, 3]], "labels": [0]}"#);
    work.run(
        "forward --model full --backbone-dtype nf4 --adapter full --ids ids.json --grad --out g.safetensors",
    )
    .fails(&["`backbone-dtype` cannot be nf4", "what trains is f32"]);
    // but it can be read
    work.run("forward --model full --backbone-dtype nf4 --adapter full --ids ids.json --out g.safetensors")
        .good();

    let before = work.files("q");
    work.run("quantize --model q --dtype int8 --out q").fails(&["--out", "the model's own directory q"]);
    work.run("quantize --model q --dtype int8 --out ./deep/../q").fails(&["--out"]);
    assert!(work.files("q") == before);
    work.run("quantize --model none --dtype int8 --out r").fails(&["none"]);
    work.run("quantize --model MODEL --dtype int8 --out q/config.json/r")
        .fails(&["cannot write", "q/config.json"]);
    work.run("quantize --model MODEL --dtype int4 --out r").misused(&["int4", "int8", "nf4"]);
    work.run("quantize --model MODEL --out r").misused(&["--dtype"]);
    work.write("run.toml", "backbone-dtype = \"int3\"\n");
    work.run("train --config run.toml").fails(&["run.toml:1", "`int3`", "nf4"]);
}

#[test]
fn damaged_quantised_files_are_refused() {
    let work = quantised("nf4");
    let inspect = |words: &[&str]| work.run("inspect --model q").fails(words);
    let whole = work.read("q/model.safetensors");
    work.write("q/model.safetensors", &whole[..whole.len() - 100]);
    inspect(&["q/model.safetensors", "not a whole safetensors file"]);
    work.write("q/model.safetensors", &whole).edit("q/model.safetensors", |b| {
        let last = b.len() - 9;
        b[last] ^= 1;
    });
    inspect(&["q/model.safetensors", "do not match the checksum"]);
    // another name for the scales of one matrix, and no checksum that would tell first
    let rename = |from: &str, to: &str| {
        work.write("q/model.safetensors", &whole).edit("q/model.safetensors", |b| {
            for (from, to) in [(from, to), ("engraft.sha256", "engraft.sha999")] {
                let at = b.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
                b[at..at + to.len()].copy_from_slice(to.as_bytes());
            }
        });
    };
    let name = "bert.encoder.layer.2.output.dense.weight";
    rename(&format!("\"{name}.scale\""), &format!("\"{name}.scalf\""));
    inspect(&[&format!("tensor `{name}`"), &format!("no tensor `{name}.scale`")]);
    rename(&format!("\"{name}.range\""), &format!("\"{name}.rangf\""));
    inspect(&[&format!("tensor `{name}`"), &format!("no tensor `{name}.range`")]);
    rename(&format!("\"{name}\""), &format!("\"{}x\"", &name[..name.len() - 1]));
    inspect(&[&format!("no tensor `{name}`")]);
}
