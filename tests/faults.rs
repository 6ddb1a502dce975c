//! Bad models and inputs: each is refused with an error that names the file and what is wrong in
//! it, and nothing panics.
mod support;
use engraft_engine::{Cx, Device, ParamSet, Pass, Plain};
use engraft_models::{Holding, Rows, Tokens};
use serde_json::{Value, json};
use std::path::Path;
use support::{faults::*, files::*, *};

#[test]
fn a_truncated_file_is_refused_wherever_it_ends() {
    let read = |path: &Path| std::fs::read(path).unwrap();
    let (_dir, ours) = saved();
    for whole in [read(&fixture("pfeiffer").join("adapter.safetensors")), read(&ours)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cut.safetensors");
        let header = 8 + header_length(&whole);
        let structure = (8..header).filter(|i| b"{}[],:".contains(&whole[*i]));
        let mut next = random(1);
        let anywhere = (0..100).map(|_| next(whole.len()));
        for end in (0..20).chain(structure).chain(header - 2..header + 3).chain(anywhere) {
            std::fs::write(&path, &whole[..end]).unwrap();
            says(try_checkpoint(&path), &["cut.safetensors", "not a whole safetensors file"]);
        }
        std::fs::write(&path, [&whole[..], b"more"].concat()).unwrap();
        says(try_checkpoint(&path), &["cut.safetensors"]);
    }
}

#[test]
fn mutilated_files_never_panic() {
    let (dir, mut next) = (ModelFiles::fixture().write(), random(3));
    let path = dir.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    let header = 8 + header_length(&whole);
    let mut refused = 0;
    for round in 0..400 {
        let mut bytes = whole.clone();
        for _ in 0..1 + next(3) {
            let at = if next(4) > 0 { next(header) } else { next(bytes.len()) };
            match next(4) {
                0 => bytes[at] = next(256) as u8,
                1 => bytes[at] = b"0123456789\"{}[],:-"[next(18)],
                2 => drop(bytes.drain(at..(at + 1 + next(40)).min(bytes.len()))),
                _ => bytes.insert(at, b"0123456789\"{}[],:-"[next(18)]),
            }
        }
        if round % 8 == 0 {
            bytes[..8].copy_from_slice(&(u64::MAX >> next(64)).to_le_bytes());
        }
        std::fs::write(&path, bytes).unwrap();
        refused += usize::from(try_model(dir.path()).is_err());
    }
    assert!(refused > 300, "{refused}");
}

#[test]
fn a_model_whose_tensors_do_not_fit_is_refused_by_name() {
    let name = "bert.encoder.layer.1.intermediate.dense.weight";
    let model = ModelFiles::fixture();
    let at = if model.tensors.contains_key(name) { name } else { name.trim_start_matches("bert.") };
    let with = |edit: &dyn Fn(&mut StoredTensor)| {
        let mut m = model.clone();
        edit(m.tensors.get_mut(at).unwrap());
        try_model(m.write().path())
    };
    let value = |x: f32| with(&|t: &mut StoredTensor| t.bytes[400..404].copy_from_slice(&x.to_le_bytes()));
    says(value(f32::NAN), &["model.safetensors", at, "not finite"]);
    says(value(f32::INFINITY), &["model.safetensors", at, "not finite"]);
    says(with(&|t| t.shape = vec![32, 40]), &["model.safetensors", at, "[32, 40]", "[40, 32]"]);
    says(with(&|t| t.shape = vec![1280]), &["model.safetensors", at, "[1280]"]);
    says(with(&|t| (t.dtype, t.shape) = ("I32", vec![40, 32])), &["model.safetensors", at, "I32"]);
    says(with(&|t| (t.dtype, t.shape) = ("F64", vec![40, 16])), &["model.safetensors", at, "[40, 16]"]);
    says(try_model(model.named(|n| (n != at).then(|| n.into())).write().path()), &["no tensor", at]);
    for (dtype, nan) in [("F16", 0x7c00u16), ("BF16", 0x7f80)] {
        let mut m = model.map(|t| t.to(dtype));
        m.tensors.get_mut(at).unwrap().bytes[..2].copy_from_slice(&nan.to_le_bytes());
        says(try_model(m.write().path()), &[at, "not finite"]);
    }
    for (field, value) in
        [("vocab_size", 62), ("hidden_size", 64), ("intermediate_size", 41), ("type_vocab_size", 3)]
    {
        says(
            try_model(model.clone().with(field, json!(value)).write().path()),
            &["model.safetensors", &value.to_string()],
        );
    }
    says(
        try_model(model.clone().with("num_hidden_layers", json!(4)).write().path()),
        &["no tensor", "layer.3"],
    );
}

#[test]
fn a_configuration_that_cannot_be_honoured_is_refused_by_field() {
    for (field, value, also) in [
        ("hidden_act", json!("xielu"), "xielu"),
        ("hidden_act", json!(3), "expected a text"),
        ("position_embedding_type", json!("relative_key"), "only \"absolute\""),
        ("is_decoder", json!(true), "only false"),
        ("add_cross_attention", json!(true), "only false"),
        ("quantization_config", json!({"bits": 4}), "only null"),
        ("pruned_heads", json!({"0": [1]}), "only {}"),
        ("num_attention_heads", json!(5), "not a multiple"),
        ("num_attention_heads", json!(0), "at least 1"),
        ("num_hidden_layers", json!(1 << 20), "at most 4096 layers"),
        ("hidden_size", json!(-32), "at least 1"),
        ("hidden_size", json!(32.5), "at least 1"),
        ("vocab_size", json!(1u64 << 40), "at least 1"),
        ("hidden_size", Value::Null, "at least 1"),
        ("position_embedding_type", Value::Null, "only \"absolute\""),
        ("tie_word_embeddings", Value::Null, "true or false"),
        ("hidden_dropout_prob", json!(1.0), "0 to below 1"),
        ("hidden_dropout_prob", json!(0.999999999), "0 to below 1"),
        ("attention_probs_dropout_prob", json!("none"), "expected a number"),
        ("layer_norm_eps", json!(-1e-12), "0 to below 1"),
        ("layer_norm_eps", json!(1e300), "0 to below 1"),
        ("model_type", json!("mamba"), "supported: bert"),
        ("model_type", Value::Null, "expected a text"),
    ] {
        let dir = ModelFiles::fixture().with(field, value).write();
        says(try_model(dir.path()), &["config.json", field, also]);
    }
    // what nothing reads cannot change the computation: it is listed
    let dir = ModelFiles::fixture().with("a_new_field", json!(1)).with("prediction_heads", json!({})).write();
    let loaded = engraft_models::load_frozen(dir.path(), &cpu(), Holding::default()).unwrap();
    assert_eq!(loaded.unread, ["a_new_field"]);
    for (text, also) in [("", "EOF"), ("{", "EOF"), ("[]", "not a JSON object"), ("{\"a\": 1,}", "line 1")] {
        let dir = ModelFiles::fixture().write();
        std::fs::write(dir.path().join("config.json"), text).unwrap();
        says(try_model(dir.path()), &["config.json", also]);
    }
    let dir = ModelFiles::fixture().write();
    std::fs::remove_file(dir.path().join("config.json")).unwrap();
    says(try_model(dir.path()), &["config.json", "No such file"]);
    says(
        try_model(&ModelFiles::fixture().write_config().path().join("")),
        &["model.safetensors", "No such file"],
    );
    says(try_model(Path::new("no/such/directory")), &["no/such/directory"]);
}

#[test]
fn an_index_that_lies_is_refused() {
    let index = |edit: &dyn Fn(&Path, &mut Value)| {
        let dir = ModelFiles::fixture().write_sharded();
        let mut v = json_of(&dir.path().join("model.safetensors.index.json"));
        edit(dir.path(), &mut v);
        write_index(dir.path(), &v);
        try_model(dir.path())
    };
    let first = "model-00001-of-00002.safetensors";
    says(index(&|d, _| std::fs::remove_file(d.join(first)).unwrap()), &[first, "No such file"]);
    for outside in ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "..", ""] {
        says(index(&|_, v| v["weight_map"]["x"] = json!(outside)), &["index.json", &format!("`{outside}`")]);
    }
    says(
        index(&|_, v| v["weight_map"]["x.weight"] = json!(first)),
        &["index.json", "`x.weight`", "none of the shards"],
    );
    says(index(&|_, v| v["weight_map"]["x"] = json!(1)), &["index.json", "`x`"]);
    says(index(&|_, v| *v = json!({})), &["index.json", "weight_map"]);
    says(
        index(&|d, _| {
            std::fs::copy(d.join(first), d.join("model-00002-of-00002.safetensors")).map(drop).unwrap()
        }),
        &["two shards"],
    );
}

#[test]
fn tokens_that_the_model_does_not_know_are_refused() {
    let device = cpu();
    let model = model(&device, &mut ParamSet::new(), false).model;
    let run = |t: Tokens| {
        let mut cx = Cx::new(&device, &Plain, Pass::infer());
        model.forward(&mut cx, &t, &Rows::All).map(drop).map_err(|e| e.to_string())
    };
    run(Tokens::new(&[vec![1; 24], vec![60]])).unwrap();
    says(run(Tokens::new(&[vec![1], vec![2, 61]])), &["token id 61", "61"]);
    says(run(Tokens::new(&[vec![1], vec![]])), &["sequence 1", "0 tokens", "1 to 24"]);
    says(run(Tokens::new(&[vec![1; 25]])), &["sequence 0", "25 tokens", "1 to 24"]);
    says(run(Tokens { types: vec![2], ..Tokens::new(&[vec![1]]) }), &["token type 2"]);
    says(run(Tokens { types: vec![], ..Tokens::new(&[vec![1]]) }), &["0 token types"]);
    says(run(Tokens { lengths: vec![3], ..Tokens::new(&[vec![1]]) }), &["1 ids", "3 tokens"]);
    says(run(Tokens { lengths: vec![usize::MAX, 2], ..Tokens::new(&[vec![1]]) }), &["sequence 0"]);
    let none: [&[u32]; 0] = [];
    says(run(Tokens::new(&none)), &["no sequence"]);
    // labels that the head does not know, or of another number
    let case = Case::frozen("houlsby", &device);
    let logits = |labels: &[u32]| {
        let mut cx = Cx::new(&device, case.hooks(), Pass::infer());
        let hidden = case.model.forward(&mut cx, &case.tokens, &Rows::All).unwrap();
        let pooled = pooled(&mut cx, &*case.model, &hidden, false);
        let z = case.head.forward(&mut cx, &pooled, 0.0, None).unwrap();
        cx.cross_entropy(&z, labels).map(drop).map_err(|e| e.to_string())
    };
    says(logits(&[0, 1, 0, 1, 0, 2]), &["cross_entropy", "no class 2"]);
    says(logits(&[0, 1]), &["cross_entropy", "[6, 2]", "[2]"]);
    says(logits(&[]), &["cross_entropy"]);
}

#[test]
fn a_device_that_is_not_there_is_an_error() {
    // without a driver; with one, number 4096 is not there
    says(Device::cuda(4096).map_err(|e| e.to_string()), &["cuda"]);
}
