//! Fusions beyond a library's: how they start, what they share, which adapters they compute.
mod support;
use engraft_adapters::{Adapter, AdapterSet, Fields, Fusion, Member, Setup, Shares, fusion::parse};
use engraft_engine::{
    Act, Activations, Class, Cx, Device, Gradients, Hooks, Keep, Param, ParamSet, Parameters, Pass,
};
use engraft_models::{Model, Rows, Tokens};
use support::*;

const ADAPTERS: [&str; 3] = ["a", "b", "c"];

struct World {
    device: Device,
    model: Box<dyn Model>,
    set: AdapterSet,
    params: ParamSet,
}
/// The tiny BERT with three frozen adapters and a new fusion of them.
fn world(fusion: &str) -> Result<World, String> {
    world_on(cpu(), fusion)
}
fn world_on(device: Device, fusion: &str) -> Result<World, String> {
    let (model, mut set, mut params) =
        (model(&device, &mut ParamSet::new(), false).model, AdapterSet::new(), ParamSet::new());
    for name in ADAPTERS {
        let dir = fixture("compose/bert/adapters").join(name);
        set.add(Adapter::load_frozen(&dir, &host(), model.sites(), &device).unwrap()).unwrap();
    }
    let config = parse(fusion, &Fields::new()).map_err(|e| e.to_string())?;
    let of: Vec<&dyn Member> = ADAPTERS.iter().map(|n| set.get(n).unwrap() as _).collect();
    let fusion =
        Fusion::new(config, &of, model.sites(), &device, &mut params, 7).map_err(|e| e.to_string())?;
    set.add_fusion(fusion).unwrap();
    Ok(World { device, model, set, params })
}
fn tokens() -> Tokens {
    Tokens::new(&[vec![3, 7, 1, 9, 4], vec![5, 2, 8], vec![11, 6, 2, 13]])
}
impl World {
    fn hidden(&self, setup: &str, pass: Pass) -> Vec<f32> {
        let setup: Setup = setup.parse().unwrap();
        let active = self.set.activate(&setup, 3).unwrap();
        forward(&self.device, &*self.model, &active, &tokens(), pass).read().unwrap()
    }
    fn trained(&self) -> Vec<(String, Vec<f32>)> {
        let mut v = vec![];
        self.set.visit(&mut |p: &Param| v.push((p.name().to_string(), p.tensor().to_f32().unwrap())));
        v
    }
    fn fusion(&self) -> &Fusion {
        self.set.fusion("a,b,c").unwrap()
    }
}
fn forward(d: &Device, model: &dyn Model, hooks: &dyn Hooks, tokens: &Tokens, pass: Pass) -> Act {
    let mut cx = Cx::new(d, hooks, pass);
    model.forward(&mut cx, tokens, &Rows::All).unwrap()
}

#[test]
fn new_weights_are_an_average_and_given_ones_are_those_shares() {
    let w = world("weighted").unwrap();
    let fused = w.hidden("Fuse(a, b, c)", Pass::infer());
    assert!(relative(&fused, &w.hidden("Average(a, b, c)", Pass::infer())) < 1e-5);
    let w = world("weighted[shares=[3, 1, 4]]").unwrap();
    let fused = w.hidden("Fuse(a, b, c)", Pass::infer());
    assert!(relative(&fused, &w.hidden("Average(a, b, c, weights=[3, 1, 4])", Pass::infer())) < 1e-5);
    // of some of them the shares are those that are left
    let fused = w.hidden("Fuse(a, b, name='a,b,c')", Pass::infer());
    assert!(relative(&fused, &w.hidden("Average(a, b, weights=[3, 1])", Pass::infer())) < 1e-5);
    let drawn = world("weighted[start=random]").unwrap().trained();
    assert_eq!(drawn.len(), 3);
    assert!(drawn.iter().all(|(_, v)| v.iter().all(|x| *x != 0.0)) && drawn[0].1 != drawn[1].1);
    assert_eq!(drawn, world("weighted[start=random]").unwrap().trained(), "the seed decides");
}

#[test]
fn shares_are_collected_of_every_token_of_each_fusion() {
    let means = |fusion: &str, setup: &str| {
        let (w, shares) = (world(fusion).unwrap(), Shares::new());
        let setup: Setup = setup.parse().unwrap();
        let active = w.set.activate(&setup, 3).unwrap().with_shares(&shares);
        let looked_at = forward(&w.device, &*w.model, &active, &tokens(), Pass::infer()).read().unwrap();
        assert_eq!(looked_at, w.hidden(&setup.to_string(), Pass::infer()), "looking changes nothing");
        let found = shares.found();
        assert!(found.iter().all(|s| s.fusion == "a,b,c" && s.tokens == 12) && found.len() == 3);
        found
    };
    for s in means("weighted[shares=[3, 1, 4]]", "Fuse(a, b, c)") {
        let own: Vec<_> = s.adapters.iter().map(|a| (a.name.as_str(), a.mean, a.largest)).collect();
        assert_eq!(own, [("a", 0.375, 0.0), ("b", 0.125, 0.0), ("c", 0.5, 1.0)]);
    }
    // of some of them those that are left; of equal shares the first is the largest
    for s in means("weighted[shares=[2, 1, 2]]", "Fuse(a, c, name='a,b,c')") {
        let own: Vec<_> = s.adapters.iter().map(|a| (a.name.as_str(), a.mean, a.largest)).collect();
        assert_eq!(own, [("a", 0.5, 1.0), ("c", 0.5, 0.0)]);
    }
    let kinds = ["attention[heads=4]", "gating", "gating[top_k=1]", "gating[function=sigmoid]"];
    for fusion in kinds {
        for s in means(fusion, "Fuse(a, b, c)") {
            let sum: f64 = s.adapters.iter().map(|a| a.mean).sum();
            let largest: f64 = s.adapters.iter().map(|a| a.largest).sum();
            assert!((sum - 1.0).abs() < 1e-6 || fusion.contains("sigmoid") && sum > 0.0, "{fusion}: {sum}");
            assert!((largest - 1.0).abs() < 1e-12, "{fusion}: {largest}");
            // the best one alone is computed, and has all of it
            let is_all = s.adapters.iter().all(|a| (a.mean - a.largest).abs() < 1e-6);
            assert_eq!(is_all, fusion.contains("top_k"), "{fusion}");
        }
    }
}

#[test]
fn shared_weights_are_one_tensor_that_is_saved_and_loaded() {
    let w = world("weighted[shared=True,shares=[3, 1, 4]]").unwrap();
    let named: Vec<String> = w.trained().into_iter().map(|(n, _)| n).collect();
    assert_eq!(named, ["bert.adapter_fusion_layer.a,b,c.weights"]);
    let dir = tempfile::tempdir().unwrap();
    w.fusion().save(dir.path(), &host()).unwrap();
    let again = Fusion::load_frozen(dir.path(), &host(), w.model.sites(), &w.device).unwrap();
    assert_eq!(again.named().len(), 1);
    let mut set = AdapterSet::new();
    for name in ADAPTERS {
        let dir = fixture("compose/bert/adapters").join(name);
        set.add(Adapter::load_frozen(&dir, &host(), w.model.sites(), &w.device).unwrap()).unwrap();
    }
    set.add_fusion(again).unwrap();
    let active = set.activate(&Setup::fuse(ADAPTERS), 3).unwrap();
    let y = forward(&w.device, &*w.model, &active, &tokens(), Pass::gradients());
    assert!(!y.is_recorded() && y.read().unwrap() == w.hidden("Fuse(a, b, c)", Pass::infer()));
}

#[test]
fn the_gradient_of_shared_weights_is_the_slope() {
    let mut w = world("weighted[shared=True,start=random]").unwrap();
    let loss = |w: &World| -> f64 {
        let y = w.hidden("Fuse(a, b, c)", Pass::infer());
        y.iter().enumerate().map(|(i, y)| f64::from(*y) * (i as f64 * 0.37).sin()).sum()
    };
    let active = w.set.activate(&Setup::fuse(ADAPTERS), 3).unwrap();
    let mut g = Gradients::new();
    for keep in [Keep::F32, Keep::Recompute] {
        g.clear();
        let mut cx = Cx::new(&w.device, &active, Pass::gradients()).with_activations(&Activations::all(keep));
        let y = w.model.forward(&mut cx, &tokens(), &Rows::All).unwrap();
        let dy: Vec<f32> = (0..y.rows() * y.cols()).map(|i| (i as f64 * 0.37).sin() as f32).collect();
        let dy = w.device.upload(Class::Scratch, &dy).unwrap();
        cx.backward(&y, dy, &mut g).unwrap();
    }
    drop(active);
    let mut got = vec![];
    w.set.visit(&mut |p: &Param| got = g.get(p).unwrap().read::<f32>().unwrap());
    for i in 0..3 {
        let mut at = |by: f32| {
            w.set.visit_mut(&mut |p: &mut Param| {
                let mut v = p.tensor().to_f32().unwrap();
                v[i] += by;
                p.buffer_mut().write(&v).unwrap();
            });
            loss(&w)
        };
        let above = at(0.01);
        let below = at(-0.02);
        at(0.01);
        let slope = (above - below) / 0.02;
        assert!(
            (slope - f64::from(got[i])).abs() < 1e-2 * f64::from(got[0].abs().max(1.0)),
            "{slope} {got:?}"
        );
    }
}

#[test]
fn the_best_of_several_is_what_that_one_gives_alone() {
    let mut w = world("gating[top_k=1]").unwrap();
    for (i, name) in ADAPTERS.iter().enumerate() {
        // a bias that outweighs every score chooses this one in all layers and for all sequences
        w.set.visit_mut(&mut |p: &mut Param| {
            if p.name().ends_with("gate.bias") {
                let bias: Vec<f32> = (0..3).map(|j| if j == i { 1e4 } else { 0.0 }).collect();
                p.buffer_mut().write(&bias).unwrap();
            }
        });
        let (fused, alone) = (w.hidden("Fuse(a, b, c)", Pass::infer()), w.hidden(name, Pass::infer()));
        assert!(relative(&fused, &alone) < 1e-5, "{name}");
    }
}

#[test]
fn what_is_not_chosen_is_not_computed() {
    let launches = |text: &str| {
        let w = world(text).unwrap();
        let active = w.set.activate(&Setup::fuse(ADAPTERS), 3).unwrap();
        let mut cx = Cx::new(&w.device, &active, Pass::gradients());
        w.model.forward(&mut cx, &tokens(), &Rows::All).unwrap();
        let saved: usize = cx.tape().map(|(_, bytes)| bytes).sum();
        saved
    };
    let (one, all) = (launches("gating[top_k=1]"), launches("gating[top_k=3]"));
    assert!(one < all, "{one} {all}");
}

#[test]
fn no_choice_takes_more_bytes_than_are_foretold() {
    let most = |device: Device, text: &str, bias: [f32; 3]| {
        let mut w = world_on(device, text).unwrap();
        w.set.visit_mut(&mut |p: &mut Param| {
            if p.name().ends_with("gate.bias") {
                p.buffer_mut().write(&bias).unwrap();
            }
        });
        w.device.ledger().reset_peak();
        let active = w.set.activate(&Setup::fuse(ADAPTERS), 3).unwrap();
        let mut cx = Cx::new(&w.device, &active, Pass::gradients());
        let y = w.model.forward(&mut cx, &tokens(), &Rows::All).unwrap();
        let dy = w.device.upload(Class::Scratch, &vec![1f32; y.rows() * y.cols()]).unwrap();
        cx.backward(&y, dy, &mut Gradients::new()).unwrap();
        w.device.ledger().usage().peak_total()
    };
    for text in ["gating[top_k=1]", "gating[top_k=2]", "gating[top_k=2,function=sigmoid]"] {
        let foretold = most(Device::null(2), text, [0.0; 3]);
        for bias in [[0.0; 3], [1e4, 0.0, 0.0], [0.0, 1e4, 0.0], [0.0, 1e4, 1e4], [1e4, 0.0, 1e4]] {
            let found = most(cpu(), text, bias);
            assert!(found <= foretold, "{text} {bias:?}: {found} of {foretold}");
        }
    }
}

#[test]
fn the_penalty_pulls_values_to_the_identity() {
    let mut w = world("attention[value_initialized=False]").unwrap();
    let mut g = Gradients::new();
    let mut want = 0f64;
    for (site, m) in w.fusion().mixers() {
        let mut cx = Cx::new(&w.device, &engraft_engine::Plain, Pass::gradients());
        let loss = m.penalty(&mut cx).unwrap().unwrap_or_else(|| panic!("{site:?}"));
        want += f64::from(loss.read().unwrap()[0]);
        let one = w.device.upload(Class::Scratch, &[1.0f32]).unwrap();
        cx.backward(&loss, one, &mut g).unwrap();
    }
    let (c, mut found) = (w.model.info().channels, 0f64);
    w.set.visit_mut(&mut |p: &mut Param| {
        let v = p.tensor().to_f32().unwrap();
        let Some(g) = g.get(p) else {
            assert!(!p.name().ends_with("value.weight"));
            return;
        };
        for (i, (v, g)) in v.iter().zip(g.read::<f32>().unwrap()).enumerate() {
            let off = f64::from(*v) - if i % (c + 1) == 0 { 1.0 } else { 0.0 };
            found += 0.01 * off * off;
            assert!((f64::from(g) - 0.02 * off).abs() < 1e-6);
        }
    });
    assert!((found - want).abs() < 1e-4 * want && want > 0.1);
    let off = world("attention[regularization=False]").unwrap();
    let mut cx = Cx::new(&off.device, &engraft_engine::Plain, Pass::gradients());
    assert!(off.fusion().mixers().all(|(_, m)| m.penalty(&mut cx).unwrap().is_none()));
    assert!(!w.params.is_empty());
}

#[test]
fn a_temperature_falls_while_training_and_is_saved() {
    let w = world("attention[temperature=True,dropout_prob=0]").unwrap();
    let soft = w.hidden("Fuse(a, b, c)", Pass::infer());
    w.hidden("Fuse(a, b, c)", Pass::train(1, 500));
    let sharper = w.hidden("Fuse(a, b, c)", Pass::infer());
    assert!(soft != sharper);
    let dir = tempfile::tempdir().unwrap();
    w.fusion().save(dir.path(), &host()).unwrap();
    let json = faults::json_of(&dir.path().join("adapter_fusion_config.json"));
    assert_eq!(json["config"]["temperature_reached"], 25.0);
    w.hidden("Fuse(a, b, c)", Pass::train(1, 100_000));
    w.fusion().save(dir.path(), &host()).unwrap();
    let json = faults::json_of(&dir.path().join("adapter_fusion_config.json"));
    assert_eq!(json["config"]["temperature_reached"], 1.0);
}

#[test]
fn parameters_are_as_many_as_the_library_has() {
    // of BERT-base: 12 (3 · 768² + 2 · 768) = 21,252,096; here 3 (3 · 32² + 2 · 32)
    assert_eq!(world("dynamic").unwrap().params.elements(), 3 * (3 * 32 * 32 + 2 * 32));
    assert_eq!(world("static").unwrap().params.elements(), 3 * (2 * 32 * 32 + 2 * 32));
    assert_eq!(world("weighted").unwrap().params.elements(), 9);
    assert_eq!(world("gating").unwrap().params.elements(), 3 * (3 * 32 + 3));
    assert_eq!(world("gating[bias=False]").unwrap().params.elements(), 3 * 3 * 32);
}

#[test]
fn configurations_are_taken_or_refused_by_name() {
    let said = |text: &str, words: &[&str]| faults::says(world(text).map(drop), words);
    said("attentive", &["`attentive` is not the name of a fusion", "`attention`", "`weighted`", "`gating`"]);
    said("attention|gating", &["more than one way"]);
    said("attention[heads=5]", &["`heads` is 5", "32 channels"]);
    said("attention[heads=0]", &["`heads` is 0"]);
    said("attention[dropout_prob=1]", &["`dropout_prob` is 1"]);
    said("attention[head=2]", &["unknown field `head`"]);
    said("attention[temperature_reached=0]", &["`temperature_reached`"]);
    said("weighted[shares=[1, 2]]", &["`shares` holds 2 numbers", "3 adapters"]);
    said("weighted[shares=[1, 2, -1]]", &["`shares` holds -1"]);
    said("weighted[start=zero]", &["unknown variant `zero`"]);
    said("gating[top_k=0]", &["`top_k` is 0"]);
    said("gating[top_k=4]", &["`top_k` is 4", "3 adapters"]);
    said("gating[function=relu]", &["unknown variant `relu`"]);
}

#[test]
fn the_null_device_predicts_every_byte() {
    for fusion in [
        "attention",
        "static",
        "attention[heads=4]",
        "weighted",
        "weighted[shared=True]",
        "gating",
        "gating[function=sigmoid]",
    ] {
        let peaks = [cpu(), Device::null(2)].map(|device| {
            let w = world_on(device, fusion).unwrap();
            [Keep::F32, Keep::Recompute].map(|keep| {
                w.device.ledger().reset_peak();
                let active = w.set.activate(&Setup::fuse(ADAPTERS), 3).unwrap();
                let mut g = Gradients::new();
                let mut cx =
                    Cx::new(&w.device, &active, Pass::train(1, 2)).with_activations(&Activations::all(keep));
                let y = w.model.forward(&mut cx, &tokens(), &Rows::All).unwrap();
                let dy = w.device.zeros::<f32>(Class::Scratch, y.rows() * y.cols()).unwrap();
                cx.backward(&y, dy, &mut g).unwrap();
                for (_, m) in w.fusion().mixers() {
                    let mut cx = Cx::new(&w.device, &engraft_engine::Plain, Pass::gradients());
                    if let Some(loss) = m.penalty(&mut cx).unwrap() {
                        let one = w.device.upload(Class::Scratch, &[1.0f32]).unwrap();
                        cx.backward(&loss, one, &mut g).unwrap();
                    }
                }
                w.device.ledger().usage().peak_total()
            })
        });
        assert_eq!(peaks[0], peaks[1], "{fusion}");
    }
}
