//! Files as the libraries write them by default, or wrote them years ago
//! (`tests/reference/files.py`).
mod support;
use engraft_adapters::{Adapter, Head, Host};
use engraft_engine::{Checkpoint, Cx, Device, Hooks, ParamSet, Pass, Plain, Rows, Storage};
use engraft_models::{Holding, Loaded, Tokens, load_frozen};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use support::{Expected, cpu, faults::*, files::*, fixture, host_of, relative};

fn at(name: &str) -> PathBuf {
    fixture(&format!("files/{name}"))
}
fn open(family: &str, device: &Device) -> (Loaded, Host) {
    let loaded = load_frozen(&fixture(&format!("{family}/model")), device, Holding::default()).unwrap();
    let host = host_of(&*loaded.model);
    (loaded, host)
}
fn tokens(dir: &Path) -> Tokens {
    let v = json_of(&dir.join("input.json"));
    let lists = |key: &str| -> Vec<Vec<u32>> { serde_json::from_value(v[key].clone()).unwrap_or_default() };
    let mut tokens = Tokens::new(&lists("input_ids"));
    if !v["token_type_ids"].is_null() {
        tokens.types = lists("token_type_ids").concat();
    }
    tokens
}
/// Hidden states and logits of what is in a directory, which may be changed first, beside what the
/// library gave.
#[track_caller]
fn compare(name: &str, family: &str, dir: &Path) -> (Adapter, Head) {
    let device = cpu();
    let (loaded, host) = open(family, &device);
    let model = &*loaded.model;
    let adapter =
        Adapter::load_frozen(dir, &host, model.sites(), &device).unwrap_or_else(|e| panic!("{name}: {e}"));
    let head = Head::load_frozen(dir, &host, &device).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut cx = Cx::new(&device, &adapter, Pass::infer());
    let hidden = model.forward(&mut cx, &tokens(&at(name)), &Rows::All).unwrap();
    let each_token = ["tagging", "causal_lm"].contains(&head.config().head_type());
    let mut x =
        if each_token { hidden.clone() } else { cx.take_rows(&hidden, &model.info().summary).unwrap() };
    if head.config().use_pooler() {
        x = model.pool(&mut cx, &x).unwrap();
    }
    let tied = model.to_vocabulary(&mut cx, &x).unwrap().map(|(_, layer)| layer.w);
    let logits = head.forward(&mut cx, &x, 0.0, tied).unwrap().read().unwrap();
    let want = Expected::at(&at(name));
    let errors = [
        relative(&hidden.read().unwrap(), &want.get("last_hidden_state")),
        relative(&logits, &want.get("logits")),
    ];
    assert!(errors.iter().all(|e| *e < 1e-5), "{name}: {errors:?}");
    drop(cx);
    (adapter, head)
}
/// A copy of a directory in which `edit` has changed a JSON file.
fn changed(name: &str, file: &str, edit: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(at(name)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let mut v = json_of(&dir.path().join(file));
    edit(&mut v);
    std::fs::write(dir.path().join(file), v.to_string()).unwrap();
    dir
}

#[test]
fn adapters_and_heads_compute_what_the_library_makes_of_their_files() {
    for name in ["bin", "bin-norm", "of-2020", "string", "string-fields", "no-config"] {
        let (_, head) = compare(name, "bert", &at(name));
        assert_eq!(head.labels(), ["x", " y"], "{name}: blanks belong to a label");
    }
    compare("peft-bin", "bert", &at("peft-bin"));
}

#[test]
fn heads_of_transformers_own_models_are_taken_over() {
    for (name, family, labels) in [
        ("bert-class", "bert", 2),
        ("bert-tags", "bert", 5),
        ("gpt2-class", "gpt2", 3),
        ("gpt2-lm", "gpt2", 0),
    ] {
        let (adapter, head) = compare(name, family, &at(name));
        assert_eq!((head.labels().len(), head.name()), (labels, "task"), "{name}");
        // they are saved as AdapterHub's, and read again
        let (dir, host) = (tempfile::tempdir().unwrap(), open(family, &cpu()).1);
        adapter.save(dir.path(), &host).unwrap();
        head.save(dir.path(), &host).unwrap();
        let (_, again) = compare(name, family, dir.path());
        assert_eq!(again.labels(), head.labels());
    }
    let head = |edit: &dyn Fn(&mut Value)| {
        Head::load_frozen(changed("bert-class", "head_config.json", edit).path(), &support::host(), &cpu())
    };
    let names = |h: Head| h.labels().to_vec();
    assert_eq!(names(head(&|v| v["label2id"] = Value::Null).unwrap()), ["LABEL_0", "LABEL_1"]);
    let other = head(&|v| v["model_class"] = json!("BertForNextSentencePrediction"));
    says(
        other.map_err(|e| e.to_string()),
        &[
            "head_config.json",
            "`BertForNextSentencePrediction` is not known",
            "BertForSequenceClassification",
        ],
    );
}

#[test]
fn an_adapter_without_a_head_has_hidden_states() {
    let device = cpu();
    let (loaded, host) = open("bert", &device);
    let dir = at("no-head");
    let adapter = Adapter::load_frozen(&dir, &host, loaded.model.sites(), &device).unwrap();
    assert!(Head::find(&dir, &host, &device, &mut ParamSet::new()).unwrap().is_none());
    let mut cx = Cx::new(&device, &adapter, Pass::infer());
    let hidden = loaded.model.forward(&mut cx, &tokens(&dir), &Rows::All).unwrap().read().unwrap();
    assert!(relative(&hidden, &Expected::at(&dir).get("last_hidden_state")) < 1e-5);
}

fn hidden(dir: &Path, hooks: &dyn Hooks, how: Holding) -> Vec<f32> {
    let device = cpu();
    let model = load_frozen(dir, &device, how).unwrap_or_else(|e| panic!("{e}")).model;
    let mut cx = Cx::new(&device, hooks, Pass::infer());
    model.forward(&mut cx, &tokens(dir), &Rows::All).unwrap().read().unwrap()
}
#[test]
fn models_are_read_from_the_files_before_safetensors() {
    for name in ["model-bin", "model-shards"] {
        let want = Expected::at(&at(name)).get("last_hidden_state");
        for (storage, most) in [(None, 1e-5), (Some(Storage::Bf16), 0.05)] {
            let how = Holding { storage, ..Holding::default() };
            let e = relative(&hidden(&at(name), &Plain, how), &want);
            assert!(e < most, "{name} {storage:?}: {e:.1e}");
        }
        // the weights train as well
        let mut set = ParamSet::new();
        let loaded = engraft_models::load_trained(&at(name), &cpu(), &mut set).unwrap();
        assert_eq!(loaded.unused, ["classifier.bias", "classifier.weight"]);
        assert_eq!(loaded.unread, [""; 0], "fields of old versions are known");
        // a file of safetensors beside it counts first
        let dir = changed(name, "config.json", |_| ());
        std::fs::write(dir.path().join("model.safetensors"), "x").unwrap();
        says(try_model(dir.path()), &["model.safetensors", "not a whole"]);
    }
    let shards = Checkpoint::open(&at("model-shards")).unwrap();
    let whole = Checkpoint::open(&at("model-bin")).unwrap();
    assert!(
        shards.names().count() == whole.names().count()
            && shards.path().ends_with("pytorch_model.bin.index.json")
    );
    // what a field is that is not there
    let dir = changed("model-bin", "config.json", |v| drop(v.as_object_mut().unwrap().remove("vocab_size")));
    says(try_model(dir.path()), &["word_embeddings", "[30522, 16]"]);
    let dir = changed("model-bin", "config.json", |v| v["architectures"] = json!(["BertweetModel"]));
    says(try_model(dir.path()), &["config.json", "`model_type`", "supported: bert"]);
}

#[test]
fn tensors_of_torch_save_are_what_they_were() {
    let want = Checkpoint::open(&at("torch/contiguous.safetensors")).unwrap();
    for file in ["zip.bin", "legacy.bin", "protocol4.bin"] {
        let got = Checkpoint::open(&at("torch").join(file)).unwrap();
        assert!(got.names().eq(want.names()), "{file}");
        for name in want.names() {
            assert_eq!(got.shape(name), want.shape(name), "{file} {name}");
        }
        // names, types, shapes and values
        assert_eq!(got.fingerprint(), want.fingerprint(), "{file}");
        assert_eq!(got.integers("long", &[6]).unwrap(), [-3, -2, -1, 0, 1, 2]);
        assert!(got.values("double", &[1, 8]).is_ok_and(|v| v == want.values("double", &[1, 8]).unwrap()));
        says(got.values("long", &[6]).map_err(|e| e.to_string()), &[file, "`long` is I64"]);
        says(got.values("transposed", &[6, 8]).map_err(|e| e.to_string()), &["[8, 6]", "[6, 8]"]);
    }
    for (file, words) in [
        ("more.bin", &["`epoch` is not a tensor"][..]),
        ("list.bin", &["no dictionary of tensors"]),
        ("expanded.bin", &["`weight` of shape [1000, 1000] is larger"]),
        ("negated.bin", &["conjugated or negated"]),
        ("module.bin", &["`torch.nn.modules.linear.Linear`", "nothing in it is executed"]),
        ("sparse.bin", &["_rebuild_sparse_tensor"]),
    ] {
        says(try_checkpoint(&at("torch").join(file)), &[words, &[file]].concat());
    }
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes, words) in [
        ("empty.bin", &b""[..], "not the whole"),
        ("text.bin", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"),
        ("text.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"),
        ("evil.bin", b"\x80\x02cos\nsystem\nq\x00X\x02\x00\x00\x00lsq\x01\x85R.", "`os.system`"),
        ("nest.bin", &[&b"\x80\x02"[..], &b"]".repeat(1 << 20)[..]].concat(), "far more of itself"),
        (
            "deep.bin",
            &[&b"\x80\x02]"[..], &b"\x85".repeat(1 << 20)[..], b"."].concat(),
            "that torch.save did not write",
        ),
    ] {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        says(try_checkpoint(&path), &[name, words]);
    }
}

#[test]
fn names_with_something_in_front_are_pointed_out() {
    let model = ModelFiles::fixture();
    for (prefix, more) in
        [("module.", "module."), ("0.auto_model.", "0.auto_model."), ("model.bert.", "model.")]
    {
        let named = |n: &str| Some(format!("{prefix}{}", n.trim_start_matches("bert.")));
        let dir = model.named(named).write();
        says(try_model(dir.path()), &["no tensor", "word_embeddings", &format!("begin with `{more}`")]);
    }
    // its own name in front, or not, is as good for transformers
    try_model(model.named(|n| Some(n.trim_start_matches("bert.").into())).write().path()).unwrap();
    let file = "adapter.safetensors";
    let rename = |prefix: &'static str| {
        move |t: &mut Tensors| *t = t.iter().map(|(n, v)| (format!("{prefix}{n}"), v.clone())).collect()
    };
    says(
        try_adapter(retensored(file, rename("module.")).path()).map(drop),
        &[file, "no tensor", "begin with `module.`"],
    );
    let dir = changed("peft-bin", "adapter_config.json", |_| ());
    let tensors = tensors(&dir.path().join("adapter_model.bin"));
    let short = tensors.iter().map(|(n, v)| (n.replace("base_model.model.", ""), v.clone())).collect();
    std::fs::write(dir.path().join("adapter_model.safetensors"), safetensors(&short)).unwrap();
    says(try_adapter(dir.path()).map(drop), &["adapter_model.safetensors", "lack `base_model.model.`"]);
}

#[test]
fn what_older_adapters_say_is_understood_or_refused_by_name() {
    let adapter = |name: &str, edit: &dyn Fn(&mut Value)| {
        try_adapter(changed(name, "adapter_config.json", edit).path()).map(drop)
    };
    // invertible adapters: a task adapter never had them, a language adapter does
    says(
        adapter("of-2020", &|v| v["type"] = json!("text_lang")),
        &["no tensor", "invertible_adapters.", "F.0.weight"],
    );
    let lang = |v: &mut Value| {
        (v["type"], v["config"]["invertible_adapter"]) = (json!("text_lang"), json!({"a": 1}))
    };
    says(adapter("of-2020", &lang), &["`invertible_adapter` is {\"a\":1}", "`block_type`"]);
    says(adapter("string", &|v| v["config"] = json!("pfeiffer+inv")), &["invertible_adapters."]);
    adapter("string", &|v| (v["config"], v["type"]) = (json!("seq_bn_inv"), json!("text_task"))).unwrap();
    says(
        adapter("string", &|v| v["config"] = json!("mtl_lora")),
        &["`mtl_lora` is not the name of a method"],
    );
    says(adapter("string", &|v| v["config"] = json!("pfeiffer[")), &["adapter_config.json", "found the end"]);
    says(adapter("string", &|v| v["config"] = json!(3)), &["`config` is 3"]);
    says(adapter("of-2020", &|v| v["config"]["some_field"] = json!(1)), &["unknown field `some_field`"]);
    // gelu was another one before there were versions
    compare("of-2020", "bert", changed("of-2020", "adapter_config.json", |_| ()).path());
    let dir = changed("of-2020", "adapter_config.json", |v| {
        (v["version"], v["config"]["non_linearity"]) = (json!("adapters.1.3.0"), json!("gelu_new"));
    });
    compare("of-2020", "bert", dir.path());
}

#[test]
fn peft_types_that_are_not_supported_are_named() {
    for kind in ["ADALORA", "OFT", "DORA"] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("adapter_config.json"), json!({"peft_type": kind}).to_string())
            .unwrap();
        says(
            try_adapter(dir.path()).map(drop),
            &["adapter_config.json", &format!("PEFT's {kind} is not supported yet")],
        );
    }
    for (config, names) in [
        (
            json!({"peft_type": "LORA", "target_modules": ["query"]}),
            ["adapter_model.safetensors", "`adapter_model.bin`"],
        ),
        (json!({"name": "a", "config": "pfeiffer"}), ["adapter.safetensors", "`pytorch_adapter.bin`"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("adapter_config.json"), config.to_string()).unwrap();
        says(try_adapter(dir.path()).map(drop), &["No such file", names[0], names[1]]);
    }
}

#[test]
fn numbers_of_labels_may_be_texts() {
    let head = |map: Value| {
        let dir = changed("bin", "head_config.json", |v| v["config"]["label2id"] = map);
        try_head(dir.path()).map(|h| h.labels().to_vec())
    };
    assert_eq!(head(json!({"b ": "0", " a": " 1"})).unwrap(), ["b ", " a"]);
    assert_eq!(head(json!({"b": 0.0, "a": 1})).unwrap(), ["b", "a"]);
    for (map, what) in [
        (json!({"a": "0", "b": "one"}), "`b` the number \"one\""),
        (json!({"a": 0, "b": 0.5}), "`b` the number 0.5"),
        (json!({"a": 0, "b": -1}), "`b` the number -1"),
        (json!({"a": 0, "b": null}), "`b` the number null"),
        (json!({"a": "0", "b": "0"}), "taken"),
    ] {
        says(head(map), &["head_config.json", "label2id", what]);
    }
    let turned = |map: Value| {
        let dir = changed("string-fields", "head_config.json", |v| v["config"]["id2label"] = map);
        try_head(dir.path()).map(|h| h.labels().to_vec())
    };
    assert_eq!(turned(json!({"1": "a", "0": "b"})).unwrap(), ["b", "a"]);
    says(turned(json!({"0": "a", "1": "a"})), &["`a` twice"]);
    says(turned(json!(["a", "b"])), &["id2label"]);
    says(turned(json!({"0": 1, "1": "b"})), &["id2label"]);
}

fn whole(file: &str) -> Vec<u8> {
    std::fs::read(at("torch").join(file)).unwrap()
}
proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn damaged_files_of_torch_save_are_read_or_refused(
        legacy in any::<bool>(),
        edits in prop::collection::vec((0..4u8, any::<prop::sample::Index>(), any::<u8>(), 0..64usize), 1..6),
        front in any::<bool>(),
    ) {
        let mut bytes = whole(if legacy { "legacy.bin" } else { "zip.bin" });
        for (kind, at, byte, len) in edits {
            // the pickle comes first in both layouts, the list of entries last in one
            let span = if front { bytes.len().min(3000) } else { bytes.len() };
            let at = at.index(span.max(1)).min(bytes.len());
            match kind {
                0 if at < bytes.len() => bytes[at] = byte,
                1 => drop(bytes.drain(at..(at + len).min(bytes.len()))),
                2 => bytes.truncate(bytes.len() - at.min(bytes.len()).min(len)),
                _ => drop(bytes.splice(at..at, std::iter::repeat_n(byte, len))),
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.bin");
        std::fs::write(&path, bytes).unwrap();
        match Checkpoint::open(&path) {
            Ok(c) => drop(c.fingerprint()), // every value can be reached
            Err(e) => prop_assert!(e.to_string().contains("t.bin"), "{e}"),
        }
    }
}
