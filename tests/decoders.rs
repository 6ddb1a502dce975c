//! Every decoder of the registry, with or without an encoder, beside `transformers`, `adapters` and
//! PEFT (fixtures by `tests/reference/{gpt2,decoders,t5}.py`): hidden states, logits, loss, every gradient of full
//! fine-tuning and of adapters, training curves, decoding with a cache.
//!
//! A family needs no code here: its folder of fixtures has the cases.
mod support;
use engraft_engine::kernels::cross_entropy::IGNORED;
use engraft_engine::{Act, Class, Cx, Device, Gradients, Hooks, KvCache, Param, ParamSet, Pass, Plain, Rows};
use engraft_models::{Holding, Kind, Model, Tokens};
use std::path::PathBuf;
use support::{
    Expected, composed, cpu, curve,
    families::{self, Family, json},
    fixture,
    made::made,
    relative, relative_gradient,
};

/// The families that predict tokens, with or without an encoder; all of them have fixtures.
fn generators() -> Vec<String> {
    let kind = |name: &String| families::backbone(name, &cpu()).0.info().kind;
    let all: Vec<_> = families::all().into_iter().filter(|name| kind(name) != Kind::Encoder).collect();
    assert!(all.len() > 1);
    all
}
/// What a case has.
#[derive(Clone, Copy, PartialEq)]
enum Of {
    /// A model without adapters.
    Model,
    /// One adapter, perhaps with a head.
    Adapter,
    /// A setup of several.
    Setup,
}
/// `{family}/{case}` of all cases of a kind.
fn cases(of: Of) -> Vec<String> {
    let mut all = vec![];
    for family in &generators() {
        for file in std::fs::read_dir(fixture(&format!("{family}/model")).parent().unwrap()).unwrap() {
            let (path, name) = file.map(|f| (f.path(), f.file_name())).unwrap();
            let kind = match () {
                () if path.join("fusion").exists() => Of::Setup,
                () if path.join("adapter_config.json").exists() => Of::Adapter,
                () => Of::Model,
            };
            if kind == of && path.join("input.json").exists() {
                all.push(format!("{family}/{}", name.to_str().unwrap()));
            }
        }
    }
    all.sort();
    assert!(!all.is_empty());
    all
}

/// A batch, and for each sequence the label of every token; none where it has no label.
fn input(name: &str) -> (Tokens, Vec<Vec<Option<u32>>>) {
    let v = json(&fixture(name).join("input.json"));
    let lists = |key: &str| -> Vec<Vec<i64>> { serde_json::from_value(v[key].clone()).unwrap_or_default() };
    let ids: Vec<Vec<u32>> =
        lists("input_ids").iter().map(|s| s.iter().map(|x| *x as u32).collect()).collect();
    let label = |x: &i64| u32::try_from(*x).ok();
    let tokens = match families::lists(&v, "decoder_input_ids") {
        Some(target) => Tokens::new(&ids).with_target(&target),
        None => Tokens::new(&ids),
    };
    (tokens, lists("labels").iter().map(|s| s.iter().map(label).collect()).collect())
}
/// Where the model of a case is: its own, or the one that most share.
fn directory(name: &str) -> PathBuf {
    let own = fixture(name);
    if own.join("config.json").exists() { own } else { own.parent().unwrap().join("model") }
}
fn load(name: &str, device: &Device) -> Box<dyn Model> {
    let loaded = engraft_models::load_frozen(&directory(name), device, Holding::default()).unwrap();
    assert_eq!((&*loaded.unused, &*loaded.unread), (&[][..], &[][..]), "{name}");
    loaded.model
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
    // the row in front of a token predicts it; what a decoder reads beside an encoder has been shifted
    let first = usize::from(tokens.target.is_none());
    let next = |s: &Vec<Option<u32>>| -> Vec<u32> {
        s[first..].iter().map(|l| l.unwrap_or(IGNORED)).chain((0..first).map(|_| IGNORED)).collect()
    };
    let targets: Vec<u32> = labels.iter().flat_map(next).collect();
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

#[test]
fn models_and_their_variants() {
    for name in cases(Of::Model) {
        let (device, (tokens, _), want) = (cpu(), input(&name), Expected::at(&fixture(&name)));
        let model = load(&name, &device);
        let mut cx = Cx::new(&device, &Plain, Pass::infer());
        let hidden = model.forward(&mut cx, &tokens, &Rows::All).unwrap();
        let (x, vocabulary) = model.to_vocabulary(&mut cx, &hidden).unwrap().unwrap();
        let logits = cx.matmul(&x, vocabulary).unwrap();
        let (a, b) = (
            relative(&hidden.read().unwrap(), &want.get("last_hidden_state")),
            relative(&logits.read().unwrap(), &want.get("logits")),
        );
        println!("{name}: hidden {a:.1e}, logits {b:.1e}");
        assert!(a < 1e-5 && b < 1e-5, "{name}: hidden {a:.1e}, logits {b:.1e}");
    }
}

#[test]
fn every_gradient_of_full_fine_tuning() {
    for name in cases(Of::Model) {
        let ((tokens, labels), want) = (input(&name), Expected::at(&fixture(&name)));
        if want.gradients().is_empty() {
            continue; // without labels
        }
        let (device, mut set) = (cpu(), ParamSet::new());
        let model = engraft_models::load_trained(&directory(&name), &device, &mut set).unwrap().model;
        let (mean, g) = learn(&device, &*model, &tokens, &labels);
        let of_loss = relative(&[mean], &want.get("loss"));
        assert!(of_loss < 1e-5, "{name}: {of_loss:.1e}");
        let (mut compared, mut worst) = (0, 0f64);
        model.visit(&mut |p: &Param| {
            let got: Vec<f32> = g.get(p).unwrap_or_else(|| panic!("{name}: {}", p.name())).read().unwrap();
            let want = want.get(&format!("grad.{}", p.name()));
            let e = relative_gradient(&got, &want);
            assert!(e < 1e-4, "{name}: {} {e:.1e}", p.name());
            (compared, worst) = (compared + 1, worst.max(e));
        });
        assert_eq!(compared, want.gradients().len(), "{name}: every gradient of the library");
        println!("{name}: loss {of_loss:.1e}, {compared} gradients {worst:.1e}");
    }
}

#[test]
fn ten_steps_of_adamw() {
    for name in cases(Of::Model).into_iter().filter(|name| fixture(name).join("curve.json").exists()) {
        let (device, mut set) = (cpu(), ParamSet::new());
        let mut model = engraft_models::load_trained(&directory(&name), &device, &mut set).unwrap().model;
        let (tokens, labels) = input(&name);
        let how = json(&fixture(&name).join("curve.json"));
        let listed = |k: &str, n: &str| how[k].as_array().unwrap().iter().any(|x| x == n);
        model.visit(&mut |p| {
            let list = if p.role().decays { "decayed" } else { "not_decayed" };
            assert!(listed(list, p.name()), "{name}: {} is not {list}", p.name());
        });
        curve::follow(&fixture(&name), |optimiser, rate| {
            let (mean, g) = learn(&device, &*model, &tokens, &labels);
            curve::update(optimiser, &mut [&mut *model], &g, rate);
            mean
        });
    }
}

#[test]
fn adapters_learn_alike_and_are_saved_alike() {
    for name in cases(Of::Adapter) {
        let case = Family::load(&name);
        case.agrees(&name);
        case.saves_alike(&name);
        if fixture(&name).join("curve.json").exists() {
            case.learns_alike(&name);
        }
    }
}
#[test]
fn layers_computed_again_and_bytes_foretold() {
    cases(Of::Adapter).iter().for_each(|name| Family::recomputes_and_predicts(name));
}

#[test]
fn fusions() {
    for name in cases(Of::Setup) {
        let (folder, device) = (fixture(&name), cpu());
        let (model, tokens) = (load(&name, &device), input(&name).0);
        let setup = json(&folder.join("input.json"))["setup"].as_str().unwrap().parse().unwrap();
        let set = composed::set_of(&*model, &folder, &setup, Some(folder.join("fusion")), &device);
        let active = set.activate(&setup, tokens.lengths.len()).unwrap();
        let (y, g) = composed::run(&*model, &device, &active, &tokens, &Default::default());
        let want = Expected::at(&folder);
        let of_hidden = relative(&y, &want.get("last_hidden_state"));
        let (mut compared, mut worst) = (0, 0f64);
        engraft_engine::Parameters::visit(&set, &mut |p: &Param| {
            let got: Vec<f32> = g.get(p).unwrap_or_else(|| panic!("{name}: {}", p.name())).read().unwrap();
            let e = relative_gradient(&got, &want.get(&format!("grad.{}", p.name())));
            assert!(e < 1e-4, "{name}: {} {e:.1e}", p.name());
            (compared, worst) = (compared + 1, worst.max(e));
        });
        assert!(of_hidden < 1e-5, "{name}: {of_hidden:.1e}");
        assert_eq!(compared, want.gradients().len(), "{name}: every gradient of the library");
        println!("{name}: hidden {of_hidden:.1e}, {compared} gradients {worst:.1e}");
    }
}

/// What a model reads of texts, or of parts of them: an encoder beside it the whole ones.
fn read(model: &dyn Model, texts: &[&[u32]], parts: &[&[u32]]) -> Tokens {
    match model.info().kind {
        Kind::EncoderDecoder { .. } => Tokens::new(texts).with_target(parts),
        _ => Tokens::new(parts),
    }
}
/// The last hidden states of texts, decoded piece by piece: of each the rows up to these places at
/// a time.
fn decoded(
    (model, hooks, device): (&dyn Model, &dyn Hooks, &Device),
    texts: &[&[u32]],
    ends: &[usize],
) -> Vec<Vec<f32>> {
    let (c, longest) = (model.info().channels, texts.iter().map(|t| t.len()).max().unwrap());
    let mut cache = KvCache::new(texts.len(), longest);
    let mut states: Vec<Vec<f32>> = vec![vec![]; texts.len()];
    let mut from = 0;
    for &to in ends {
        // longest first: those that end are the last ones, so that a sequence keeps its number
        let own: Vec<&[u32]> = texts.iter().filter(|t| t.len() >= to).copied().collect();
        let parts: Vec<&[u32]> = own.iter().map(|t| &t[from..to]).collect();
        let mut cx = Cx::new(device, hooks, Pass::infer()).with_cache(cache).unwrap();
        let y = model.forward(&mut cx, &read(model, &own, &parts), &Rows::All).unwrap();
        let values = y.read().unwrap();
        for (state, s) in states.iter_mut().zip(y.seqs().iter()) {
            state.extend(&values[s.start * c..(s.start + s.len) * c]);
        }
        cache = cx.into_cache().unwrap();
        from = to;
    }
    assert_eq!(cache.tokens(0), longest);
    states
}

const TEXTS: [&[u32]; 3] = [&[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8], &[3, 5, 8, 9, 7], &[6, 5]];

/// Decoded with a cache, in company and alone, is what all tokens give at once, to the bit.
fn decodes(name: &str, model: &dyn Model, hooks: &dyn Hooks, device: &Device) {
    let mut cx = Cx::new(device, hooks, Pass::infer());
    let all = model.forward(&mut cx, &read(model, &TEXTS, &TEXTS), &Rows::All).unwrap().read().unwrap();
    let mut want = all.chunks(model.info().channels);
    let (ends, with): (Vec<usize>, _) = ((2..=12).collect(), (model, hooks, device));
    for (got, text) in decoded(with, &TEXTS, &ends).iter().zip(TEXTS) {
        let want: Vec<f32> = want.by_ref().take(text.len()).flatten().copied().collect();
        assert!(*got == want, "{name}: in company, {:.1e}", relative(got, &want));
        let alone = decoded(with, &[text], &[text.len() - 1, text.len()]);
        assert!(alone[0] == want, "{name}: alone, {:.1e}", relative(&alone[0], &want));
    }
}

#[test]
fn decoding_with_a_cache_gives_the_states_of_the_whole() {
    let device = cpu();
    for name in cases(Of::Model) {
        // frequencies that a longer text changes cannot be had afterwards
        let config = std::fs::read_to_string(directory(&name).join("config.json")).unwrap();
        if ["dynamic", "longrope"].iter().any(|kind| config.contains(kind)) {
            continue;
        }
        let model = load(&name, &device);
        decodes(&name, &*model, &Plain, &device);
        // a text beyond its positions is an error
        let Some(most) = model.info().positions else { continue };
        let mut cx = Cx::new(&device, &Plain, Pass::infer()).with_cache(KvCache::new(1, most + 1)).unwrap();
        model.forward(&mut cx, &Tokens::new(&[vec![1; most]]), &Rows::All).unwrap();
        let mut cx = Cx::new(&device, &Plain, Pass::infer()).with_cache(cx.into_cache().unwrap()).unwrap();
        let e = model.forward(&mut cx, &Tokens::new(&[vec![1]]), &Rows::All).unwrap_err().to_string();
        assert!(e.contains(&format!("place {most}")), "{name}: {e}");
    }
    // gradients through what is remembered are an error
    assert!(Cx::new(&device, &Plain, Pass::gradients()).with_cache(KvCache::new(1, 1)).is_err());
}

#[test]
fn decoding_with_a_cache_and_adapters_gives_the_states_of_the_whole() {
    let device = cpu();
    let adapter = "prefix_tuning[prefix_length=3,bottleneck_size=4]|lora[r=2,attn_matrices=[q,k,v]]|double_seq_bn[reduction_factor=4]";
    for family in &generators() {
        let (model, _) = families::backbone(family, &device);
        let (adapter, _) = made(family, adapter, &device).unwrap();
        decodes(family, &*model, &adapter, &device);
        if model.info().kind != Kind::Decoder {
            // each of those that it has, which stand in the encoder or the decoder or both
            let of_family = |name: &String| name.split('/').next() == Some(family);
            for name in cases(Of::Adapter).into_iter().filter(of_family) {
                let case = Family::on(&name, &device);
                decodes(&name, &*case.model, &case.adapter, &device);
            }
            continue;
        }
        // a prefix whose rows have places of their own
        let name = [format!("{family}/peft-prefix"), format!("inputs/{family}-peft-prefix")];
        let name = name.into_iter().find(|name| fixture(name).exists()).unwrap();
        let case = Family::on(&name, &device);
        decodes(&name, &*case.model, &case.adapter, &device);
    }
}

#[test]
fn sequences_that_become_several_in_a_layer_are_what_they_are_alone() {
    let device = cpu();
    for name in cases(Of::Setup) {
        let (folder, model, tokens) = (fixture(&name), load(&name, &device), input(&name).0);
        let hidden = |setup: &str| {
            let setup = setup.parse().unwrap();
            let set = composed::set_of(&*model, &folder, &setup, None, &device);
            let active = set.activate(&setup, tokens.lengths.len()).unwrap();
            let mut cx = Cx::new(&device, &active, Pass::infer());
            let y = model.forward(&mut cx, &tokens, &Rows::All).unwrap();
            (y.read().unwrap(), y.seqs().clone())
        };
        let (both, c) = (hidden("Parallel(a, b)"), model.info().channels);
        let alone = [hidden("a"), hidden("b")];
        assert_eq!(both.1.len(), 2 * tokens.lengths.len());
        let rows = |of: &(Vec<f32>, _), start: usize, len: usize| of.0[start * c..(start + len) * c].to_vec();
        for (i, s) in both.1.iter().enumerate() {
            let of = &alone[i / tokens.lengths.len()];
            let own = of.1.iter().find(|own| own.item == s.item).unwrap();
            assert!(rows(&both, s.start, s.len) == rows(of, own.start, own.len), "{name}: sequence {i}");
        }
    }
}

#[test]
fn keys_turned_for_a_shorter_text_are_not_those_of_a_longer_one() {
    let device = cpu();
    for name in ["llama/dynamic", "llama/longrope"] {
        let model = load(name, &device);
        let mut cx = Cx::new(&device, &Plain, Pass::infer()).with_cache(KvCache::new(1, 20)).unwrap();
        model.forward(&mut cx, &Tokens::new(&[vec![1; 8]]), &Rows::All).unwrap();
        let mut cx = Cx::new(&device, &Plain, Pass::infer()).with_cache(cx.into_cache().unwrap()).unwrap();
        let e = model.forward(&mut cx, &Tokens::new(&[vec![1; 4]]), &Rows::All).unwrap_err().to_string();
        assert!(e.contains("turned for a sequence of 8 tokens, not of 12"), "{name}: {e}");
    }
}
