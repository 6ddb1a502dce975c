//! GPT-2 beside `transformers` (fixtures by `tests/reference/gpt2.py`): hidden states, logits,
//! loss, every gradient of full fine-tuning, a training curve.
mod support;
use engraft_engine::kernels::cross_entropy::IGNORED;
use engraft_engine::{Act, Class, Cx, Device, Gradients, Hooks, KvCache, Param, ParamSet, Pass, Plain, Rows};
use engraft_models::{Holding, Model, Tokens};
use std::path::{Path, PathBuf};
use support::{Expected, cpu, curve, relative};

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gpt2").join(name)
}
/// A batch, and for each sequence the label of every token; none where it has no label.
fn input(name: &str) -> (Tokens, Vec<Vec<Option<u32>>>) {
    let text = std::fs::read_to_string(case(name).join("input.json")).unwrap();
    let v: serde_json::Value = serde_json::from_str(&text).unwrap();
    let lists = |key: &str| -> Vec<Vec<i64>> { serde_json::from_value(v[key].clone()).unwrap_or_default() };
    let ids: Vec<Vec<u32>> =
        lists("input_ids").iter().map(|s| s.iter().map(|x| *x as u32).collect()).collect();
    let label = |x: &i64| u32::try_from(*x).ok();
    (Tokens::new(&ids), lists("labels").iter().map(|s| s.iter().map(label).collect()).collect())
}
/// Where the model of a case is: its own, or the one that most share.
fn directory(name: &str) -> PathBuf {
    let own = case(name);
    if own.join("config.json").exists() { own } else { case("model") }
}
/// The loss of a language model, as transformers shifts the labels: its sum, and of how many
/// tokens.
fn loss<'m>(
    cx: &mut Cx<'m>,
    model: &'m dyn Model,
    tokens: &Tokens,
    labels: &[Vec<Option<u32>>],
) -> (Act, usize) {
    let hidden = model.forward(cx, tokens, &Rows::All).unwrap();
    let (x, vocabulary) = model.to_vocabulary(cx, &hidden).unwrap().unwrap();
    // the row in front of a token predicts it
    let next = |s: &Vec<Option<u32>>| s[1..].iter().map(|l| l.unwrap_or(IGNORED)).chain([IGNORED]).collect();
    let targets: Vec<u32> = labels.iter().flat_map(|s| -> Vec<u32> { next(s) }).collect();
    cx.linear_cross_entropy(&x, vocabulary, &targets).unwrap()
}
/// The gradients of the mean, and the mean.
fn learn(
    device: &Device,
    model: &dyn Model,
    tokens: &Tokens,
    labels: &[Vec<Option<u32>>],
) -> (f32, Gradients) {
    let mut g = Gradients::new();
    let mut cx = Cx::new(device, &Plain as &dyn Hooks, Pass::gradients());
    let (sum, count) = loss(&mut cx, model, tokens, labels);
    let mean = sum.read().unwrap()[0] / count as f32;
    cx.backward(&sum, device.upload(Class::Scratch, &[1.0 / count as f32]).unwrap(), &mut g).unwrap();
    (mean, g)
}

const VARIANTS: [&str; 5] = ["wide", "inverse-layer", "unscaled", "reorder", "untied"];

#[test]
fn the_plain_model_and_its_variants() {
    for name in ["plain", "full"].into_iter().chain(VARIANTS) {
        let device = cpu();
        let loaded = engraft_models::load_frozen(&directory(name), &device, Holding::default()).unwrap();
        assert_eq!((&*loaded.unused, &*loaded.unread), (&[][..], &[][..]), "{name}");
        let (tokens, _) = input(name);
        let mut cx = Cx::new(&device, &Plain, Pass::infer());
        let hidden = loaded.model.forward(&mut cx, &tokens, &Rows::All).unwrap();
        let (x, vocabulary) = loaded.model.to_vocabulary(&mut cx, &hidden).unwrap().unwrap();
        let logits = cx.matmul(&x, vocabulary).unwrap();
        let want = Expected::at(&case(name));
        let (a, b) = (
            relative(&hidden.read().unwrap(), &want.get("last_hidden_state")),
            relative(&logits.read().unwrap(), &want.get("logits")),
        );
        println!("{name}: hidden {a:.1e}, logits {b:.1e}");
        assert!(a < 1e-5 && b < 1e-5, "{name}");
    }
}

#[test]
fn every_gradient_of_full_fine_tuning() {
    for name in ["full"].into_iter().chain(VARIANTS) {
        let (device, mut set) = (cpu(), ParamSet::new());
        let model = engraft_models::load_trained(&directory(name), &device, &mut set).unwrap().model;
        let ((tokens, labels), want) = (input(name), Expected::at(&case(name)));
        let (mean, g) = learn(&device, &*model, &tokens, &labels);
        assert!(relative(&[mean], &want.get("loss")) < 1e-5, "{name}");
        let (mut compared, mut worst) = (0, 0f64);
        model.visit(&mut |p: &Param| {
            let got: Vec<f32> = g.get(p).unwrap_or_else(|| panic!("{name}: {}", p.name())).read().unwrap();
            let want = want.get(&format!("grad.{}", p.name()));
            let e = relative(&got, &want);
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
    let (tokens, labels) = input("full");
    let text = std::fs::read_to_string(case("full").join("curve.json")).unwrap();
    let how: serde_json::Value = serde_json::from_str(&text).unwrap();
    let listed = |k: &str, n: &str| how[k].as_array().unwrap().iter().any(|x| x == n);
    model.visit(&mut |p| {
        let list = if p.role().decays { "decayed" } else { "not_decayed" };
        assert!(listed(list, p.name()), "{} is not {list}", p.name());
    });
    curve::follow(&case("full"), |optimiser, rate| {
        let (mean, g) = learn(&device, &*model, &tokens, &labels);
        curve::update(optimiser, &mut [&mut *model], &g, rate);
        mean
    });
}

#[test]
fn decoding_with_a_cache_gives_the_states_of_the_whole() {
    let device = cpu();
    let model = engraft_models::load_frozen(&directory("plain"), &device, Holding::default()).unwrap().model;
    // longest first: those that end are the last ones, so that a sequence keeps its number
    let texts: [&[u32]; 3] = [&[3, 1, 4, 1, 5, 9, 2], &[3, 5, 8, 9, 7], &[6, 5]];
    let mut cx = Cx::new(&device, &Plain, Pass::infer());
    let all = model.forward(&mut cx, &Tokens::new(&texts), &Rows::All).unwrap().read().unwrap();
    let mut want = all.chunks(32);

    let mut cache = KvCache::new(texts.len(), 7);
    let mut states: Vec<Vec<f32>> = vec![vec![]; texts.len()];
    // the first two tokens of all texts at once, then one after the other
    for (from, to) in [(0, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 7)] {
        let own: Vec<&[u32]> = texts.iter().filter(|t| t.len() >= to).map(|t| &t[from..to]).collect();
        let mut cx = Cx::new(&device, &Plain, Pass::infer()).with_cache(cache).unwrap();
        let y = model.forward(&mut cx, &Tokens::new(&own), &Rows::All).unwrap();
        let values = y.read().unwrap();
        for (state, s) in states.iter_mut().zip(y.seqs().iter()) {
            state.extend(&values[s.start * 32..(s.start + s.len) * 32]);
        }
        cache = cx.into_cache().unwrap();
    }
    assert_eq!(cache.tokens(0), 7);
    for (got, text) in states.iter().zip(texts) {
        let want: Vec<f32> = want.by_ref().take(text.len()).flatten().copied().collect();
        assert!(relative(got, &want) < 1e-5);
    }
    // a text beyond its positions is an error, and so are gradients through what is remembered
    let mut cx = Cx::new(&device, &Plain, Pass::infer()).with_cache(cache).unwrap();
    let e = model.forward(&mut cx, &Tokens::new(&[vec![1; 24]]), &Rows::All).unwrap_err().to_string();
    assert!(e.contains("place 24"), "{e}");
    assert!(Cx::new(&device, &Plain, Pass::gradients()).with_cache(KvCache::new(1, 1)).is_err());
}
