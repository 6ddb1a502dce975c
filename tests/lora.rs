//! LoRA: the same numbers and the same files as AdapterHub's `adapters` and PEFT on `transformers`.
mod support;
use engraft_adapters::{Adapter, AdapterSet, Fields, Format, Merged, Setup, export::directory, parse};
use engraft_engine::{Cx, Device, Gradients, Hooks, ParamSet, Pass, Plain};
use engraft_models::Rows;
use serde_json::{Value, json};
use std::path::Path;
use support::{faults::*, files::*, *};

const ADAPTERHUB: [&str; 4] = ["lora/qv", "lora/all", "lora/leave-out", "lora/feed-forward"];
const PEFT: [&str; 4] = ["lora/peft-qv", "lora/peft-all", "lora/peft-patterns", "lora/peft-expression"];
fn cases() -> impl Iterator<Item = &'static str> {
    ADAPTERHUB.into_iter().chain(PEFT)
}

#[test]
fn hidden_states_logits_loss_and_gradients() {
    for name in cases() {
        let case = Case::load(name, &cpu());
        let mut g = Gradients::new();
        let (hidden, logits, loss, _) = case.pass(Pass::gradients(), &mut g);
        let want = Expected::of(name);
        let errors = (
            relative(&hidden, &want.get("last_hidden_state")),
            relative(&logits, &want.get("logits")),
            relative(&[loss], &want.get("loss")),
        );
        assert!(errors.0 < 1e-5 && errors.1 < 1e-5 && errors.2 < 1e-5, "{name}: {errors:?}");
        let got = case.gradients(&g);
        let mut worst = 0f64;
        for (parameter, got) in &got {
            let got = got.as_ref().unwrap_or_else(|| panic!("{name}: no gradient for {parameter}"));
            let e = relative(got, &want.get(&format!("grad.{parameter}")));
            assert!(e < 1e-4, "{name}: {parameter} {e:.1e}");
            worst = worst.max(e);
        }
        assert_eq!(got.len(), want.gradients().len(), "{name}: every gradient of the library");
        println!(
            "{name}: hidden {:.1e}, logits {:.1e}, loss {:.1e}, {} gradients {worst:.1e}",
            errors.0,
            errors.1,
            errors.2,
            got.len()
        );
    }
}

#[test]
fn on_a_model_without_a_head() {
    let device = cpu();
    let (mut set, model) = (ParamSet::new(), model(&device, &mut ParamSet::new(), false).model);
    let name = "lora/peft-bare";
    let adapter = Adapter::load(&fixture(name), &host(), model.sites(), &device, &mut set).unwrap();
    let mut cx = Cx::new(&device, &adapter, Pass::infer());
    let hidden = model.forward(&mut cx, &input(name).0, &Rows::All).unwrap();
    let e = relative(&hidden.read().unwrap(), &Expected::of(name).get("last_hidden_state"));
    assert!(e < 1e-5, "{e:.1e}");
}

#[test]
fn ten_steps_of_adamw() {
    for name in cases() {
        let mut case = Case { rows: Rows::First, ..Case::load(name, &cpu()) };
        curve::follow(&fixture(name), |optimiser, rate| {
            let mut g = Gradients::new();
            let loss = case.pass(Pass::gradients(), &mut g).2;
            curve::update(optimiser, &mut case.parameters(), &g, rate);
            loss
        });
    }
}

#[test]
fn what_is_saved_reads_back_and_is_what_the_library_saved() {
    for name in cases() {
        let case = Case::load(name, &cpu());
        let (adapter, dir) = (case.adapter.as_ref().unwrap(), tempfile::tempdir().unwrap());
        for (n, bytes) in directory(Some(adapter), Some(&case.head), None, &host()).unwrap() {
            std::fs::write(dir.path().join(n), bytes).unwrap();
        }
        let file = adapter.format().tensors();
        let (a, b) = (tensors(&dir.path().join(file)), tensors(&fixture(name).join(file)));
        assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>(), "{name}");
        for (n, t) in &a {
            assert!((&t.shape, &t.bytes) == (&b[n].shape, &b[n].bytes), "{name} {n}");
        }
        let json = |d: &Path| {
            let mut v = json_of(&d.join("adapter_config.json"));
            // PEFT adds the heads that it knows to those that are there
            v.as_object_mut().unwrap().remove("modules_to_save");
            v
        };
        assert_eq!(json(dir.path()), json(&fixture(name)), "{name}");
        try_adapter(dir.path()).unwrap();
    }
}

/// Hidden states with an adapter, and with nothing but weights.
fn hidden(case: &Case, hooks: &dyn Hooks) -> Vec<f32> {
    let mut cx = Cx::new(&case.device, hooks, Pass::infer());
    case.model.forward(&mut cx, &case.tokens, &Rows::All).unwrap().read().unwrap()
}
#[test]
fn merged_into_a_copy_of_the_weights_and_taken_out_again() {
    for name in cases() {
        let case = Case::load(name, &cpu());
        let adapter = case.adapter.as_ref().unwrap();
        let mut merged = Merged::copy(&case.model.named()).unwrap();
        let before = merged.file().unwrap();
        merged.merge(adapter).unwrap();
        assert!(merged.merge(adapter).unwrap_err().to_string().contains("merged already"));
        // a model directory with these weights computes what the model does with the adapter
        let plain = merged_model(&merged, "bert", &case.device);
        let want = hidden(&case, adapter);
        let got = hidden(&Case { model: plain, ..Case::load(name, &case.device) }, &Plain);
        let e = relative(&got, &want);
        assert!(e < 1e-5, "{name}: {e:.1e}");
        assert_ne!(hidden(&case, &Plain), want);
        merged.unmerge();
        assert!(merged.file().unwrap() == before, "{name}: the same bytes");
    }
    let bottleneck = Case::load("houlsby", &cpu());
    let mut merged = Merged::copy(&bottleneck.model.named()).unwrap();
    let e = merged.merge(bottleneck.adapter.as_ref().unwrap()).unwrap_err().to_string();
    assert!(e.contains("more than a change of weights"), "{e}");
}

/// An adapter of the tiny model that was saved.
fn loaded(dir: &Path, device: &Device) -> Adapter {
    let sites = model(device, &mut ParamSet::new(), false).model.sites().to_vec();
    Adapter::load(dir, &host(), &sites, device, &mut ParamSet::new()).unwrap()
}
/// A new one.
fn made(text: &str, device: &Device) -> Result<Adapter, String> {
    let model = model(device, &mut ParamSet::new(), false).model;
    let config = parse(text, &Fields::new()).map_err(|e| e.to_string())?;
    let mut set = ParamSet::new();
    Adapter::new("task", config, model.sites(), device, &mut set, 3).map_err(|e| e.to_string())
}
#[test]
fn a_new_one_changes_nothing_until_it_has_learned() {
    let device = cpu();
    let case = Case::load("lora/qv", &device);
    let plain = hidden(&case, &Plain);
    for text in ["lora", "lora[r=2,alpha=16,attn_matrices=[q,k,v,o],intermediate_lora=True,output_lora=True]"]
    {
        let new = made(text, &device).unwrap();
        assert!(hidden(&case, &new) == plain, "{text}: B is zero");
    }
    let bert = made("lora[init_weights=bert]", &device).unwrap();
    assert!(hidden(&case, &bert) != plain);
}
#[test]
fn configurations_are_taken_or_refused_by_name() {
    let device = cpu();
    let said = |text: &str, words: &[&str]| says(made(text, &device).map(drop), words);
    said("lora[r=0]", &["`r`", "rank from 1"]);
    said("lora[alpha=1e300]", &["`alpha`", "finite"]);
    said("lora[dropout=1]", &["`dropout`", "below 1"]);
    said("lora[composition_mode=scale]", &["composition_mode", "`r` is 8"]);
    said("lora[composition_mode=times]", &["composition_mode", "`add`"]);
    said("lora[use_dora=True]", &["starts from the weights of the model"]);
    said("lora[use_dora=True,composition_mode=scale,r=1]", &["use_dora", "`scale`"]);
    said("lora[as_peft=True,use_gating=True]", &["`as_peft`", "use_gating"]);
    said("dora[attn_matrices=[q,o]]", &["AdapterHub's format has no LoRA on `o`"]);
    said("lora[vera_d=0.1]", &["`vera_b` and `vera_d`"]);
    said("lora[init_weights=ones]", &["`lora`", "unknown variant `ones`"]);
    said("lora[attn_matrices=[q,x]]", &["unknown variant `x`"]);
    said("lora[attn_matrices=[qkv,q]]", &["`attn_matrices`"]);
    said("lora[attn_matrices=[qkv]]", &["nothing to train"]);
    said("lora[rank=8]", &["unknown field `rank`"]);
    said("lora[leave_out=[7]]", &["leave_out", "layer 7"]);
    said("lora[selfattn_lora=False]", &["nothing to train"]);
    said("prefixtuning", &["`prefixtuning` is not the name", "`lora`", "`houlsby`"]);
    // fields over those of the string
    let more: Fields = [("r".to_string(), json!(2))].into_iter().collect();
    let config = parse("lora[r=8,alpha=16]", &more).unwrap().adapterhub().unwrap();
    assert_eq!(
        (&config["r"], &config["alpha"], &config["architecture"]),
        (&json!(2), &json!(16), &json!("lora"))
    );
}

#[test]
fn a_union_puts_both_where_each_belongs() {
    let device = cpu();
    let case = Case::load("lora/qv", &device);
    let both = made("lora[r=2,init_weights=bert] | houlsby[reduction_factor=8]", &device).unwrap();
    let dir = tempfile::tempdir().unwrap();
    both.save(dir.path(), &host()).unwrap();
    let json = json_of(&dir.path().join("adapter_config.json"));
    assert_eq!(json["config"]["architecture"], "union");
    let again = loaded(dir.path(), &device);
    assert_eq!(again.named().len(), 3 * (2 * 2 + 2 * 4));
    assert!(hidden(&case, &again) == hidden(&case, &both));
    says(made("houlsby|pfeiffer", &device).map(drop), &["two members of a union", "`adapters`"]);
}

#[test]
fn several_adapters_at_hand_and_one_that_answers() {
    let device = cpu();
    let case = Case::load("lora/qv", &device);
    let (mut set, mut adapters) = (ParamSet::new(), AdapterSet::new());
    let alone: Vec<_> = ["houlsby", "lora/all", "lora/peft-patterns"]
        .into_iter()
        .map(|name| {
            let dir = fixture(name);
            let a = Adapter::load(&dir, &host(), case.model.sites(), &device, &mut set);
            let a = a.unwrap().renamed(&name.replace('/', "-")).unwrap();
            let h = hidden(&case, &a);
            let name = a.name().to_string();
            adapters.add(a).unwrap();
            (name, h)
        })
        .collect();
    for _ in 0..2 {
        let with = |setup: &Setup| adapters.activate(setup, case.tokens.lengths.len()).unwrap();
        assert!(hidden(&case, &with(&Setup::Identity)) == hidden(&case, &Plain));
        for (name, want) in &alone {
            assert!(hidden(&case, &with(&name.as_str().into())) == *want, "{name}");
        }
    }
    let Err(e) = adapters.activate(&"other".into(), 1) else { panic!("there is no such adapter") };
    assert!(e.to_string().contains("`lora-peft-patterns`"), "{e}");
}

#[test]
fn what_each_format_can_say() {
    let device = cpu();
    // the same LoRA in both, and what only PEFT's can say
    for (text, native) in [
        ("lora[r=2,init_weights=bert]", Format::AdapterHub),
        ("lora[r=2,init_weights=bert,attn_matrices=[k],output_lora=True,leave_out=[1]]", Format::AdapterHub),
        ("lora[r=4,init_weights=bert,use_rslora=True]", Format::Peft),
        ("lora[r=4,init_weights=bert,attn_matrices=[q,o],intermediate_lora=True]", Format::Peft),
    ] {
        let a = made(text, &device).unwrap();
        assert_eq!(a.format(), native, "{text}");
        let case = Case::load("lora/qv", &device);
        for format in Format::ALL {
            let files = match a.files_as(format, &host()) {
                Ok(files) => files,
                Err(e) => {
                    assert!(
                        native == Format::Peft && e.to_string().contains("AdapterHub's format has no"),
                        "{e}"
                    );
                    continue;
                }
            };
            let dir = tempfile::tempdir().unwrap();
            files.iter().for_each(|(n, b)| std::fs::write(dir.path().join(n), b).unwrap());
            let again = loaded(dir.path(), &device);
            assert_eq!(again.format(), format);
            assert!(hidden(&case, &again) == hidden(&case, &a), "{text} as {format:?}");
        }
    }
}

#[test]
fn peft_fields_that_change_the_computation_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let from = fixture("lora/peft-qv");
    for f in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(from.join(f), dir.path().join(f)).unwrap();
    }
    let path = dir.path().join("adapter_config.json");
    let whole = json_of(&path);
    let with = |field: &str, value: Value| {
        let mut v = whole.clone();
        v[field] = value;
        std::fs::write(&path, v.to_string()).unwrap();
        try_adapter(dir.path()).map(drop)
    };
    for (field, value, also) in [
        ("peft_type", json!("ADALORA"), "PEFT's ADALORA is not supported"),
        ("use_dora", json!(true), "lora_magnitude_vector"),
        ("bias", json!("all"), "bias"),
        ("layer_replication", json!([[0, 2]]), "layer_replication"),
        ("a_new_field", json!(3), "a_new_field"),
        ("init_lora_weights", json!("olora"), "own weights"),
        ("init_lora_weights", json!("pissa"), "starts from the weights of the model"),
        ("r", json!(0), "rank"),
        ("r", json!("8"), "usize"),
        ("r", json!(8), "[8, 32]"),
        ("target_modules", json!(["query"]), "no place"),
        ("target_modules", json!(["query", "key", "value"]), "no tensor"),
        ("target_modules", Value::Null, "target_modules"),
        ("rank_pattern", json!({"que.*": 2}), "regular expression"),
        ("lora_dropout", json!(1), "lora_dropout"),
        ("layers_to_transform", json!([0]), "no place"),
    ] {
        says(with(field, value), &["adapter_", also]);
    }
    for (field, value) in [
        ("a_new_field", Value::Null),
        ("another", json!(false)),
        ("loftq_config", json!({"bits": 4})),
        ("init_lora_weights", json!("gaussian")),
        ("peft_version", json!("9.9")),
        ("base_model_name_or_path", json!("bert")),
        ("layers_to_transform", json!([0, 1, 2])),
        ("layers_pattern", json!("layer")),
    ] {
        with(field, value).unwrap_or_else(|e| panic!("{field}: {e}"));
    }
}

#[test]
fn older_files_of_the_library_computed_without_alpha() {
    let dir = edited_lora(|v| v["version"] = json!("adapters.1.0.1"));
    let a = try_adapter(dir.path()).unwrap();
    assert_eq!(a.config().adapterhub().unwrap()["alpha"], json!(4), "r is 4, the file says alpha 8");
    let dir = edited_lora(|v| v["version"] = json!("adapters.1.1.0"));
    assert_eq!(try_adapter(dir.path()).unwrap().config().adapterhub().unwrap()["alpha"], json!(8));
}
fn edited_lora(edit: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let from = fixture("lora/qv");
    std::fs::copy(from.join("adapter.safetensors"), dir.path().join("adapter.safetensors")).unwrap();
    let mut v = json_of(&from.join("adapter_config.json"));
    edit(&mut v);
    std::fs::write(dir.path().join("adapter_config.json"), v.to_string()).unwrap();
    dir
}
