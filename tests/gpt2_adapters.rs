//! Files of adapters on GPT-2, where the query, key and value projections are one layer. What the
//! adapters compute is compared in `decoders.rs`.
mod support;
use engraft_adapters::{Adapter, Format, Merged, export::directory};
use engraft_engine::{Cx, Pass, Plain, Rows};
use serde_json::Value;
use std::path::PathBuf;
use support::{
    Expected,
    families::{Family, json},
    files::tensors,
    merged_model, relative,
};

/// Bottlenecks, LoRA in AdapterHub's grouped form and in PEFT's dense form; the model's own head,
/// heads of language models that share its embeddings, classification of the last token.
const CASES: [&str; 19] = [
    "houlsby",
    "pfeiffer",
    "parallel",
    "houlsby-class",
    "parallel-class",
    "adapter-plus",
    "norms",
    "res-before-ln",
    "gated",
    "compacter",
    "compacter++",
    "phm-shared",
    "lora-qv",
    "lora-k",
    "lora-all",
    "lora-class",
    "peft-attn",
    "peft-all",
    "peft-class",
];

fn fixture(name: &str) -> PathBuf {
    support::fixture(&format!("gpt2/{name}"))
}
fn load(name: &str) -> Family {
    Family::load(&format!("gpt2/{name}"))
}

#[test]
fn what_is_saved_is_what_the_library_saved() {
    for name in CASES {
        let case = load(name);
        let dir = tempfile::tempdir().unwrap();
        for (n, bytes) in directory(Some(&case.adapter), case.head.as_ref(), None, &case.host).unwrap() {
            std::fs::write(dir.path().join(n), bytes).unwrap();
        }
        let files = [case.adapter.format().tensors(), "model_head.safetensors"];
        for file in files.into_iter().filter(|f| fixture(name).join(f).exists()) {
            let (a, mut b) = (tensors(&dir.path().join(file)), tensors(&fixture(name).join(file)));
            if file.contains("head") && !name.ends_with("class") {
                b.pop_last(); // the table of embeddings, which the model has
            }
            assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>(), "{name} {file}");
            for (n, t) in &a {
                assert!((&t.shape, &t.bytes) == (&b[n].shape, &b[n].bytes), "{name} {n}");
            }
        }
        for file in ["adapter_config.json", "head_config.json"] {
            if fixture(name).join(file).exists() {
                let (mut a, mut b) = (json(&dir.path().join(file)), json(&fixture(name).join(file)));
                for v in [&mut a, &mut b] {
                    v.as_object_mut().unwrap().remove("modules_to_save"); // PEFT adds all heads that it knows
                    v.as_object_mut().unwrap().remove("model_class"); // with the model's own head it is another
                    let float = |v: &mut Value| *v = v.as_f64().unwrap().into(); // 4 and 4.0
                    match v["config"].get_mut("reduction_factor") {
                        Some(Value::Object(by_layer)) => by_layer.values_mut().for_each(float),
                        Some(one) => float(one),
                        None => {} // a LoRA and a head have none
                    }
                }
                assert_eq!(a, b, "{name} {file}");
            }
        }
    }
}

#[test]
fn the_grouped_form_in_pefts_dense_one() {
    for name in ["lora-qv", "lora-k", "lora-all"] {
        let case = load(name);
        let dir = tempfile::tempdir().unwrap();
        for (n, bytes) in directory(Some(&case.adapter), None, Some(Format::Peft), &case.host).unwrap() {
            std::fs::write(dir.path().join(n), bytes).unwrap();
        }
        let dense = Adapter::load_frozen(dir.path(), &case.host, case.model.sites(), &case.device).unwrap();
        let e = relative(&case.hidden(&dense), &case.hidden(&case.adapter));
        assert!(e < 1e-6, "{name}: {e:.1e}");
    }
}

#[test]
fn merged_where_weights_are_stored_the_other_way_round() {
    for name in ["lora-qv", "lora-k", "lora-all", "peft-attn", "peft-all"] {
        let case = load(name);
        let mut merged = Merged::copy(&case.model.named()).unwrap();
        let before = merged.file().unwrap();
        merged.merge(&case.adapter).unwrap();
        let plain = merged_model(&merged, "gpt2", &case.device);
        let mut cx = Cx::new(&case.device, &Plain, Pass::infer());
        let got = plain.forward(&mut cx, &case.tokens, &Rows::All).unwrap().read().unwrap();
        let e = relative(&got, &Expected::at(&fixture(name)).get("last_hidden_state"));
        assert!(e < 1e-5, "{name}: {e:.1e}");
        merged.unmerge();
        assert!(merged.file().unwrap() == before, "{name}");
    }
}
