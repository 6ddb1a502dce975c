//! LoRA that starts from the weights of the model: DoRA's lengths, PiSSA's singular values, LoftQ's
//! rounding errors. What is made here is saved, read back and merged; backbones are stored in every
//! way.
mod support;
use engraft_adapters::{Adapter, Base, Fields, Format, Merged, parse};
use engraft_engine::{ParamSet, Parameters, Plain, SiteInfo, Storage};
use engraft_models::{Holding, Model};
use serde_json::json;
use support::{
    cpu,
    families::{Family, backbone},
    faults::*,
    fixture,
    made::*,
    merged_model, relative,
};

const PISSA: [&str; 2] = ["bert-peft-pissa", "gpt2-peft-pissa"];
fn at(name: &str) -> String {
    format!("linear/{name}")
}

/// DoRA as AdapterHub's on GPT-2, which that library has not, and as PEFT's; VeRA of both.
#[test]
fn what_is_made_here_is_saved_read_back_and_merged() {
    for (family, text, format) in [
        ("gpt2", "dora[attn_matrices=[q,v],r=2,alpha=6,output_lora=True]", Format::AdapterHub),
        ("gpt2", "dora[attn_matrices=[k],intermediate_lora=True,leave_out=[1]]", Format::AdapterHub),
        ("gpt2", "dora[as_peft=True,attn_matrices=[qkv],r=3,alpha=7,output_lora=True]", Format::Peft),
        ("bert", "dora[as_peft=True,attn_matrices=[q,o],r=3,use_rslora=True]", Format::Peft),
        ("bert", "dora[r=2,alpha=6]", Format::AdapterHub),
        ("bert", "vera[vera_b=0.3,alpha=4]", Format::AdapterHub),
        ("bert", "vera[vera_b=0.2,as_peft=True,attn_matrices=[q,o],output_lora=True,r=3]", Format::Peft),
        ("gpt2", "vera[vera_b=0.2,as_peft=True,attn_matrices=[qkv],intermediate_lora=True]", Format::Peft),
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
        let files = adapter.files_as(other, &host).map_err(|e| e.to_string());
        if text.starts_with("vera") && other == Format::Peft {
            files.unwrap().iter().for_each(|(n, bytes)| std::fs::write(dir.path().join(n), bytes).unwrap());
            let again = Adapter::load_frozen(dir.path(), &host, model.sites(), &device).unwrap();
            assert!(relative(&hidden(&*model, &again, &tokens, &device), &want) < 1e-6, "{text}");
        } else {
            says(files.map(drop), &["format has no"]);
        }
    }
}
#[test]
fn a_start_from_the_largest_singular_values_is_saved_as_an_ordinary_lora() {
    for name in PISSA {
        let (case, dir) = (Family::load(&at(name)), tempfile::tempdir().unwrap());
        case.adapter.save(dir.path(), &case.host).unwrap();
        let card = json_of(&dir.path().join("adapter_config.json"));
        assert_eq!(
            (&card["init_lora_weights"], &card["r"]),
            (&json!(true), &json!(if name.starts_with("b") { 8 } else { 6 }))
        );
        let again = Adapter::load_frozen(dir.path(), &case.host, case.model.sites(), &case.device).unwrap();
        let e = relative(&case.hidden(&again), &case.hidden(&case.adapter));
        assert!(e < 1e-5, "{name}: {e:.1e}");
    }
    for (family, text) in [
        ("bert", "lora[init_weights=pissa,r=3,alpha=2]"),
        ("bert", "lora[init_weights=pissa_niter_4,attn_matrices=[q,o],use_rslora=True]"),
        ("gpt2", "lora[init_weights=pissa,r=2,attn_matrices=[q,v],output_lora=True,dropout=0.5]"),
        ("gpt2", "lora[init_weights=pissa,r=5,attn_matrices=[qkv],leave_out=[0]]"),
    ] {
        let (device, tokens) = (cpu(), tokens());
        let (model, host) = backbone(family, &device);
        let plain = hidden(&*model, &Plain, &tokens, &device);
        let (mut adapter, _) = made(family, text, &device).unwrap();
        let e = relative(&hidden(&*model, &adapter, &tokens, &device), &plain);
        assert!(e < 1e-5, "{family} {text}: it starts as the model, {e:.1e}");
        // a step away from there
        let mut seed = 0;
        adapter.visit_mut(&mut |p| {
            let mut values = p.tensor().to_f32().unwrap();
            values
                .iter_mut()
                .zip(support::noise(seed, p.tensor().elements()))
                .for_each(|(v, n)| *v += 0.1 * n);
            seed += 1;
            p.buffer_mut().write(&values).unwrap();
        });
        let want = hidden(&*model, &adapter, &tokens, &device);
        assert!(relative(&want, &plain) > 1e-3);
        for format in Format::ALL {
            let Ok(files) = adapter.files_as(format, &host) else {
                assert_eq!(format, Format::AdapterHub);
                continue;
            };
            let dir = tempfile::tempdir().unwrap();
            files.iter().for_each(|(n, bytes)| std::fs::write(dir.path().join(n), bytes).unwrap());
            let again = Adapter::load_frozen(dir.path(), &host, model.sites(), &device).unwrap();
            let e = relative(&hidden(&*model, &again, &tokens, &device), &want);
            assert!(e < 1e-5, "{family} {text} as {format:?}: {e:.1e}");
        }
    }
}
/// Σ (a - b)² over all linear layers that an adapter stands at.
fn distance(a: &Merged, b: &Merged, adapter: &Adapter) -> f64 {
    let squares = |(i, _): (&SiteInfo, _)| {
        let name = format!("{}.weight", i.path);
        let pairs = a.get(&name).unwrap().iter().zip(b.get(&name).unwrap());
        pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>()
    };
    adapter.modules().map(squares).sum()
}
#[test]
fn what_rounding_took_from_a_quantised_backbone_is_given_back() {
    for family in ["bert", "gpt2"] {
        for storage in [Storage::Int8, Storage::Nf4] {
            let (device, tokens) = (cpu(), tokens());
            let (directory, how) = (
                fixture(&format!("{family}/model")),
                Holding { storage: Some(storage), ..Holding::default() },
            );
            let loaded = engraft_models::load_frozen(&directory, &device, how).unwrap();
            let (named, sites) = (loaded.model.named(), loaded.model.sites());
            let base = Base::new(sites, &named).in_directory(&directory);
            let make = |text: &str, base| {
                let config = parse(text, &Fields::new()).unwrap();
                Adapter::new("task", config, base, &device, &mut ParamSet::new(), 1)
                    .map_err(|e| e.to_string())
            };
            let exact = Merged::copy(&backbone(family, &device).0.named()).unwrap();
            let mut rest = vec![];
            for r in [1, 8, 32] {
                let all = "attn_matrices=[q,k,v],intermediate_lora=True,output_lora=True";
                let adapter = make(&format!("lora[init_weights=loftq,r={r},alpha=3,{all}]"), base).unwrap();
                let mut merged = Merged::copy(&named).unwrap();
                let before = distance(&merged, &exact, &adapter);
                merged.merge(&adapter).unwrap();
                rest.push(distance(&merged, &exact, &adapter) / before);
                assert_eq!(adapter.config().adapterhub().unwrap()["init_weights"], "lora");
                hidden(&*loaded.model, &adapter, &tokens, &device);
            }
            println!("{family} {storage:?}: {rest:?}");
            assert!(rest[0] < 0.95 && rest[1] < rest[0] && rest[2] < 1e-8, "{family} {storage:?}: {rest:?}");
            let text = "lora[init_weights=loftq]";
            says(make(text, Base::new(sites, &named)), &["`loftq`", "files were not given"]);
            says(make(text, Base::from(sites)), &["starts from the weights of the model"]);
        }
        says(made(family, "lora[init_weights=loftq]", &cpu()), &["`loftq`", "are not quantised"]);
        // a trained one goes with what was left of the weights as they were
        let (directory, device) = (fixture(&format!("{family}/model")), cpu());
        let how = Holding { storage: Some(Storage::Int8), ..Holding::default() };
        let model = engraft_models::load_frozen(&directory, &device, how).unwrap().model;
        let (named, saved) = (model.named(), fixture(&at(&format!("{family}-peft-pissa"))));
        let base = Base::new(model.sites(), &named);
        let loaded = Adapter::load_frozen(&saved, &support::host_of(&*model), base, &device);
        says(loaded.map_err(|e| e.to_string()), &["`pissa`", "are quantised"]);
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
