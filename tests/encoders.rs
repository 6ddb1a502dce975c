//! Encoders beside `transformers`, `adapters` and PEFT (`tests/reference/encoders.py`): whatever
//! families and cases are among the fixtures.
mod support;
use engraft_adapters::Head;
use engraft_engine::kernels::{Usage, cross_entropy::IGNORED};
use engraft_engine::{
    Act, Activations, Class, Compute, Cx, Device, Gradients, Keep, Param, ParamSet, Parameters, Pass, Plain,
    Rows, Storage,
};
use engraft_models::{Holding, Tokens};
use serde_json::Value;
use std::path::PathBuf;
use support::families::{Family, folders, json};
use support::{Expected, composed, cpu, fixture, host_of, pooled, relative};

/// `encoders/roberta` and its like.
fn families() -> Vec<String> {
    let all: Vec<_> = folders("encoders/").into_iter().map(|f| format!("encoders/{f}")).collect();
    assert!(all.len() >= 2);
    all
}
/// The cases of all families that have this file.
fn cases_with(file: &str) -> Vec<String> {
    let of = |f: String| folders(&f).into_iter().map(move |case| format!("{f}/{case}"));
    let all = families().into_iter().flat_map(of);
    all.filter(|case| fixture(case).join(file).exists() && !case.ends_with("/model")).collect()
}
/// Models of their own: what a configuration can vary.
fn variants() -> Vec<String> {
    cases_with("config.json")
}
fn adapters() -> Vec<String> {
    cases_with("adapter_config.json")
}
/// Where the model of a case is: its own, or the one that its family's share.
fn directory(case: &str) -> PathBuf {
    let own = fixture(case);
    if own.join("config.json").exists() { own } else { own.with_file_name("model") }
}
/// A batch, and for each sequence its label or those of its tokens.
fn input(case: &str) -> (Tokens, Value) {
    let v = json(&fixture(case).join("input.json"));
    let lists = |k: &str| serde_json::from_value::<Vec<Vec<u32>>>(v[k].clone()).ok();
    let mut tokens = Tokens::new(&lists("input_ids").unwrap());
    if let Some(types) = lists("token_type_ids") {
        tokens.types = types.concat();
    }
    (tokens, v["labels"].clone())
}
/// The gradients of the mean of a loss, and the mean.
fn learn(cx: Cx<'_>, (sum, count): (Act, usize)) -> (f32, Gradients) {
    let mut g = Gradients::new();
    let mean = sum.read().unwrap()[0] / count as f32;
    let dy = cx.device().upload(Class::Scratch, &[1.0 / count as f32]).unwrap();
    cx.backward(&sum, dy, &mut g).unwrap();
    (mean, g)
}
/// Every gradient is that of the library.
fn gradients_agree(case: &str, all: &[&dyn Parameters], g: &Gradients, want: &Expected) {
    let names = want.gradients();
    let values = names.iter().flat_map(|n| want.get(&format!("grad.{n}")));
    let largest = values.fold(0f32, |m, x| m.max(x.abs()));
    let (mut compared, mut worst) = (0, 0f64);
    let mut compare = |p: &Param| {
        let (Some(got), true) = (g.get(p), names.iter().any(|n| n == p.name())) else {
            assert!(g.get(p).is_none() && !names.iter().any(|n| n == p.name()), "{case}: {}", p.name());
            return;
        };
        let (got, want) = (got.read::<f32>().unwrap(), want.get(&format!("grad.{}", p.name())));
        compared += 1;
        if want.iter().all(|x| x.abs() < 1e-6 * largest) {
            // exactly zero in theory: a softmax does not see a shift of its scores by a key's bias
            assert!(got.iter().all(|x| x.abs() < 1e-5 * largest), "{case}: {}", p.name());
            return;
        }
        let e = relative(&got, &want);
        assert!(e < 1e-4, "{case}: {} {e:.1e}", p.name());
        worst = worst.max(e);
    };
    all.iter().for_each(|p| p.visit(&mut compare));
    assert_eq!(compared, names.len(), "{case}: every gradient of the library");
    println!("{case}: {compared} gradients {worst:.1e}");
}

#[test]
fn hidden_states_pooler_and_logits() {
    for case in cases_with("input.json").iter().filter(|c| c.ends_with("/plain")).chain(&variants()) {
        let device = cpu();
        let loaded = engraft_models::load_frozen(&directory(case), &device, Holding::default()).unwrap();
        assert_eq!((&*loaded.unused, &*loaded.unread), (&[][..], &[][..]), "{case}");
        let ((tokens, _), want) = (input(case), Expected::at(&fixture(case)));
        let mut cx = Cx::new(&device, &Plain, Pass::infer());
        let hidden = loaded.model.forward(&mut cx, &tokens, &Rows::All).unwrap();
        let (x, vocabulary) = loaded.model.to_vocabulary(&mut cx, &hidden).unwrap().unwrap();
        let logits = cx.matmul(&x, vocabulary).unwrap();
        let mut errors = vec![
            relative(&hidden.read().unwrap(), &want.get("last_hidden_state")),
            relative(&logits.read().unwrap(), &want.get("logits")),
        ];
        if want.all().iter().any(|n| n == "pooler_output") {
            assert!(loaded.model.info().has_pooler, "{case}");
            let pooled = pooled(&mut cx, &*loaded.model, &hidden, true);
            errors.push(relative(&pooled.read().unwrap(), &want.get("pooler_output")));
        }
        println!("{case}: {errors:?}");
        assert!(errors.iter().all(|e| *e < 1e-5), "{case}: {errors:?}");
    }
}

#[test]
fn every_gradient_of_a_masked_language_model() {
    for case in variants() {
        let (device, mut set) = (cpu(), ParamSet::new());
        let model = engraft_models::load_trained(&directory(&case), &device, &mut set).unwrap().model;
        let ((tokens, labels), want) = (input(&case), Expected::at(&fixture(&case)));
        let labels: Vec<Vec<i64>> = serde_json::from_value(labels).unwrap();
        let targets: Vec<u32> =
            labels.concat().iter().map(|l| u32::try_from(*l).unwrap_or(IGNORED)).collect();
        let mut cx = Cx::new(&device, &Plain, Pass::gradients());
        let hidden = model.forward(&mut cx, &tokens, &Rows::All).unwrap();
        let (x, vocabulary) = model.to_vocabulary(&mut cx, &hidden).unwrap().unwrap();
        let loss = cx.linear_cross_entropy(&x, vocabulary, &targets).unwrap();
        let (mean, g) = learn(cx, loss);
        assert!(relative(&[mean], &want.get("loss")) < 1e-5, "{case}");
        gradients_agree(&case, &[&*model as &dyn Parameters], &g, &want);
    }
}

#[test]
fn every_gradient_of_a_classifier() {
    for case in cases_with("head_config.json").iter().filter(|c| c.ends_with("/full")) {
        let (device, mut set) = (cpu(), ParamSet::new());
        let model = engraft_models::load_trained(&directory(case), &device, &mut set).unwrap().model;
        let head = Head::load(&fixture(case), &host_of(&*model), &device, &mut set).unwrap();
        let ((tokens, labels), want) = (input(case), Expected::at(&fixture(case)));
        let labels: Vec<u32> = serde_json::from_value(labels).unwrap();
        let mut cx = Cx::new(&device, &Plain, Pass::gradients());
        let hidden = model.forward(&mut cx, &tokens, &model.info().summary).unwrap();
        let x = pooled(&mut cx, &*model, &hidden, head.config().use_pooler());
        let logits = head.forward(&mut cx, &x, 0.0, None).unwrap();
        let e = relative(&logits.read().unwrap(), &want.get("logits"));
        assert!(e < 1e-5, "{case}: {e:.1e}");
        let loss = cx.cross_entropy(&logits, &labels).unwrap();
        let (mean, g) = learn(cx, loss);
        assert!(relative(&[mean], &want.get("loss")) < 1e-5, "{case}");
        gradients_agree(case, &[&*model as &dyn Parameters, &head], &g, &want);
    }
}

#[test]
fn adapters_do_what_the_libraries_do() {
    adapters().iter().for_each(|case| Family::load(case).agrees(case));
}
#[test]
fn adapters_learn_as_in_the_libraries() {
    adapters().iter().for_each(|case| Family::load(case).learns_alike(case));
}
#[test]
fn adapters_are_saved_as_by_the_libraries() {
    adapters().iter().for_each(|case| Family::load(case).saves_alike(case));
}
#[test]
fn what_is_computed_again_is_the_same_and_every_byte_is_known() {
    adapters().iter().for_each(|case| Family::recomputes_and_predicts(case));
}
#[test]
fn fusions_do_what_the_library_does() {
    for case in cases_with("cases.json") {
        let family = case.strip_suffix("/compose").unwrap();
        for policy in [Activations::default(), Activations::all(Keep::Recompute)] {
            for composed in composed::cases(family, &cpu()) {
                let e = composed.agrees(family, &composed::expected(family), &policy);
                println!("{family} {}: hidden {:.1e}, gradients {:.1e}", composed.name, e.0, e.1);
            }
        }
    }
}

/// Last hidden states of all rows, and what the device has held.
fn hidden(family: &str, device: &Device, how: Holding) -> (Vec<f32>, Usage) {
    let (tokens, _) = input(&format!("{family}/plain"));
    let directory = fixture(&format!("{family}/model"));
    let model = engraft_models::load_frozen(&directory, device, how).unwrap().model;
    let mut cx = Cx::new(device, &Plain, Pass::infer());
    let y = model.forward(&mut cx, &tokens, &Rows::All).unwrap();
    let (x, vocabulary) = model.to_vocabulary(&mut cx, &y).unwrap().unwrap();
    cx.matmul(&x, vocabulary).unwrap();
    (y.read().unwrap(), device.ledger().usage())
}
#[test]
fn every_storage_and_integer_products() {
    let ways = [
        (Some(Storage::Bf16), Compute::F32, 3e-2),
        (Some(Storage::F16), Compute::F32, 3e-3),
        (Some(Storage::Int8), Compute::F32, 6e-2),
        (Some(Storage::Nf4), Compute::F32, 5e-1),
        (None, Compute::Int8, 2e-1),
    ];
    for family in families() {
        let (exact, _) = hidden(&family, &cpu(), Holding::default());
        for (storage, compute, near) in ways {
            let how = Holding { storage, compute };
            let ((got, held), (_, predicted)) =
                (hidden(&family, &cpu(), how), hidden(&family, &Device::null(2), how));
            let e = relative(&got, &exact);
            println!("{family}, {how:?}: {e:.1e} from f32");
            assert!(e > 0.0 && e < near, "{family}, {how:?}: {e:.1e}");
            assert_eq!(held, predicted, "{family}, {how:?}");
        }
    }
}

#[test]
fn a_pass_from_a_layer_is_the_rest_of_the_whole() {
    for family in families() {
        let (device, (tokens, _)) = (cpu(), input(&format!("{family}/plain")));
        let directory = fixture(&format!("{family}/model"));
        let model = engraft_models::load_frozen(&directory, &device, Holding::default()).unwrap().model;
        let layers = model.info().layers;
        let mut cx = Cx::new(&device, &Plain, Pass::infer());
        let whole = model.forward(&mut cx, &tokens, &Rows::All).unwrap().read().unwrap();
        for from in 0..layers {
            let mut cx = Cx::new(&device, &Plain, Pass::infer());
            let x = model.embed(&mut cx, &tokens).unwrap();
            let below = model.run(&mut cx, 0..from, x, &Rows::All).unwrap().read().unwrap();
            let x = device.upload(Class::Scratch, &below).unwrap();
            let x = Act::new(x, model.info().channels, tokens.seqs()).unwrap();
            let mut cx = Cx::new(&device, &Plain, Pass::infer());
            let above = model.run(&mut cx, from..layers, x, &Rows::All).unwrap().read().unwrap();
            assert!(whole == above, "{family}: from layer {from}");
        }
    }
}

#[test]
fn files_that_say_nothing_are_known_by_the_names_of_their_tensors() {
    let load = |family: &str, more: &str| {
        let (dir, from) = (tempfile::tempdir().unwrap(), fixture(&format!("encoders/{family}/model")));
        let mut config = json(&from.join("config.json"));
        config.as_object_mut().unwrap().retain(|k, _| k != "model_type" && k != "architectures");
        if !more.is_empty() {
            config["model_type"] = more.into();
        }
        std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        std::fs::copy(from.join("model.safetensors"), dir.path().join("model.safetensors")).unwrap();
        let loaded = engraft_models::load_frozen(dir.path(), &cpu(), Holding::default());
        loaded.map(|l| l.model.info().family).map_err(|e| e.to_string())
    };
    assert_eq!(load("bert", "").unwrap(), "bert");
    assert_eq!(load("albert", "").unwrap(), "albert");
    // two families have these names, and what is said counts
    let error = load("roberta", "").unwrap_err();
    assert!(error.contains("it may be `roberta` or `xlm-roberta`: add `model_type`"), "{error}");
    assert!(load("bert", "other").unwrap_err().contains("`model_type` is `other`"));
}
