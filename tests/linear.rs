//! Methods at linear layers beside LoRA: IA3, DoRA, gates, and the union with them, beside AdapterHub's `adapters` and PEFT on BERT
//! and GPT-2: hidden states, logits, loss, every gradient, a training curve, the files, the merge.
mod support;
use engraft_adapters::{Active, Adapter, AdapterSet, Base, Fields, Format, Merged, Setup, parse};
use engraft_engine::{
    Class, Cx, Device, Hooks, ParamSet, Pass, Plain, Rows, SiteInfo, SiteKind, Storage, Tensor,
};
use engraft_models::{Holding, Model, Tokens};
use serde_json::{Value, json};
use support::{
    cpu,
    families::{Family, backbone, bert_base},
    faults::*,
    fixture, merged_model, relative,
};

const CASES: [&str; 20] = [
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
];
fn at(name: &str) -> String {
    format!("linear/{name}")
}
fn is_gated(name: &str) -> bool {
    name.ends_with("-gated") || name.ends_with("-unipelt")
}

#[test]
fn hidden_states_logits_loss_and_gradients() {
    CASES.iter().for_each(|name| Family::load(&at(name)).agrees(name));
}
#[test]
fn ten_steps_of_adamw() {
    CASES.iter().for_each(|name| Family::load(&at(name)).learns_alike(name));
}
#[test]
fn what_is_saved_is_what_was_saved() {
    CASES.iter().for_each(|name| Family::load(&at(name)).saves_alike(name));
}
#[test]
fn layers_computed_again_and_bytes_foretold() {
    CASES.iter().for_each(|name| Family::recomputes_and_predicts(&at(name)));
}
#[test]
fn merged_into_a_copy_and_taken_out_again() {
    for name in CASES {
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

/// A new adapter, and how many numbers of it train.
fn made(family: &str, text: &str, device: &Device) -> Result<(Adapter, usize), String> {
    let (model, _) = backbone(family, device);
    let (named, mut set) = (model.named(), ParamSet::new());
    let config = parse(text, &Fields::new()).map_err(|e| e.to_string())?;
    let base = Base::new(model.sites(), &named);
    let a = Adapter::new("task", config, base, device, &mut set, 1).map_err(|e| e.to_string())?;
    Ok((a, set.elements()))
}
fn hidden(model: &dyn Model, hooks: &dyn Hooks, tokens: &Tokens, device: &Device) -> Vec<f32> {
    let mut cx = Cx::new(device, hooks, Pass::infer());
    model.forward(&mut cx, tokens, &Rows::All).unwrap().read().unwrap()
}
fn tokens() -> Tokens {
    Tokens::new(&[vec![3, 7, 1, 9, 4], vec![5, 2, 8], vec![6], vec![2, 2, 9, 1]])
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
        for text in ["ia3", "ia3[attn_matrices=[q],output_lora=True]", "lora[use_gating=True]"] {
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
    for name in ["bert-ia3", "bert-ia3-scaled", "gpt2-ia3", "gpt2-ia3-some"] {
        let case = Family::load(&at(name));
        let dir = tempfile::tempdir().unwrap();
        for (n, bytes) in case.adapter.files_as(Format::Peft, &case.host).unwrap() {
            std::fs::write(dir.path().join(n), bytes).unwrap();
        }
        let again = Adapter::load_frozen(dir.path(), &case.host, case.model.sites(), &case.device).unwrap();
        let e = relative(&case.hidden(&again), &case.hidden(&case.adapter));
        assert!(e < 1e-6, "{name}: {e:.1e}");
    }
    for name in ["bert-ia3-gated", "bert-lora-gated"] {
        let case = Family::load(&at(name));
        let files = case.adapter.files_as(Format::Peft, &case.host);
        says(files.map(drop).map_err(|e| e.to_string()), &["PEFT's format has no gates"]);
    }
}

/// DoRA as AdapterHub's on GPT-2, which that library has not, and as PEFT's, made here: saved, read back, merged.
#[test]
fn lengths_of_rows_are_saved_and_merged() {
    for (family, text, format) in [
        ("gpt2", "dora[attn_matrices=[q,v],r=2,alpha=6,output_lora=True]", Format::AdapterHub),
        ("gpt2", "dora[attn_matrices=[k],intermediate_lora=True,leave_out=[1]]", Format::AdapterHub),
        ("gpt2", "dora[as_peft=True,attn_matrices=[qkv],r=3,alpha=7,output_lora=True]", Format::Peft),
        ("bert", "dora[as_peft=True,attn_matrices=[q,o],r=3,use_rslora=True]", Format::Peft),
        ("bert", "dora[r=2,alpha=6]", Format::AdapterHub),
    ] {
        let (device, tokens, dir) = (cpu(), tokens(), tempfile::tempdir().unwrap());
        let (model, host) = backbone(family, &device);
        let text = text.replace("dora[", "dora[init_weights=bert,");
        let (adapter, _) = made(family, &text, &device).unwrap();
        let want = hidden(&*model, &adapter, &tokens, &device);
        assert!(relative(&want, &hidden(&*model, &Plain, &tokens, &device)) > 1e-5, "{text}");
        adapter.save(dir.path(), &host).unwrap();
        let again = Adapter::load_frozen(dir.path(), &host, model.sites(), &device).unwrap();
        assert_eq!(again.format(), format, "{text}");
        assert!(hidden(&*model, &again, &tokens, &device) == want, "{text}");
        let mut merged = Merged::copy(&model.named()).unwrap();
        merged.merge(&adapter).unwrap();
        let plain = merged_model(&merged, family, &device);
        let e = relative(&hidden(&*plain, &Plain, &tokens, &device), &want);
        assert!(e < 1e-5, "{family} {text}: {e:.1e}");
        let other = if format == Format::Peft { Format::AdapterHub } else { Format::Peft };
        says(adapter.files_as(other, &host).map(drop).map_err(|e| e.to_string()), &["format has no"]);
    }
}
/// The norm is that of the weights as they are stored.
#[test]
fn lengths_of_rows_of_a_quantised_backbone() {
    for family in ["bert", "gpt2"] {
        for storage in [Storage::Bf16, Storage::Int8, Storage::Nf4] {
            let device = cpu();
            let (directory, how) = (
                fixture(&format!("{family}/model")),
                Holding { storage: Some(storage), ..Holding::default() },
            );
            let model = engraft_models::load_frozen(&directory, &device, how).unwrap().model;
            let name = if family == "bert" { "bert-dora-all" } else { "gpt2-peft-dora" };
            let host = support::host_of(&*model);
            let load =
                |m: &dyn Model| Adapter::load_frozen(&fixture(&at(name)), &host, m.sites(), &device).unwrap();
            let decoded = merged_model(&Merged::copy(&model.named()).unwrap(), family, &device);
            let got = hidden(&*model, &load(&*model), &tokens(), &device);
            let want = hidden(&*decoded, &load(&*decoded), &tokens(), &device);
            let e = relative(&got, &want);
            assert!(e < 1e-5, "{family} {storage:?}: {e:.1e}");
        }
    }
}

/// Adapters of these configurations with random weights, on one model.
fn several(family: &str, texts: &[(&str, &str)], device: &Device) -> (Box<dyn Model>, AdapterSet) {
    let (model, host) = backbone(family, device);
    let mut set = AdapterSet::new();
    for (name, text) in texts {
        let adapter = match *text {
            saved if saved.starts_with(family) => {
                Adapter::load_frozen(&fixture(&at(saved)), &host, model.sites(), device).unwrap()
            }
            text => made(family, text, device).unwrap().0.freeze(),
        };
        set.add(adapter.renamed(name).unwrap()).unwrap();
    }
    (model, set)
}
/// Hidden states with a setup, and what each sequence gets by itself.
fn agree_alone(model: &dyn Model, set: &AdapterSet, setup: &str, device: &Device) -> Vec<f32> {
    let (setup, tokens): (Setup, _) = (setup.parse().unwrap(), tokens());
    let active = set.activate(&setup, 4).unwrap();
    let together = hidden(model, &active, &tokens, device);
    let (mut alone, mut start) = (vec![], 0);
    for (item, n) in tokens.lengths.iter().enumerate() {
        let one = Active::single(active.tree(0, item).unwrap().clone());
        let own = Tokens::new(&[&tokens.ids[start..start + n]]);
        alone.extend(hidden(model, &one, &own, device));
        start += n;
    }
    assert!(together == alone, "{setup}: each sequence as alone, to the bit");
    together
}
#[test]
fn composed_with_others_each_sequence_gets_what_it_gets_alone() {
    for family in ["bert", "gpt2"] {
        let device = cpu();
        let (i, g, u) =
            (format!("{family}-ia3"), format!("{family}-lora-gated"), format!("{family}-unipelt"));
        let texts = [
            ("i", i.as_str()),
            ("g", &g),
            ("u", &u),
            ("p", &format!("{family}-peft-ia3")),
            ("d", &format!("{family}-peft-dora")),
            ("l", "lora[r=2,init_weights=bert,attn_matrices=[q,k]]"),
            ("b", "houlsby[reduction_factor=8]"),
        ];
        let (model, set) = several(family, &texts, &device);
        for setup in [
            "Stack(i, g)",
            "Stack(p, i, l)",
            "Average(i, l, g, weights=[1, 2, 1])",
            "BatchSplit(i, None, g, l, batch_sizes=1)",
            "BatchSplit(u, Stack(l, p), None, Average(i, p), batch_sizes=1)",
            "Stack(b, BatchSplit(p, u, None, batch_sizes=[1, 2, 1]))",
            "BatchSplit(d, None, Stack(i, d), Average(d, l), batch_sizes=1)",
        ] {
            agree_alone(&*model, &set, setup, &device);
        }
    }
}
/// Factors multiply and sums add up, as in one merged after the other.
#[test]
fn a_stack_is_one_after_the_other() {
    for family in ["bert", "gpt2"] {
        let device = cpu();
        let texts = [
            ("i", format!("{family}-ia3")),
            ("p", format!("{family}-peft-ia3")),
            ("l", "lora[r=2,init_weights=bert,attn_matrices=[k,v],intermediate_lora=True]".into()),
        ];
        let texts = texts.each_ref().map(|(n, t)| (*n, t.as_str()));
        let (model, set) = several(family, &texts, &device);
        for names in [["i", "p", "l"], ["l", "i", "p"], ["p", "l", "i"]] {
            let setup: Setup = format!("Stack({})", names.join(", ")).parse().unwrap();
            let got = hidden(&*model, &set.activate(&setup, 4).unwrap(), &tokens(), &device);
            let mut merged = Merged::copy(&model.named()).unwrap();
            for name in names {
                merged.merge(set.get(name).unwrap()).unwrap();
                // what comes of it is what the next one is merged into
                let after = merged_model(&merged, family, &device);
                merged = Merged::copy(&after.named()).unwrap();
            }
            let plain = merged_model(&merged, family, &device);
            let e = relative(&got, &hidden(&*plain, &Plain, &tokens(), &device));
            assert!(e < 1e-5, "{family} {names:?}: {e:.1e}");
        }
    }
}
/// A bias of one's own, in front of factors and behind them.
#[test]
fn biases_and_factors_are_merged_in_their_order() {
    for family in ["bert", "gpt2"] {
        for text in ["bitfit|ia3[init_weights=bert]", "ia3[init_weights=bert]|bitfit"] {
            let (device, tokens) = (cpu(), tokens());
            let (model, _) = backbone(family, &device);
            let (adapter, _) = made(family, text, &device).unwrap();
            let mut merged = Merged::copy(&model.named()).unwrap();
            merged.merge(&adapter).unwrap();
            let plain = merged_model(&merged, family, &device);
            let got = hidden(&*plain, &Plain, &tokens, &device);
            let e = relative(&got, &hidden(&*model, &adapter, &tokens, &device));
            assert!(e < 1e-5, "{family} {text}: {e:.1e}");
        }
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
    let config = |field: &'static str, value: Value| move |card: &mut Value| card["config"][field] = value;
    for (name, field, value, part) in [
        ("bert-ia3", "composition_mode", json!("add"), "lora_A"),
        ("bert-ia3", "use_gating", json!(true), "gate.weight"),
        ("bert-ia3", "attn_matrices", json!(["k"]), "has no place"),
        ("gpt2-ia3", "attn_matrices", json!(["k"]), "[32, 1]"),
        ("bert-ia3-gated", "use_gating", json!(false), "has no place"),
        ("bert-lora-gated", "composition_mode", json!("scale"), "`r` is 3"),
    ] {
        says(changed(name, config(field, value)), &["adapter", part]);
    }
    use support::files::{StoredTensor, Tensors};
    let first = |edit: fn(&mut StoredTensor)| {
        let is_own = |name: &String| ["lora_B", "ia3_l"].iter().any(|end| name.ends_with(end));
        move |t: &mut Tensors| edit(t.iter_mut().find(|(name, _)| is_own(name)).unwrap().1)
    };
    let nan = first(|t| t.bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes()));
    says(changed_with("bert-ia3", |_| (), nan), &["adapter.safetensors", "lora_B", "not finite"]);
    let short = first(|t| *t = StoredTensor::f32(&[1.0], &[1, 1]));
    says(changed_with("bert-peft-ia3", |_| (), short), &["adapter_model.safetensors", "[1, 1]", "[1, 32]"]);
}
