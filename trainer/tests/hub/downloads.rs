//! Models that are downloaded.
use super::{
    server::{COMMIT, Hub, Request, etag, is_large},
    *,
};
use std::path::PathBuf;

pub fn asking(work: &Work, hub: &Hub, line: &str) -> Command {
    let mut command = work.arguments(line);
    clean(&mut command, &work.path("home"));
    command.env("HF_ENDPOINT", &hub.endpoint);
    command
}
pub fn ask(work: &Work, hub: &Hub, line: &str) -> Ran {
    Ran::of(&mut asking(work, hub, line))
}
pub fn folder(work: &Work) -> PathBuf {
    work.path("home/hub/models--tiny--demo")
}
pub const INSPECT: &str = "inspect --model hf:tiny/demo --json";

#[test]
fn a_run_on_a_model_of_the_hub_is_the_run_on_its_directory() {
    let work = Work::new();
    let mut files = files(backbone());
    // in another form as well, and what nobody asked for
    for name in ["pytorch_model.bin", "model.onnx", "training_args.bin", "flax_model.msgpack"] {
        files.insert(name.into(), b"never asked for".to_vec());
    }
    files.insert("generation_config.json".into(), b"{}".to_vec());
    let hub = Hub::serving(files.clone());
    let line = train("--out here");
    work.run(&line).good();
    let line = train("--model hf:tiny/demo@v1 --out there");
    let ran = Ran::of(asking(&work, &hub, &line).env("HF_TOKEN", "hf_secret")).good();
    assert_eq!(ran.stderr, "");
    for name in ["adapter.safetensors", "model_head.safetensors"] {
        assert_eq!(work.tensors(&format!("here/{name}")), work.tensors(&format!("there/{name}")), "{name}");
    }
    // the token is for the hub alone
    let seen = std::mem::take(&mut hub.state().seen);
    let of_hub = |r: &Request| r.headers.get("authorization").map(String::as_str) == Some("Bearer hf_secret");
    assert!(seen.iter().all(|r| of_hub(r) != r.of_cdn) && seen.iter().any(|r| r.of_cdn), "{seen:?}");
    assert!(seen.iter().all(|r| r.of_cdn || !r.headers.contains_key("cookie")));
    // no more than is needed was asked for, and nothing twice
    let wanted = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"];
    for (name, bytes) in &files {
        let blob = etag(name, bytes);
        let gets = |r: &&Request| {
            r.method == "GET" && (r.path.ends_with(&format!("/{name}")) || r.path.contains(&blob))
        };
        let hops = if wanted.contains(&name.as_str()) { 2 } else { 0 };
        assert_eq!(seen.iter().filter(gets).count(), hops, "{name}");
    }
    // the cache is laid out as Python's
    let names = |path: PathBuf| {
        let mut names: Vec<_> =
            std::fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(folder(&work).join("snapshots").join(COMMIT)), wanted);
    let mut blobs: Vec<String> = wanted.iter().map(|name| etag(name, &files[*name])).collect();
    blobs.sort();
    assert_eq!(names(folder(&work).join("blobs")), blobs);
    for name in wanted {
        let link = folder(&work).join("snapshots").join(COMMIT).join(name);
        assert_eq!(link.read_link().unwrap(), Path::new("../../blobs").join(etag(name, &files[name])));
        assert_eq!(std::fs::read(link).unwrap(), files[name]);
    }
    assert_eq!(std::fs::read_to_string(folder(&work).join("refs/v1")).unwrap(), COMMIT);
    // what was trained knows what it was trained on
    let toml = work.text("there/run.toml");
    assert!(toml.contains("model = \"hf:tiny/demo@v1\"\n"), "{toml}");
    assert!(toml.contains(&format!("model-commit = \"{COMMIT}\"\n")), "{toml}");
    let card: serde_json::Value = serde_json::from_slice(&work.read("there/adapter_config.json")).unwrap();
    assert_eq!(card["model_name"], "tiny/demo");
    // from now on a question is enough, and without an answer the cache is
    hub.seen();
    let line = "predict --model hf:tiny/demo@v1 --adapter there --text hello --json";
    let want = work.run("predict --model MODEL --adapter here --text hello --json").json();
    assert_eq!(ask(&work, &hub, line).json(), want);
    assert_eq!(hub.seen(), ["GET /api/models/tiny/demo/revision/v1"]);
    let mut gone = asking(&work, &hub, line);
    drop(hub);
    let ran = Ran::of(&mut gone).good();
    let note = ran.stderr.lines().find(|l| l.contains("cannot be reached")).expect("a note");
    assert!(note.starts_with("note: ") && note.contains("hf:tiny/demo@v1 is taken from the cache"), "{note}");
    assert!(note.contains(COMMIT) && !ran.stderr.contains("hf_secret"), "{note}");
    assert_eq!(Ran::of(gone.arg("--quiet")).good().stderr, "");
    gone.env("HF_HUB_OFFLINE", "1").env("HF_ENDPOINT", "http://192.0.2.1");
    assert_eq!(Ran::of(&mut gone).json(), want);
}

#[test]
fn a_run_is_repeated_and_goes_on_at_its_commit() {
    let work = Work::new();
    let hub = Hub::serving(files(backbone()));
    ask(&work, &hub, &train("--model hf:tiny/demo --out out")).good();
    // the branch moves on
    hub.state().commit = "f".repeat(40);
    hub.seen();
    ask(&work, &hub, "train --config out/run.toml --out again --json --quiet").fails(&[COMMIT]);
    assert_eq!(hub.seen(), [format!("GET /api/models/tiny/demo/revision/{COMMIT}")]);
    let mut offline = asking(&work, &hub, "train --config out/run.toml --out again --json --quiet");
    Ran::of(offline.env("HF_HUB_OFFLINE", "1")).good();
    assert_eq!(work.tensors("out/adapter.safetensors"), work.tensors("again/adapter.safetensors"));
    // and a model that is named anew is a new one
    ask(&work, &hub, "train --config out/run.toml --model hf:tiny/demo --out new --json --quiet").good();
    assert!(work.text("new/run.toml").contains(&"f".repeat(40)));
    let refused =
        |flags: &str, words: &str| ask(&work, &hub, &train(flags)).fails(&["`model-commit`", words]);
    refused(&format!("--model MODEL --model-commit {COMMIT}"), "is not a model of the hub");
    refused("--model hf:tiny/demo --model-commit main", "a commit in full");
}

#[test]
fn every_command_takes_such_a_model() {
    let work = Work::new();
    language_model(&work);
    let mut model = work.files("gpt");
    model.insert("generation_config.json".into(), br#"{"max_new_tokens": 3}"#.to_vec());
    let hub = Hub::serving(model);
    let run = |line: &str| ask(&work, &hub, &line.replace(" M ", " hf:tiny/demo ")).good();
    work.write("ids.json", r#"{"input_ids": [[1, 2, 3]]}"#);
    let flags = "--task causal-lm --train text.txt --eval held-out.txt --max-steps 1 --max-length 8 --quiet";
    run(&format!("train --model M --adapter lora --out lora {flags}"));
    run(&format!("train --model M --adapter pfeiffer --out one {flags} --memory-budget 1GB"));
    run(&format!("fuse --model M --adapters one two=one --out fused {flags}"));
    for line in [
        "eval --model M --adapter lora --data held-out.txt --quiet",
        "predict --model M --adapter lora --text w1 --quiet",
        "shares --model M --adapter fused --data held-out.txt --quiet",
        "inspect --model M --adapter lora",
        "memory --model M --batch 1 --length 8 --methods lora --measure",
        "forward --model M --ids ids.json --task causal-lm --out o.safetensors",
        "generate --model M --prompt w1 --quiet",
        "profile --model M --task causal-lm --train text.txt --max-length 8 --steps 1 --warmup 0 --quiet",
        "quantize --model M --dtype int8 --out small",
        "fold --model M --adapter lora --out folded",
        "adapters convert lora --to peft --model M --out peft",
        "adapters merge --model M --adapters one --method adapterhub_linear --out merged",
    ] {
        let ran = run(line);
        assert!(
            !ran.stderr.contains("downloading") && !ran.stderr.contains("warning"),
            "{line}: {}",
            ran.stderr
        );
    }
    let generated = run("generate --model M --ids ids.json --json --quiet").json();
    assert_eq!(generated["generated"][0]["sequences"][0]["ids"].as_array().unwrap().len(), 3);
    assert!(work.path("small/generation_config.json").is_file() && !work.path("small/refs").exists());
}

#[test]
fn shards_are_fetched_with_their_index_and_another_form_is_not() {
    let work = Work::empty();
    let want = work.run("inspect --model FIXTURES/../files/model-shards --json").json();
    let mut all = files(&fixture("../files/model-shards"));
    all.retain(|name, _| name != "input.json" && name != "expected.safetensors");
    assert!(all.keys().filter(|name| is_large(name)).count() > 1, "{:?}", all.keys());
    let hub = Hub::serving(all.clone());
    let ran = ask(&work, &hub, INSPECT).good();
    assert!(ran.stderr.contains("downloading hf:tiny/demo config.json, "), "{}", ran.stderr);
    assert_eq!(ran.json(), want);
    for name in all.keys() {
        assert_eq!(
            std::fs::read(folder(&work).join("snapshots").join(COMMIT).join(name)).unwrap(),
            all[name]
        );
    }
    // without one of them it is not a model
    let shard = all.keys().find(|name| is_large(name)).unwrap();
    hub.state().files.remove(shard);
    hub.state().commit = "e".repeat(40);
    ask(&work, &hub, INSPECT).fails(&["hf:tiny/demo", &format!("has no {shard}")]);
    assert_eq!(std::fs::read_to_string(folder(&work).join("refs/main")).unwrap(), COMMIT);
}

#[test]
fn weights_are_left_alone_where_none_are_read() {
    let work = Work::empty();
    let hub = Hub::serving(small());
    ask(&work, &hub, "memory --model hf:tiny/demo --batch 1 --length 4 --methods lora --json").good();
    let of_weights = |hub: &Hub| hub.seen().iter().filter(|r| r.contains("model.safetensors")).count();
    assert_eq!(of_weights(&hub), 0);
    ask(&work, &hub, INSPECT).good();
    assert_eq!(of_weights(&hub), 2); // what it is, and where
}

#[test]
fn a_model_that_has_moved_and_one_at_another_revision_are_found() {
    let work = Work::empty();
    let hub = Hub::serving(small());
    ask(&work, &hub, "inspect --model hf:tiny/demo@refs/pr/1 --json").good();
    assert!(folder(&work).join("refs/refs/pr/1").is_file());
    ask(&work, &hub, &format!("inspect --model hf:tiny/demo@{COMMIT} --json")).good();
    assert!(!folder(&work).join("refs").join(COMMIT).exists());
}

#[test]
fn two_that_want_one_model_at_once_fetch_it_once() {
    let work = Work::empty();
    let hub = Hub::serving(small());
    let start = || {
        asking(&work, &hub, INSPECT)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
    };
    let all: Vec<_> = (0..4).map(|_| start().unwrap()).collect();
    let all: Vec<_> = all.into_iter().map(|c| Ran::from(c.wait_with_output().unwrap()).json()).collect();
    assert!(all.windows(2).all(|w| w[0] == w[1]));
    let gets = hub.seen().iter().filter(|r| r.starts_with("GET /blob/")).count();
    assert_eq!(gets, 1);
    let mut blobs = std::fs::read_dir(folder(&work).join("blobs")).unwrap();
    assert!(blobs.all(|b| !b.unwrap().file_name().to_string_lossy().contains("incomplete")));
}
