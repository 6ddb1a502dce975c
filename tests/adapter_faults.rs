//! Bad adapters and heads, and saving that fails: errors that name the file and what is wrong in
//! it, and nothing panics.
mod support;
use engraft_engine::Parameters;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::Path;
use support::{faults::*, files::*, *};

#[test]
fn a_flipped_bit_in_an_adapter_that_engraft_wrote_is_noticed() {
    let (dir, path) = saved();
    let whole = std::fs::read(&path).unwrap();
    let exact: Vec<_> = {
        let a = try_adapter(dir.path()).unwrap();
        a.named().into_iter().map(|(n, t)| (n, t.to_f32().unwrap())).collect()
    };
    let (header, mut next) = (8 + header_length(&whole), random(2));
    let flipped = |bit: usize| {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, bytes).unwrap();
        try_adapter(dir.path())
    };
    for _ in 0..60 {
        let bit = header * 8 + next((whole.len() - header) * 8);
        says(flipped(bit), &["adapter.safetensors", "checksum", "damaged"]);
    }
    for bit in (0..header * 8).step_by(11) {
        match flipped(bit) {
            Err(e) => assert!(e.contains("adapter.safetensors"), "{e}"),
            // a space in the padding, or a letter of the metadata: nothing that matters
            Ok(a) => {
                let same = a.named().into_iter().map(|(n, t)| (n, t.to_f32().unwrap())).eq(exact.clone());
                assert!(same, "bit {bit}");
            }
        }
    }
}

#[test]
fn an_adapter_for_something_else_is_refused() {
    let name = "adapter_config.json";
    let card = |edit: &dyn Fn(&mut Value)| try_adapter(edited(name, edit).path()).map(drop);
    says(card(&|v| v["hidden_size"] = json!(64)), &[name, "64 channels", "32"]);
    says(card(&|v| v["model_type"] = json!("gpt2")), &[name, "`gpt2`", "`bert`"]);
    says(card(&|v| v["name"] = Value::Null), &[name, "`name`"]);
    says(
        card(&|v| v["config"] = json!({"architecture": "mtl_lora", "r": 8, "alpha": 16})),
        &[name, "`architecture` is `mtl_lora`", "lora"],
    );
    // what another method calls its tensors
    says(
        card(&|v| v["config"] = json!({"architecture": "lora", "r": 8, "alpha": 16})),
        &["adapter.safetensors", "no tensor", "loras.task.lora_A"],
    );
    says(card(&|v| v["config"] = json!([])), &[name]);
    for (field, value, also) in [
        ("a_new_field", json!(1), "unknown field"),
        ("inv_adapter", json!("nice"), "`inv_adapter_reduction_factor`"),
        ("stochastic_depth", json!(1.5), "below 1"),
        ("non_linearity", json!("xielu"), "xielu"),
        ("dropout", json!(1), "0 to below 1"),
        ("dropout", json!(0.999999999), "0 to below 1"),
        ("scaling", json!("huge"), "learned"),
        ("scaling", json!(1e300), "finite"),
        ("residual_before_ln", json!("pre"), "post_add"),
        ("reduction_factor", json!(0), "above 0"),
        ("reduction_factor", json!(-2), "above 0"),
        ("reduction_factor", json!(1e-300), "makes bottlenecks"),
        ("reduction_factor", json!({"1": 2}), "layer 0"),
        ("reduction_factor", json!({"one": 2, "default": 4}), "`one`"),
        ("reduction_factor", json!("4"), "number"),
    ] {
        says(card(&|v| v["config"][field] = value.clone()), &[field, also]);
    }
    let without = |f: &str| {
        let dir = adapter_dir("houlsby");
        std::fs::remove_file(dir.path().join(f)).unwrap();
        (try_adapter(dir.path()).map(drop), try_head(dir.path()).map(drop))
    };
    says(without(name).0, &[name, "No such file"]);
    says(without("adapter.safetensors").0, &["adapter.safetensors", "No such file"]);
    says(without("head_config.json").1, &["head_config.json", "No such file"]);
    says(without("model_head.safetensors").1, &["model_head.safetensors", "No such file"]);
}

#[test]
fn an_adapter_whose_tensors_do_not_fit_is_refused_by_name() {
    let file = "adapter.safetensors";
    let at = "bert.encoder.layer.2.output.adapters.task.adapter_up.weight";
    let with = |edit: &dyn Fn(&mut Tensors)| try_adapter(retensored(file, edit).path()).map(drop);
    says(with(&|t| drop(t.remove(at))), &[file, "no tensor", at]);
    says(with(&|t| t.get_mut(at).unwrap().shape.reverse()), &[file, at, "[8, 32]", "[32, 8]"]);
    says(
        with(&|t| drop(t.insert("extra".into(), StoredTensor::f32(&[1.0], &[1])))),
        &[file, "`extra`", "no place"],
    );
    says(
        with(&|t| t.get_mut(at).unwrap().bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes())),
        &[file, at, "not finite"],
    );
    let wider = edited("adapter_config.json", |v| v["config"]["reduction_factor"] = json!(2));
    says(try_adapter(wider.path()).map(drop), &[file, "adapter_down.0.weight", "[8, 32]", "[16, 32]"]);
    let fewer = edited("adapter_config.json", |v| v["config"]["leave_out"] = json!([2]));
    says(try_adapter(fewer.path()).map(drop), &[file, "layer.2", "no place"]);
}

#[test]
fn a_head_that_is_inconsistent_is_refused() {
    let name = "head_config.json";
    for (field, value, also) in [
        ("head_type", json!("dependency_parsing"), "supported: causal_lm, classification"),
        ("label2id", json!({"a": 0, "b": 0}), "taken"),
        ("label2id", json!({"a": 0, "b": 2}), "too large"),
        ("label2id", json!({"a": 0}), "1 of 2"),
        ("label2id", json!({"a": 0, "b": 1, "c": 2}), "3 of 2"),
        ("num_labels", json!(0), "1 to"),
        ("num_labels", json!(1u64 << 60), "1 to"),
        ("layers", json!(0), "1 to"),
        ("layers", json!(1u64 << 60), "1 to"),
        ("activation_function", json!("xielu"), "xielu"),
        ("dropout_prob", json!(1), "0 to below 1"),
        ("a_new_field", json!(1), "unknown field"),
    ] {
        let dir = edited(name, |v| v["config"][field] = value);
        says(try_head(dir.path()).map(drop), &[name, field, also]);
    }
    let at = "heads.task.1.weight";
    let file = "model_head.safetensors";
    says(try_head(retensored(file, |t| drop(t.remove(at))).path()).map(drop), &[file, "no tensor", at]);
    says(
        try_head(retensored(file, |t| drop(t.insert("x".into(), StoredTensor::f32(&[1.0], &[1])))).path())
            .map(drop),
        &[file, "`x`"],
    );
    says(try_head(edited(name, |v| v["hidden_size"] = json!(64)).path()).map(drop), &[name, "64 channels"]);
}

#[test]
fn a_save_that_fails_leaves_what_was_there() {
    let (adapter, head) = (try_adapter(&fixture("houlsby")).unwrap(), try_head(&fixture("houlsby")).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let list = |d: &Path| {
        let mut v: Vec<String> =
            std::fs::read_dir(d).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        v.sort();
        v
    };
    // a regular file where a directory should be
    let file = dir.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    for to in [file.clone(), file.join("below")] {
        says(adapter.save(&to, &host()).map_err(|e| e.to_string()), &[file.to_str().unwrap()]);
        says(head.save(&to, &host()).map_err(|e| e.to_string()), &[file.to_str().unwrap()]);
    }
    assert_eq!(
        (list(dir.path()), std::fs::read(&file).unwrap()),
        (vec!["file".into()], b"precious".to_vec())
    );
    // a directory where one of the files should be: the other file is not replaced either
    for blocked in ["adapter_config.json", "adapter.safetensors"] {
        let old = adapter_dir("pfeiffer");
        std::fs::remove_file(old.path().join(blocked)).unwrap();
        std::fs::create_dir(old.path().join(blocked)).unwrap();
        let other = if blocked.contains("config") { "adapter.safetensors" } else { "adapter_config.json" };
        let before = (list(old.path()), std::fs::read(old.path().join(other)).unwrap());
        says(adapter.save(old.path(), &host()).map_err(|e| e.to_string()), &[blocked]);
        assert!(before == (list(old.path()), std::fs::read(old.path().join(other)).unwrap()), "{blocked}");
    }
    // and one that succeeds replaces the old files and leaves nothing else
    let old = adapter_dir("pfeiffer");
    let before = list(old.path());
    adapter.save(old.path(), &host()).unwrap();
    assert_eq!(list(old.path()), before);
    let mut params = 0;
    try_adapter(old.path()).unwrap().visit(&mut |_| params += 1);
    assert_eq!(params, 6 * 4, "houlsby's tensors");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (0..70i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0.0..1.0).prop_map(|x: f64| x.into()),
        prop::sample::select(vec!["", "gelu", "learned", "post_add", "bert", "0", "é"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[0-9a]|default", inner, 0..3).prop_map(|m| json!(m)),
        ]
    })
}
proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_value_of_any_field_is_taken_or_refused_by_name(field in 0..40usize, value in any_json()) {
        let mut files = ModelFiles::fixture();
        let keys: Vec<String> = files.config.as_object().unwrap().keys().cloned().collect();
        files.config[&keys[field % keys.len()]] = value.clone();
        if let Err(e) = try_model(files.write().path()) {
            prop_assert!(e.contains("config.json") || e.contains("model.safetensors"), "{e}");
        }
        for file in ["adapter_config.json", "head_config.json"] {
            let dir = edited(file, |v| {
                let keys: Vec<String> = v["config"].as_object().unwrap().keys().cloned().collect();
                v["config"][&keys[field % keys.len()]] = value.clone();
            });
            drop((try_adapter(dir.path()), try_head(dir.path())));
            let dir = edited(file, |v| {
                let keys: Vec<String> = v.as_object().unwrap().keys().cloned().collect();
                v[&keys[field % keys.len()]] = value.clone();
            });
            drop((try_adapter(dir.path()), try_head(dir.path())));
        }
    }
}
