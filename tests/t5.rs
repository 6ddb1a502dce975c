//! T5 and mT5 beside `transformers`, and adapters on T5 beside AdapterHub's `adapters` and PEFT
//! (fixtures by `tests/reference/t5.py`): hidden states of the decoder, logits, loss, every gradient,
//! training curves, the files.
mod support;
use engraft_engine::kernels::cross_entropy::IGNORED;
use engraft_engine::{Class, Cx, Device, Gradients, Param, ParamSet, Pass, Plain, Rows};
use engraft_models::{Holding, Model, Tokens};
use std::path::PathBuf;
use support::{
    Expected, cpu, curve,
    families::{Family, json, lists},
    fixture, relative,
};

/// Gates, an output layer of its own, stacks of unequal depth, the first files' names.
const VARIANTS: [&str; 4] = ["flan", "mt5", "uneven", "old"];
const CASES: [&str; 16] = [
    "houlsby",
    "pfeiffer",
    "parallel",
    "cross",
    "compacter",
    "invertible",
    "lora-qv",
    "lora-all",
    "ia3",
    "prefix",
    "prefix-flat",
    "prefix-encoder",
    "prefix-decoder",
    "peft-qv",
    "peft-all",
    "peft-ia3",
];

fn case(name: &str) -> PathBuf {
    fixture(&format!("t5/{name}"))
}
/// A batch and the label of each row of the decoder.
fn input(name: &str) -> (Tokens, Vec<u32>) {
    let v = json(&case(name).join("input.json"));
    let tokens = Tokens::new(&lists(&v, "input_ids").unwrap());
    let labels: Vec<Vec<i64>> = serde_json::from_value(v["labels"].clone()).unwrap();
    let labels = labels.concat().iter().map(|l| u32::try_from(*l).unwrap_or(IGNORED)).collect();
    (tokens.with_target(&lists(&v, "decoder_input_ids").unwrap()), labels)
}
fn directory(name: &str) -> PathBuf {
    let own = case(name);
    if own.join("config.json").exists() { own } else { case("model") }
}
/// The mean loss, and its gradients.
fn learn(device: &Device, model: &dyn Model, (tokens, labels): &(Tokens, Vec<u32>)) -> (f32, Gradients) {
    let mut g = Gradients::new();
    let mut cx = Cx::new(device, &Plain, Pass::gradients());
    let hidden = model.forward(&mut cx, tokens, &Rows::All).unwrap();
    let (x, vocabulary) = model.to_vocabulary(&mut cx, &hidden).unwrap().unwrap();
    let (sum, count) = cx.linear_cross_entropy(&x, vocabulary, labels).unwrap();
    let mean = sum.read().unwrap()[0] / count as f32;
    cx.backward(&sum, device.upload(Class::Scratch, &[1.0 / count as f32]).unwrap(), &mut g).unwrap();
    (mean, g)
}

#[test]
fn the_plain_model_and_its_variants() {
    for name in ["plain", "full"].into_iter().chain(VARIANTS) {
        let device = cpu();
        let loaded = engraft_models::load_frozen(&directory(name), &device, Holding::default()).unwrap();
        assert_eq!((&*loaded.unused, &*loaded.unread), (&[][..], &[][..]), "{name}");
        let mut cx = Cx::new(&device, &Plain, Pass::infer());
        let hidden = loaded.model.forward(&mut cx, &input(name).0, &Rows::All).unwrap();
        let (x, vocabulary) = loaded.model.to_vocabulary(&mut cx, &hidden).unwrap().unwrap();
        let logits = cx.matmul(&x, vocabulary).unwrap();
        let want = Expected::at(&case(name));
        let errors = [
            relative(&hidden.read().unwrap(), &want.get("last_hidden_state")),
            relative(&logits.read().unwrap(), &want.get("logits")),
        ];
        println!("{name}: {errors:?}");
        assert!(errors.iter().all(|e| *e < 1e-5), "{name}: {errors:?}");
    }
}

#[test]
fn every_gradient_of_full_fine_tuning() {
    for name in ["full"].into_iter().chain(VARIANTS) {
        let (device, mut set) = (cpu(), ParamSet::new());
        let model = engraft_models::load_trained(&directory(name), &device, &mut set).unwrap().model;
        let want = Expected::at(&case(name));
        let (mean, g) = learn(&device, &*model, &input(name));
        assert!(relative(&[mean], &want.get("loss")) < 1e-5, "{name}");
        let (mut compared, mut worst) = (0, 0f64);
        model.visit(&mut |p: &Param| {
            let got: Vec<f32> = g.get(p).unwrap_or_else(|| panic!("{name}: {}", p.name())).read().unwrap();
            let e = relative(&got, &want.get(&format!("grad.{}", p.name())));
            assert!(e < 1e-4, "{name}: {} {e:.1e}", p.name());
            (compared, worst) = (compared + 1, worst.max(e));
        });
        assert_eq!(compared, want.gradients().len(), "{name}: every gradient of the library");
        println!("{name}: {compared} gradients {worst:.1e}");
    }
}

#[test]
fn ten_steps_of_adamw() {
    let (device, mut set) = (cpu(), ParamSet::new());
    let mut model = engraft_models::load_trained(&directory("full"), &device, &mut set).unwrap().model;
    let input = input("full");
    curve::follow(&case("full"), |optimiser, rate| {
        let (mean, g) = learn(&device, &*model, &input);
        curve::update(optimiser, &mut [&mut *model], &g, rate);
        mean
    });
}

#[test]
fn adapters() {
    CASES.iter().for_each(|name| Family::load(&format!("t5/{name}")).agrees(name));
}
#[test]
fn adapters_learn() {
    CASES.iter().for_each(|name| Family::load(&format!("t5/{name}")).learns_alike(name));
}
#[test]
fn adapters_are_saved_as_the_library_saved_them() {
    CASES.iter().for_each(|name| Family::load(&format!("t5/{name}")).saves_alike(name));
}
#[test]
fn layers_computed_again_and_bytes_foretold() {
    CASES.iter().for_each(|name| Family::recomputes_and_predicts(&format!("t5/{name}")));
}
