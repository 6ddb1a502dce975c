//! Methods at linear layers beside LoRA: IA3, DoRA, gates, starts from singular values, and the
//! union with them, beside AdapterHub's `adapters` and PEFT on BERT and GPT-2: hidden states,
//! logits, loss, every gradient, a training curve, the files, the merge.
mod support;
use engraft_adapters::{Adapter, Base, Fields, Format, Merged, parse};
use engraft_engine::{Class, Cx, Device, ParamSet, Pass, Plain, Rows, SiteInfo, SiteKind, Tensor};
use serde_json::{Value, json};
use support::{
    cpu,
    families::{Family, backbone, bert_base},
    faults::*,
    fixture,
    made::*,
    merged_model, relative,
};

const CASES: [&str; 25] = [
    "bert-ia3",
    "bert-ia3-scaled",
    "bert-ia3-gated",
    "gpt2-ia3",
    "gpt2-ia3-some",
    "gpt2-ia3-gated",
    "bert-peft-ia3",
    "bert-peft-ia3-expression",
    "gpt2-peft-ia3",
    "gpt2-peft-ia3-class",
    "bert-lora-gated",
    "gpt2-lora-gated",
    "bert-unipelt",
    "gpt2-unipelt",
    "bert-dora",
    "bert-dora-all",
    "bert-dora-gated",
    "bert-peft-dora",
    "bert-peft-dora-patterns",
    "gpt2-peft-dora",
    "bert-vera",
    "bert-vera-diagonal",
    "bert-vera-gated",
    "bert-peft-vera",
    "gpt2-peft-vera",
];
/// LoRA that takes the part that it starts from out of the weights: saved, it is an ordinary one.
const PISSA: [&str; 2] = ["bert-peft-pissa", "gpt2-peft-pissa"];
fn cases() -> impl Iterator<Item = &'static str> {
    CASES.into_iter().chain(PISSA)
}
fn at(name: &str) -> String {
    format!("linear/{name}")
}
fn is_gated(name: &str) -> bool {
    name.ends_with("-gated") || name.ends_with("-unipelt")
}

#[test]
fn hidden_states_logits_loss_and_gradients() {
    cases().for_each(|name| Family::load(&at(name)).agrees(name));
}
#[test]
fn ten_steps_of_adamw() {
    cases().for_each(|name| Family::load(&at(name)).learns_alike(name));
}
#[test]
fn what_is_saved_is_what_was_saved() {
    CASES.iter().for_each(|name| Family::load(&at(name)).saves_alike(name));
}
#[test]
fn layers_computed_again_and_bytes_foretold() {
    cases().for_each(|name| Family::recomputes_and_predicts(&at(name)));
}
#[test]
fn merged_into_a_copy_and_taken_out_again() {
    for name in cases() {
        let case = Family::load(&at(name));
        let mut merged = Merged::copy(&case.model.named()).unwrap();
        let before = merged.file().unwrap();
        let done = merged.merge(&case.adapter);
        if is_gated(name) {
            says(done.map_err(|e| e.to_string()), &["cannot be merged at", "its gate differs"]);
            assert!(merged.file().unwrap() == before, "{name}: nothing has changed");
            continue;
        }
        done.unwrap();
        let plain = merged_model(&merged, &case.host.model_type, &case.device);
        let mut cx = Cx::new(&case.device, &Plain, Pass::infer());
        let got = plain.forward(&mut cx, &case.tokens, &Rows::All).unwrap().read().unwrap();
        let e = relative(&got, &case.hidden(&case.adapter));
        assert!(e < 1e-5, "{name}: {e:.1e}");
        merged.unmerge();
        assert!(merged.file().unwrap() == before, "{name}: the same bytes");
    }
}

#[test]
fn numbers_that_train_on_bert_base() {
    let (sites, null) = (bert_base(), Device::null(1));
    let weight = |i: &SiteInfo| match i.kind {
        SiteKind::Linear { input, output, .. } => {
            let values = null.alloc::<f32>(Class::Scratch, input * output).unwrap();
            Some((format!("{}.weight", i.path), Tensor::new(values, &[output, input]).unwrap()))
        }
        _ => None,
    };
    let weights: Vec<(String, Tensor)> = sites.iter().filter_map(weight).collect();
    let named: Vec<(String, &Tensor)> = weights.iter().map(|(n, t)| (n.clone(), t)).collect();
    for (text, want) in [
        ("lora", 294_912),
        ("ia3", 55_296),
        ("ia3[use_gating=True]", 55_296 + 36 * 769),
        ("unipelt", 11_083_376),
        ("vera", 24 * (768 + 8)), // the library's matrices are 14,169,600 numbers, with those that do not train
        ("dora", 313_344),
        ("dora[as_peft=True]", 313_344),
    ] {
        let (mut set, config) = (ParamSet::new(), parse(text, &Fields::new()).unwrap());
        Adapter::new("task", config, Base::new(&sites, &named), &null, &mut set, 1).unwrap();
        assert_eq!(set.elements(), want, "{text}");
    }
}
#[test]
fn new_ones_change_nothing_until_they_have_learned() {
    for family in ["bert", "gpt2"] {
        let (device, tokens) = (cpu(), tokens());
        let (model, _) = backbone(family, &device);
        let plain = hidden(&*model, &Plain, &tokens, &device);
        let vera =
            if family == "bert" { "vera" } else { "vera[as_peft=True,attn_matrices=[qkv],output_lora=True]" };
        for text in [vera, "ia3", "ia3[attn_matrices=[q],output_lora=True]", "lora[use_gating=True]"] {
            let (adapter, _) = made(family, text, &device).unwrap();
            assert!(hidden(&*model, &adapter, &tokens, &device) == plain, "{family} {text}");
        }
        for text in [
            "dora",
            "dora[attn_matrices=[k],output_lora=True,r=2]",
            "dora[as_peft=True,attn_matrices=[qkv,o]]",
        ] {
            let text = if family == "bert" { text.replace("qkv,", "q,k,") } else { text.replace(",o]", "]") };
            let (adapter, _) = made(family, &text, &device).unwrap();
            let e = relative(&hidden(&*model, &adapter, &tokens, &device), &plain);
            assert!(e < 1e-6, "{family} {text}: {e:.1e}");
        }
        let (halved, _) = made(family, "ia3[use_gating=True]", &device).unwrap();
        assert!(hidden(&*model, &halved, &tokens, &device) != plain, "a gate is about a half at first");
    }
}

/// What AdapterHub's form of an IA3 is in PEFT's.
#[test]
fn adapterhubs_form_in_pefts() {
    for name in ["bert-ia3", "bert-ia3-scaled", "gpt2-ia3", "gpt2-ia3-some", "bert-vera-diagonal"] {
        let case = Family::load(&at(name));
        let dir = tempfile::tempdir().unwrap();
        for (n, bytes) in case.adapter.files_as(Format::Peft, &case.host).unwrap() {
            std::fs::write(dir.path().join(n), bytes).unwrap();
        }
        let again = Adapter::load_frozen(dir.path(), &case.host, case.model.sites(), &case.device).unwrap();
        let e = relative(&case.hidden(&again), &case.hidden(&case.adapter));
        assert!(e < 1e-6, "{name}: {e:.1e}");
    }
    for (name, why) in [
        ("bert-ia3-gated", "PEFT's format has no gates"),
        ("bert-lora-gated", "PEFT's format has no gates"),
        ("bert-vera-gated", "PEFT's format has no gates"),
        ("bert-vera", "whole matrices"),
        ("bert-dora", "no DoRA as AdapterHub computes it"),
    ] {
        let case = Family::load(&at(name));
        let files = case.adapter.files_as(Format::Peft, &case.host);
        says(files.map(drop).map_err(|e| e.to_string()), &[why]);
    }
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    for (text, words) in [
        ("ia3[r=2]", &["`r` is 2", "`scale`"][..]),
        ("ia3[dropout=0.1]", &["`dropout` is 0.1", "`scale`"]),
        ("ia3[use_rslora=True]", &["`use_rslora`"]),
        ("ia3[composition_mode=times]", &["`composition_mode` is `times`"]),
        ("ia3[alpha=1e300]", &["`alpha`"]),
        ("ia3[selfattn_lora=False,intermediate_lora=False]", &["nothing to train"]),
        ("ia3[init_weights=ones]", &["unknown variant `ones`"]),
        ("ia3|lora", &["two members of a union have `loras`"]),
        ("dora[use_dora=False,composition_mode=scale,r=1,use_rslora=True]", &["`use_rslora`"]),
        ("dora[use_gating=True,as_peft=True]", &["`as_peft`"]),
        ("vera[use_dora=True]", &["`use_dora`", "DVoRA"]),
        ("vera[vera_b=None]", &["`vera_b` and `vera_d` belong together"]),
        ("vera[composition_mode=scale,r=1]", &["`vera_d`", "`scale`"]),
        ("vera[intermediate_lora=True]", &["differ in size", "`as_peft`"]),
        ("lora[init_weights=pissa,r=33]", &["`pissa`", "`r` is 33", "rank of 32"]),
        ("lora[init_weights=pissa,alpha=0]", &["`pissa`", "`alpha` above 0"]),
        ("lora[init_weights=pissa_niter_x]", &["`pissa_niter_x`", "`pissa_niter_N`"]),
        ("lora[init_weights=pissa,use_dora=True]", &["`pissa`", "without `use_dora`"]),
        ("ia3[init_weights=loftq]", &["`loftq`", "`scale`"]),
        ("unipelt[r=2]", &["`r` is a field of a member"]),
    ] {
        for family in ["bert", "gpt2"] {
            says(made(family, text, &cpu()).map(drop), words);
        }
    }
}
/// A fixture's files with a field or a tensor changed, read again.
fn changed(name: &str, edit: impl FnOnce(&mut Value)) -> Result<(), String> {
    changed_with(name, edit, |_| ())
}
fn changed_with(
    name: &str,
    edit: impl FnOnce(&mut Value),
    retensor: impl FnOnce(&mut support::files::Tensors),
) -> Result<(), String> {
    let (from, dir) = (fixture(&at(name)), tempfile::tempdir().unwrap());
    let mut card = json_of(&from.join("adapter_config.json"));
    edit(&mut card);
    std::fs::write(dir.path().join("adapter_config.json"), card.to_string()).unwrap();
    for file in ["adapter.safetensors", "adapter_model.safetensors"] {
        if from.join(file).exists() {
            let mut tensors = support::files::tensors(&from.join(file));
            retensor(&mut tensors);
            std::fs::write(dir.path().join(file), support::files::safetensors(&tensors)).unwrap();
            break;
        }
    }
    let device = cpu();
    let (model, host) = backbone(name.split('-').next().unwrap(), &device);
    let named = model.named();
    let base = Base::new(model.sites(), &named);
    Adapter::load(dir.path(), &host, base, &device, &mut ParamSet::new()).map(drop).map_err(|e| e.to_string())
}
#[test]
fn files_that_are_something_else_are_refused() {
    use support::files::{StoredTensor, Tensors};
    let set = |field: &'static str, value: Value| move |card: &mut Value| card[field] = value;
    for (field, value, part) in [
        ("feedforward_modules", Value::Null, "no `feedforward_modules`"),
        ("feedforward_modules", json!([]), "is [1, 40], the configuration needs [32, 1]"),
        ("feedforward_modules", json!(["c_attn"]), "c_attn.ia3_l"),
        ("target_modules", json!(["c_attn"]), "has no place"),
        ("target_modules", json!(["c_attn", "c_proj"]), "no tensor"),
        ("target_modules", Value::Null, "no `target_modules`"),
        ("layers_to_transform", json!([1]), "has no place"),
        ("bias", json!("all"), "`bias`"),
        ("a_field", json!(1), "`a_field` is 1"),
    ] {
        says(changed("gpt2-peft-ia3", set(field, value)), &["adapter_", part]);
    }
    for (field, value, part) in [
        ("init_lora_weights", json!("pissa_niter_many"), "own weights"),
        ("use_dora", json!(true), "without `use_dora`"),
        ("r", json!(40), "rank of 32"),
    ] {
        says(changed("bert-peft-pissa", set(field, value)), &["adapter_", part]);
    }
    for (field, value, part) in [
        ("save_projection", json!(false), "`save_projection` is false"),
        ("bias", json!("all"), "`bias` is `all`"),
        ("r", json!(0), "`r` is 0"),
        ("r", json!(3), "[4, 40], the configuration needs [3, 40]"),
        ("vera_dropout", json!(1), "`vera_dropout` is 1"),
        ("target_modules", json!(["c_attn"]), "has no place"),
        ("target_modules", json!(["c_attn", "c_fc", "mlp.c_proj"]), "no tensor"),
    ] {
        says(changed("gpt2-peft-vera", set(field, value)), &["adapter_", part]);
    }
    let less =
        |t: &mut Tensors| drop(t.insert("base_model.vera_A".into(), StoredTensor::f32(&[0.5; 8], &[4, 2])));
    says(changed_with("gpt2-peft-vera", |_| (), less), &["`base_model.vera_A` is for 2 inputs"]);
    let gone = |t: &mut Tensors| drop(t.remove("base_model.vera_B"));
    says(changed_with("gpt2-peft-vera", |_| (), gone), &["no tensor", "base_model.vera_"]);
    let config = |field: &'static str, value: Value| move |card: &mut Value| card["config"][field] = value;
    for (name, field, value, part) in [
        ("bert-ia3", "composition_mode", json!("add"), "lora_A"),
        ("bert-ia3", "use_gating", json!(true), "gate.weight"),
        ("bert-ia3", "attn_matrices", json!(["k"]), "has no place"),
        ("gpt2-ia3", "attn_matrices", json!(["k"]), "[32, 1]"),
        ("bert-ia3-gated", "use_gating", json!(false), "has no place"),
        ("bert-lora-gated", "composition_mode", json!("scale"), "`r` is 3"),
        ("bert-ia3", "init_weights", json!("pissa"), "`pissa`"),
        ("bert-dora", "use_dora", json!(false), "has no place"),
        ("bert-vera", "vera_d", Value::Null, "belong together"),
        ("bert-vera", "r", json!(3), "[4, 32], the configuration needs [3, 32]"),
        ("bert-dora", "as_peft", json!(true), "unknown field `as_peft`"),
    ] {
        says(changed(name, config(field, value)), &["adapter", part]);
    }
    let first = |edit: fn(&mut StoredTensor)| {
        let is_own = |name: &String| ["lora_B", "ia3_l"].iter().any(|end| name.ends_with(end));
        move |t: &mut Tensors| edit(t.iter_mut().find(|(name, _)| is_own(name)).unwrap().1)
    };
    let nan = first(|t| t.bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes()));
    says(changed_with("bert-ia3", |_| (), nan), &["adapter.safetensors", "lora_B", "not finite"]);
    let short = first(|t| *t = StoredTensor::f32(&[1.0], &[1, 1]));
    says(changed_with("bert-peft-ia3", |_| (), short), &["adapter_model.safetensors", "[1, 1]", "[1, 32]"]);
}
