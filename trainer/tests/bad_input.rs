//! Bad models, adapters, options and disks: each is refused in one line, and what was saved before
//! stays.
mod support;
use serde_json::{Value, json};
use std::process::{Command, Stdio};
use support::*;

/// With a copy of the built-in backbone under `model`.
fn with_model() -> Work {
    let work = Work::new();
    work.copy(backbone(), "model");
    work
}
/// A short run on that copy.
fn on_model(flags: &str) -> String {
    train(&format!("--model model --out out {flags}"))
}
/// With a trained adapter under `out`.
fn trained() -> Work {
    let work = Work::new();
    work.train("--out out");
    work
}
const PREDICT: &str = "predict --model MODEL --adapter out --text x";
/// The tiny fixture and something for it.
const FORWARD: &str = "forward --model FIXTURES/model --ids FIXTURES/plain/input.json --out o.safetensors";

#[test]
fn a_damaged_model_is_refused_and_nothing_is_written() {
    let cut = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2);
    let flip = |bytes: &mut Vec<u8>| bytes[20] ^= 0x80;
    let length = |bytes: &mut Vec<u8>| bytes[5] = 0xff;
    for damage in [&cut as &dyn Fn(&mut Vec<u8>), &flip, &length, &Vec::clear] {
        let work = with_model();
        work.edit("model/model.safetensors", damage);
        let words = ["model/model.safetensors: ", "not a whole safetensors file"];
        work.run(&on_model("")).fails(&words);
        work.run("inspect --model model").fails(&words);
        assert!(work.names("out").is_empty());
    }
}

#[test]
fn a_configuration_that_does_not_fit_the_weights_is_refused_by_name() {
    let work = with_model();
    let config: Value = serde_json::from_str(&work.text("model/config.json")).unwrap();
    for (field, value, words) in [
        ("hidden_size", json!(384), &["model.safetensors", "embeddings", "192", "384"][..]),
        ("num_hidden_layers", json!(5), &["model.safetensors", "layer.4."]),
        ("vocab_size", json!(99), &["word_embeddings", "99"]),
        ("hidden_act", json!("sine"), &["config.json", "sine"]),
        ("position_embedding_type", json!("relative_key"), &["config.json", "relative_key"]),
        ("model_type", json!("mamba"), &["config.json", "mamba"]),
        ("num_attention_heads", json!(5), &["config.json", "5"]),
        ("hidden_size", json!("wide"), &["config.json", "hidden_size"]),
    ] {
        let mut other = config.clone();
        other[field] = value;
        work.write("model/config.json", other.to_string());
        work.run(&on_model("")).fails(words);
    }
    work.write("model/config.json", "{");
    work.run(&on_model("")).fails(&["model/config.json"]);
    assert!(work.names("out").is_empty());
}

#[test]
fn what_a_model_directory_lacks_is_named() {
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        let work = with_model();
        std::fs::remove_file(work.path("model").join(file)).unwrap();
        work.run(&on_model("")).fails(&[&format!("model/{file}"), "No such file"]);
        assert!(work.names("out").is_empty());
    }
    let work = with_model();
    work.write("model/tokenizer.json", "{}");
    work.run(&on_model("")).fails(&["model/tokenizer.json: not a tokenizer"]);
    work.run("inspect --model nowhere").fails(&["nowhere"]);
    work.run("inspect --model train.tsv").fails(&["train.tsv"]);
}

#[test]
fn a_damaged_adapter_is_refused() {
    for (file, words) in [
        ("adapter.safetensors", ["out/adapter.safetensors", "checksum"]),
        ("model_head.safetensors", ["out/model_head.safetensors", "checksum"]),
    ] {
        let work = trained();
        work.edit(&format!("out/{file}"), |bytes| *bytes.last_mut().unwrap() ^= 1);
        work.run(PREDICT).fails(&words);
        work.run("inspect --model MODEL --adapter out").fails(&words);
        work.run(&train("--init out --out new")).fails(&words);
        work.edit(&format!("out/{file}"), |bytes| bytes.truncate(1000));
        work.run(PREDICT).fails(&words[..1]);
        std::fs::remove_file(work.path("out").join(file)).unwrap();
        work.run(PREDICT).fails(&words[..1]);
        assert!(work.names("new").is_empty());
    }
    for file in ["adapter_config.json", "head_config.json"] {
        let work = trained();
        work.edit(&format!("out/{file}"), |bytes| bytes.truncate(30));
        work.run(PREDICT).fails(&[&format!("out/{file}")]);
    }
    let work = Work::new();
    work.run("predict --model MODEL --adapter nowhere --text x").fails(&["nowhere"]);
    work.run("predict --model MODEL --adapter train.tsv --text x").fails(&["train.tsv"]);
}

#[test]
fn an_adapter_of_another_model_is_refused() {
    let work = Work::new();
    work.run("predict --model MODEL --adapter FIXTURES/houlsby --text x").fails(&["32", "192"]);
    work.run(&train("--init FIXTURES/houlsby --out out")).fails(&["32", "192"]);
    assert!(work.names("out").is_empty());
    work.train("--out out");
    work.run(&format!("{FORWARD} --adapter out")).fails(&["192", "32"]);
    assert!(work.names("").iter().all(|n| n != "o.safetensors"));
}

#[test]
fn an_output_directory_that_cannot_be_made_is_refused_before_any_work() {
    let work = Work::new();
    for out in ["train.tsv/out", "train.tsv"] {
        work.run(&train(&format!("--out {out}"))).fails(&["cannot write train.tsv"]);
        work.run(&format!("train --train train.tsv --out {out}")).fails(&["cannot write train.tsv"]);
    }
    work.run("train --out train.tsv/out").fails(&["cannot write train.tsv"]);
    work.run(&FORWARD.replace("o.safetensors", "train.tsv/o")).fails(&["cannot write train.tsv"]);
    assert_eq!(work.names(""), ["eval.tsv", "train.tsv"]);
    assert_eq!(work.text("train.tsv"), table("\t", &TRAIN));
}

/// With files limited to so many blocks of 512 (or 1024) bytes, as on a disk that is full.
#[cfg(unix)]
fn limited(work: &Work, blocks: usize, line: &str) -> Ran {
    work.shell(&format!("trap '' XFSZ; ulimit -f {blocks}; exec engraft {line}"))
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_checkpoint_of_before() {
    let work = Work::new();
    work.train("--out out --head linear");
    let before = work.files("out");
    // the head has room, the adapter has none
    limited(&work, 16, &train("--out out --head linear --seed 2"))
        .fails(&["cannot write out/adapter.safetensors"]);
    assert!(work.files("out") == before);
    limited(&work, 0, &train("--out out --head linear --seed 2")).fails(&["cannot write out/"]);
    assert!(work.files("out") == before);
    limited(&work, 16, &train("--out new/out --head linear"))
        .fails(&["cannot write new/out/adapter.safetensors"]);
    assert!(work.names("new/out").is_empty());
    limited(&work, 0, FORWARD).fails(&["cannot write o.safetensors"]);
    limited(&work, 100, "train --train train.tsv --out small").fails(&["cannot write small/backbone/"]);
    assert!(work.names("small/backbone").is_empty());
    assert!(work.names("").iter().all(|n| n != "o.safetensors"));
}

#[test]
fn a_run_that_diverges_says_where_and_leaves_the_checkpoint_of_before() {
    let work = trained();
    let before = work.files("out");
    work.run(&train("--out out --lr 1e30 --max-steps 5 --eval eval.tsv --batch-size 1")).fails(&[
        "training diverged at step 2",
        "loss NaN",
        "a lower learning rate may help",
    ]);
    assert!(work.files("out") == before);
}

#[test]
fn weights_that_are_not_numbers_are_never_saved() {
    let work = trained();
    let before = work.files("out");
    work.run(&train("--out out --lr 1e39 --max-steps 1 --eval eval.tsv")).fails(&[
        "diverged",
        "after step 1 ",
        "not finite",
    ]);
    assert!(work.files("out") == before);
    work.run(&train("--out out --lr 1e39 --max-steps 1")).fails(&["diverged", "after step 1 ", "not finite"]);
    assert!(work.files("out") == before);
}

#[test]
fn a_machine_without_a_gpu_says_so() {
    let work = Work::new();
    let lines =
        [train("--out out --device cuda"), "train --device cuda".into(), format!("{FORWARD} --device cuda")];
    for line in lines {
        let mut command = work.arguments(&line);
        // hides the GPU of a machine that has one
        command.env("CUDA_VISIBLE_DEVICES", "-1").env_remove("LD_LIBRARY_PATH");
        Ran::of(&mut command).fails(&["CUDA"]);
    }
    assert!(work.names("out").is_empty() && work.names("engraft-demo").is_empty());
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused() {
    let work = Work::new();
    for (line, words) in [
        ("train --rank 8", &["--rank"][..]),
        ("prune", &["prune"]),
        ("train --adapter lor", &["lor", "houlsby"]),
        ("train --layers 5-3", &["5-3"]),
        ("train --lr fast", &["--lr", "fast"]),
        ("train --epochs -1", &["--epochs", "-1"]),
        ("train --model", &["--model"]),
        ("eval --model MODEL --data eval.tsv", &["--adapter"]),
        ("eval --model MODEL --adapter a --data eval.tsv --batch-size 0", &["--batch-size"]),
        ("predict --model MODEL --adapter a", &["--text", "--input"]),
        ("predict --model MODEL --adapter a --text x --input eval.tsv", &["--text", "--input"]),
        ("inspect", &["--model"]),
        ("forward --model MODEL --ids x.json", &["--out"]),
        ("train --device tpu", &["tpu", "cpu"]),
    ] {
        work.run(line).misused(words);
    }
    assert_eq!(work.names(""), ["eval.tsv", "train.tsv"]);
}

#[test]
fn options_that_do_not_go_together_are_refused() {
    let work = Work::new();
    for (flags, words) in [
        ("--bottleneck 8 --reduction-factor 4", &["`bottleneck`", "`reduction-factor`", "exclude"][..]),
        ("--warmup-ratio 0.1 --warmup-steps 4", &["`warmup-ratio`", "`warmup-steps`"]),
        ("--layers 1 --leave-out 2", &["`layers`", "`leave-out`"]),
        ("--adapter none --bottleneck 8", &["`bottleneck`", "none"]),
        ("--patience 2", &["`patience` needs `eval`"]),
        ("--lr 0", &["`lr` cannot be 0"]),
        ("--dropout 1", &["`dropout` cannot be 1"]),
        ("--batch-size 0", &["`batch-size` cannot be 0"]),
        ("--name a.b", &["`name`", "a.b"]),
        ("--max-length 129", &["`max-length` cannot be 129", "128 positions"]),
        ("--max-length 2", &["`max-length` cannot be 2", "special tokens"]),
        ("--layers 2-4", &["`layers` cannot be layer 4", "4 layers"]),
        ("--leave-out 9", &["`leave-out` cannot be layer 9"]),
        ("--reduction-factor 8,4=2", &["`reduction-factor` cannot be layer 4"]),
        ("--non-linearity sine", &["sine"]),
        ("--bottleneck 1000000000000", &["bottleneck"]),
    ] {
        work.run(&train(&format!("--out out {flags}"))).fails(words);
        assert!(work.names("out").is_empty(), "{flags}");
    }
    work.run("train --eval eval.tsv").fails(&["`eval` needs `train`"]);
    work.run("eval --model MODEL --adapter x --data eval.tsv --max-length 129")
        .fails(&["`max-length` cannot be 129"]);
    assert!(work.names("engraft-demo").is_empty() && work.names("engraft-out").is_empty());
}

#[test]
fn a_mistake_in_a_configuration_file_is_named_with_its_line() {
    let work = Work::new();
    for (text, words) in [
        ("seed = 1\nbatch_size = 2\n", &["run.toml:2: unknown key `batch_size`", "`batch-size`"][..]),
        ("\n\nrank = 2\n", &["run.toml:3: unknown key `rank`; the keys are"]),
        ("lr = \"fast\"\n", &["run.toml:1: "]),
        ("lr = 0.1\nlr = 0.2\n", &["run.toml:2: duplicate key"]),
        ("seed = = 1\n", &["run.toml:1: "]),
        ("adapter = \"lor\"\n", &["run.toml:1: ", "lor", "houlsby"]),
        ("bottleneck = 4\nreduction-factor = 4\n", &["exclude"]),
    ] {
        work.write("run.toml", text);
        work.run("train --config run.toml").fails(words);
    }
    work.run("train --config nowhere.toml").fails(&["cannot read nowhere.toml"]);
    assert_eq!(work.names(""), ["eval.tsv", "run.toml", "train.tsv"]);
}

#[test]
fn readers_that_go_away_are_no_failure() {
    let work = trained();
    for line in ["inspect --model MODEL --adapter out", PREDICT, "--help"] {
        // the pipe is closed before the first line is written
        let line = format!("{{ sleep 0.1; engraft {line}; echo $? >&2; }} | head -c 0");
        assert_eq!(work.shell(&line).stderr.lines().last(), Some("0"));
    }
    work.shell(&format!("{{ engraft {}; }} 2>&1 | head -c 0", train("--out gone").replace("--quiet ", "")));
    assert_eq!(work.names("gone"), LEFT);
    let mut command = work.command();
    let child =
        command.arg("inspect").arg("--model").arg(backbone()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    drop(child.stdout.take());
    let left = child.wait_with_output().unwrap();
    assert!(left.status.success() && left.stderr.is_empty(), "{left:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_report_that_cannot_be_printed_is_a_failure() {
    let work = trained();
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = work.command();
    command.args(["inspect", "--model"]).arg(backbone()).stdout(full());
    let output = Command::output(&mut command).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.starts_with("error: stdout: "), "{said}");
}
