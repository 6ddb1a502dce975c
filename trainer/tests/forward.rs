//! `engraft forward` beside the reference libraries: hidden states, logits, loss and every
//! gradient, under the names that the tensors have in the directory of the adapter.
mod support;
use std::{collections::BTreeMap, path::Path};
use support::*;

/// The fixture directories of a model that hold an adapter and labels, as `FOLDER/NAME`.
fn adapters(folder: &str) -> Vec<String> {
    let at = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(folder);
    let mut names: Vec<String> = std::fs::read_dir(&at)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|d| d.join("adapter_config.json").exists())
        .filter(|d| std::fs::read_to_string(d.join("input.json")).is_ok_and(|text| text.contains("labels")))
        .map(|d| format!("{folder}/{}", d.file_name().unwrap().to_str().unwrap()))
        .collect();
    names.sort();
    assert!(names.len() > 2, "{folder}: {names:?}");
    names
}

fn check(model: &str, fixture: &str, flags: &str) {
    let work = Work::empty();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    let path = |name: &str| root.join(name).display().to_string();
    let adapter = if flags.is_empty() { format!("--adapter {}", path(fixture)) } else { flags.into() };
    let line = format!(
        "forward --model {} {adapter} --ids {}/input.json --out o.safetensors --grad",
        path(model),
        path(fixture)
    );
    work.run(&line).good();
    let (found, expected) =
        (work.tensors("o.safetensors"), tensors(&root.join(fixture).join("expected.safetensors")));
    let of = |t: &Tensors| -> BTreeMap<String, Vec<f32>> {
        t.iter().filter(|(n, _)| !n.starts_with("curve")).map(|(n, v)| (n.clone(), v.clone())).collect()
    };
    let (mut found, expected) = (of(&found), of(&expected));
    // the library knows an adapter's first norm by two names
    for (name, values) in found.clone() {
        let other = name.replace(".adapter_norm_before.", ".adapter_down.0.");
        if expected.contains_key(&other) {
            found.insert(other, values);
        }
    }
    let missing: Vec<_> = expected.keys().filter(|n| !found.contains_key(*n)).collect();
    assert!(missing.is_empty(), "{fixture}: no {missing:?} among {:?}", found.keys());
    assert!(expected.keys().any(|n| n.starts_with("grad.")) && expected.contains_key("loss"), "{fixture}");
    for (name, expected) in &expected {
        let bound = if name.starts_with("grad.") { 1e-4 } else { 1e-5 };
        let worst = difference(&found[name], expected);
        // that of a bias behind which a softmax over rows stands is nothing but rounding
        let is_zero = |of: &[f32]| name.starts_with("grad.") && of.iter().all(|x| x.abs() < 1e-6);
        assert!(
            worst < bound || is_zero(&found[name]) && is_zero(expected),
            "{fixture}: {name} is off by {worst}"
        );
    }
    let more: Vec<_> =
        found.keys().filter(|n| n.starts_with("grad.") && !expected.contains_key(*n)).collect();
    assert!(more.is_empty(), "{fixture}: nobody knows {more:?}");
}

#[test]
fn language_models_with_adapters() {
    adapters("gpt2").iter().for_each(|name| check("gpt2/model", name, ""));
}

#[test]
fn inputs_weights_and_layers() {
    for name in ["inputs", "linear", "weights"].iter().flat_map(|folder| adapters(folder)) {
        check(if name.contains("/gpt2") { "gpt2/model" } else { "bert/model" }, &name, "");
    }
}

#[test]
fn numbers_and_sets_of_labels() {
    for name in adapters("values") {
        let family = name["values/".len()..].split('-').next().unwrap();
        check(&format!("{family}/model"), &name, "");
    }
}

#[test]
fn a_language_model_by_itself() {
    check("gpt2/model", "gpt2/full", "--task causal-lm");
}

#[test]
fn encoder_decoders_with_adapters() {
    adapters("t5").iter().for_each(|name| check("t5/model", name, ""));
    check("t5/model", "t5/full", "--task seq2seq");
}

/// A decoder reads labels or its input behind the start token, if it is not told what it reads.
#[test]
fn heads_of_encoder_decoders() {
    for name in ["heads/t5-seq2seq", "heads/t5-classes"] {
        check("t5/model", name, "");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    let (work, case) = (Work::empty(), root.join("heads/t5-seq2seq"));
    let mut input: serde_json::Value =
        serde_json::from_slice(&std::fs::read(case.join("input.json")).unwrap()).unwrap();
    let forward = |work: &Work, adapter: &str| {
        work.run(&format!(
            "forward --model FIXTURES/../t5/model {adapter} --ids ids.json --out o.safetensors"
        ))
    };
    let mut without = input.clone();
    without.as_object_mut().unwrap().remove("decoder_input_ids").unwrap();
    work.write("ids.json", without.to_string());
    forward(&work, "--adapter FIXTURES/../heads/t5-seq2seq").good();
    let expected = tensors(&case.join("expected.safetensors"));
    let found = work.tensors("o.safetensors");
    for name in ["logits", "loss"] {
        assert!(difference(&found[name], &expected[name]) < 1e-5, "{name}");
    }
    input.as_object_mut().unwrap().remove("labels").unwrap();
    work.write("ids.json", input.to_string());
    forward(&work, "--adapter FIXTURES/../heads/t5-seq2seq").good();
    assert_eq!(work.tensors("o.safetensors")["logits"], found["logits"]);
    forward(&work, "").good(); // hidden states of the model by itself
    forward(&work, "--adapter FIXTURES/../heads/t5-classes")
        .fails(&["classification", "`decoder_input_ids`"]);
    let ids = &mut input["decoder_input_ids"][1];
    *ids = serde_json::json!([]);
    work.write("ids.json", input.to_string());
    forward(&work, "--adapter FIXTURES/../heads/t5-seq2seq").fails(&["ids.json", "sequence 1", "empty"]);
    without["decoder_input_ids"] = serde_json::json!([[0]]);
    work.write("ids.json", without.to_string());
    forward(&work, "--adapter FIXTURES/../heads/t5-seq2seq").fails(&["ids.json", "1 lists"]);
}

#[test]
fn low_rank_updates_of_both_libraries() {
    adapters("lora").iter().for_each(|name| check("bert/model", name, ""));
}

#[test]
fn labels_of_tokens() {
    for name in adapters("tagging") {
        let model = ["gpt2", "llama"].into_iter().find(|family| name.contains(family)).unwrap_or("bert");
        check(&format!("{model}/model"), &name, "");
    }
}

#[test]
fn starts_and_ends_of_answers() {
    for name in adapters("spans").iter().filter(|name| name.contains("/qa-")) {
        let model = ["gpt2", "t5"].into_iter().find(|family| name.contains(family)).unwrap_or("bert");
        check(&format!("{model}/model"), name, "");
    }
}

/// A directory holds the same tensors after it was loaded and saved: a classifier that PEFT put
/// beside its adapter too.
#[test]
fn what_was_loaded_is_saved_in_its_format() {
    use engraft::{
        Device,
        learner::{Backbone, Opening},
        tasks::{TaskType, Told},
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    let device = Device::cpu(1).unwrap();
    let mut classifiers = 0;
    for (model, folder) in [("bert/model", "lora"), ("gpt2/model", "gpt2")] {
        for name in adapters(folder) {
            let backbone = Backbone::open(root.join(model), &device, Opening::default()).unwrap();
            let info = backbone.model().info().clone();
            let of_head = |head: Option<&engraft::adapters::Head>| {
                let labels = head.map(|h| h.labels().to_vec()).unwrap_or_default();
                (TaskType::of_head(head.map(|h| h.config()), &info)?.known)(labels, &Told::default())
            };
            let learner = backbone.load_learner(root.join(&name), of_head).unwrap();
            let saved = tempfile::tempdir().unwrap();
            learner.save(saved.path()).unwrap();
            for file in ["adapter.safetensors", "adapter_model.safetensors", "model_head.safetensors"] {
                let (before, after) = (root.join(&name).join(file), saved.path().join(file));
                if before.exists() {
                    let mut before = tensors(&before);
                    classifiers +=
                        usize::from(before.keys().any(|n| n.starts_with("base_model.model.classifier")));
                    if file.contains("head") {
                        // a weight that a head shares with the model's table is not written twice
                        before.retain(|tensor, _| tensors(&after).contains_key(tensor));
                    }
                    assert!(before == tensors(&after), "{name}");
                }
            }
        }
    }
    assert!(classifiers > 0);
}
