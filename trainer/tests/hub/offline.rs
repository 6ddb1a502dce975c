//! Models that are in the cache, without a network.
use super::*;

const COMMIT: &str = "89abcdef0123456789abcdef0123456789abcdef";

/// A model in a cache, as Python's library leaves it, under some revisions.
fn fill(work: &Work, cache: &str, files: &BTreeMap<String, Vec<u8>>, revisions: &[&str]) {
    let folder = format!("{cache}/models--tiny--demo");
    for (i, (name, bytes)) in files.iter().enumerate() {
        work.write(&format!("{folder}/blobs/{i}"), bytes);
        let link = work.path(&format!("{folder}/snapshots/{COMMIT}/{name}"));
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(format!("../../blobs/{i}"), link).unwrap();
    }
    for revision in revisions {
        work.write(&format!("{folder}/refs/{revision}"), COMMIT);
    }
}
fn offline(work: &Work, line: &str, variables: &[(&str, &str)]) -> Ran {
    let mut command = work.arguments(line);
    clean(&mut command, &work.path("home"));
    Ran::of(command.env("HF_HUB_OFFLINE", "1").envs(variables.iter().copied()))
}

#[test]
fn a_model_in_the_cache_is_found_wherever_the_cache_is() {
    let work = Work::empty();
    let want = work.run("inspect --model FIXTURES/model --json").json();
    for (cache, variables) in [
        ("home/hub", &[][..]),
        ("elsewhere", &[("HF_HUB_CACHE", "elsewhere")]),
        ("x/huggingface/hub", &[("XDG_CACHE_HOME", "x"), ("HF_HOME", "")]),
        ("user/.cache/huggingface/hub", &[("HOME", "user"), ("HF_HOME", ""), ("XDG_CACHE_HOME", "")]),
    ] {
        fill(&work, cache, &small(), &["main", "refs/pr/1"]);
        for revision in ["", "@main", "@refs/pr/1", &format!("@{COMMIT}")] {
            let line = format!("inspect --model hf:tiny/demo{revision} --json");
            assert_eq!(offline(&work, &line, variables).json(), want, "{variables:?} {revision}");
        }
        std::fs::remove_dir_all(work.path(cache)).unwrap();
    }
}

#[test]
fn what_is_not_in_the_cache_is_an_error_that_says_what_fills_it() {
    let work = Work::empty();
    let ask = |model: &str| offline(&work, &format!("inspect --model {model}"), &[]);
    let fill_it = ["`hf download tiny/demo", "`huggingface-cli download`"];
    let why = if cfg!(feature = "hub") { "HF_HUB_OFFLINE" } else { "without the feature `hub`" };
    ask("hf:tiny/demo").fails(&[&["hf:tiny/demo: it is not in the cache", why], &fill_it[..]].concat());
    ask("hf:tiny/demo@v1").fails(&["hf:tiny/demo@v1: ", "refs/v1", "`hf download tiny/demo --revision v1`"]);
    // part of it is not all of it
    let mut some = small();
    let weights = some.remove("model.safetensors").unwrap();
    fill(&work, "home/hub", &some, &["main"]);
    ask("hf:tiny/demo").fails(&[&[COMMIT, "has no model.safetensors", why], &fill_it[..]].concat());
    let shards = serde_json::json!({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}});
    let snapshot = format!("home/hub/models--tiny--demo/snapshots/{COMMIT}");
    work.write(&format!("{snapshot}/model.safetensors.index.json"), shards.to_string());
    work.write(&format!("{snapshot}/model-1.safetensors"), &weights);
    ask("hf:tiny/demo").fails(&["has no model-2.safetensors"]);
    // nor is a link that leads nowhere, or a reference to what is no commit
    std::fs::remove_file(work.path("home/hub/models--tiny--demo/blobs/0")).unwrap();
    ask("hf:tiny/demo").fails(&["has no config.json"]);
    work.write("home/hub/models--tiny--demo/refs/main", "../../..");
    ask("hf:tiny/demo").fails(&["refs/main", "this names no commit"]);
}

#[test]
fn a_configuration_is_enough_where_no_weights_are_read() {
    let work = Work::empty();
    let mut some = small();
    some.remove("model.safetensors");
    fill(&work, "home/hub", &some, &["main"]);
    work.copy(&fixture("../lora/qv"), "qv");
    offline(&work, "memory --model hf:tiny/demo --batch 2 --length 8 --methods lora --json", &[]).good();
    offline(&work, "adapters convert qv --to peft --model hf:tiny/demo --out peft", &[]).good();
    offline(&work, "memory --model hf:tiny/demo --batch 2 --length 8 --methods lora --measure", &[])
        .fails(&["has no model.safetensors"]);
}

#[test]
fn what_names_no_model_is_refused() {
    let work = Work::empty();
    for (model, words) in [
        ("hf:tiny/../demo", "hf:OWNER/NAME"),
        ("hf:tiny/demo/x", "hf:OWNER/NAME"),
        ("hf:tiny/demo@../x", "a branch, a tag or a commit"),
        ("hf:datasets/tiny/demo", "one of the hub's datasets"),
    ] {
        offline(&work, &format!("inspect --model {model}"), &[]).fails(&[model, words]);
    }
    offline(&work, "inspect --model hf:tiny/demo", &[("HF_ENDPOINT", "nowhere")])
        .fails(&["HF_ENDPOINT", "nowhere"]);
    // a directory may be called so
    work.copy(&fixture("model"), "hf:tiny");
    offline(&work, "inspect --model ./hf:tiny --json", &[]).good();
}
