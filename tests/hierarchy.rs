//! Fusions of fusions: what an inner one adds to the hidden states is mixed by the outer one.
mod support;
use engraft_adapters::{
    Adapter, AdapterSet, Compat, Fields, Fusion, Setup, Shares,
    export::{Composition, composition},
    fusion::parse,
};
use engraft_engine::{
    self as engine, Act, Activation, Activations, Class, Cx, Device, Gradients, Hooks, Keep, LinearRef,
    NormRef, Param, ParamSet, Parameters, Part, Pass, Pending, Point, Site, Weight,
};
use engraft_models::{Model, Rows, Tokens};
use std::collections::BTreeMap;
use support::{families, *};

const NESTED: &str = "Fuse(Fuse(a, b), Fuse(c, a, name='second'), b)";

struct World {
    device: Device,
    model: Box<dyn Model>,
    set: AdapterSet,
}
/// A tiny model with its adapters, which train, and new fusions of a setup: one kind for those
/// inside, another for the outermost.
fn world_on(device: Device, family: &str, setup: &str, (inner, outer): (&str, &str)) -> World {
    let ((model, host), setup) = (families::backbone(family, &device), setup.parse::<Setup>().unwrap());
    let (mut set, mut params) = (AdapterSet::new(), ParamSet::new());
    for name in setup.distinct() {
        let dir = fixture(&format!("compose/{family}/adapters/{name}"));
        set.add(Adapter::load(&dir, &host, model.sites(), &device, &mut params).unwrap()).unwrap();
    }
    let fusions = setup.fusions();
    for (i, fusion) in fusions.iter().enumerate() {
        let config = parse(if i + 1 == fusions.len() { outer } else { inner }, &Fields::new()).unwrap();
        let (of, seed) = (set.members(fusion).unwrap(), i as u64);
        let made =
            Fusion::with_name(&fusion.name, config, &of, model.sites(), &device, &mut params, seed).unwrap();
        set.add_fusion(made).unwrap();
    }
    // far from how they start
    set.visit_mut(&mut |p: &mut Param| {
        if p.name().contains("adapter_fusion_layer") {
            let start = p.name().bytes().map(u64::from).sum::<u64>() as f64;
            let moved = |(i, x): (usize, f32)| x + 0.4 * (start + 1.7 * i as f64).sin() as f32;
            let values: Vec<f32> = p.tensor().to_f32().unwrap().into_iter().enumerate().map(moved).collect();
            p.buffer_mut().write(&values).unwrap();
        }
    });
    World { device, model, set }
}
fn world(setup: &str, kinds: (&str, &str)) -> World {
    world_on(cpu(), "bert", setup, kinds)
}
impl World {
    fn tokens(&self) -> Tokens {
        let ids = [vec![3, 7, 1, 9, 4], vec![5, 2, 8], vec![11, 6, 2, 13]];
        of_kind(&*self.model, Tokens::new(&ids))
    }
    fn hidden(&self, setup: &str) -> Vec<f32> {
        let active = self.set.activate(&setup.parse().unwrap(), 3).unwrap();
        self.pass(&active, Keep::F32).0
    }
    /// Hidden states, and the gradient of Σ y_i sin(i) for everything that trains.
    fn pass(&self, hooks: &dyn Hooks, keep: Keep) -> (Vec<f32>, BTreeMap<String, Vec<f32>>) {
        let (mut g, mut found) = (Gradients::new(), BTreeMap::new());
        let mut cx =
            Cx::new(&self.device, hooks, Pass::gradients()).with_activations(&Activations::all(keep));
        let y = self.model.forward(&mut cx, &self.tokens(), &Rows::All).unwrap();
        let hidden = y.read().unwrap();
        let dy: Vec<f32> = (0..hidden.len()).map(|i| (i as f64).sin() as f32).collect();
        cx.backward(&y, self.device.upload(Class::Scratch, &dy).unwrap(), &mut g).unwrap();
        self.set.visit(&mut |p: &Param| {
            found.extend(g.get(p).map(|b| (p.name().to_string(), b.read::<f32>().unwrap())));
        });
        (hidden, found)
    }
}

/// The same as it is written on paper: every member's output U for itself, in all channels.
struct Wide<'a> {
    setup: Setup,
    params: BTreeMap<String, &'a Param>,
}
impl<'a> Wide<'a> {
    fn of(w: &'a World, setup: &str) -> Wide<'a> {
        let mut params = BTreeMap::new();
        w.set.visit(&mut |p| {
            params.insert(p.name().to_string(), p);
        });
        Wide { setup: setup.parse().unwrap(), params }
    }
    fn linear(&self, at: &str) -> LinearRef<'_> {
        let find = |tensor: &str| self.params.get(&format!("{at}.{tensor}")).map(|p| p.get());
        LinearRef { w: find("weight").unwrap(), b: find("bias"), in_out: false }
    }
    fn mixed<'m>(&'m self, cx: &mut Cx<'m>, layer: usize, setup: &Setup, x: &Act) -> engine::Result<Act> {
        let at = format!("bert.encoder.layer.{layer}.output");
        let of = match setup {
            Setup::Fuse { of, .. } => of,
            Setup::One(name) => {
                let down = cx.matmul(x, self.linear(&format!("{at}.adapters.{name}.adapter_down.0")))?;
                let a = cx.activate(&down, Activation::Relu)?;
                return cx.matmul(&a, self.linear(&format!("{at}.adapters.{name}.adapter_up")));
            }
            other => panic!("{other}"),
        };
        let name = setup.fusions().pop().unwrap().name;
        let at = format!("{at}.adapter_fusion_layer.{name}");
        let (c, q) = (x.cols(), cx.matmul(x, self.linear(&format!("{at}.query")))?);
        let (mut scores, mut values) = (vec![], vec![]);
        for member in of {
            let u = self.mixed(cx, layer, member, x)?;
            let key = cx.matmul(&u, self.linear(&format!("{at}.key")))?;
            scores.push(cx.group_dots(&q, &key, &[c].into())?);
            values.push(cx.matmul(&u, self.linear(&format!("{at}.value")))?);
        }
        let scores = cx.join_columns(&scores.iter().collect::<Vec<_>>())?;
        let p = cx.softmax(&scores, 1)?;
        let mut sum: Option<Act> = None;
        for (i, v) in values.iter().enumerate() {
            let share = cx.take_columns(&p, i..i + 1)?;
            let part = cx.spread(v, &share, &[c].into())?;
            sum = Some(sum.map_or(Ok(part.clone()), |sum| cx.add(&sum, &part))?);
        }
        Ok(sum.unwrap())
    }
}
impl Hooks for Wide<'_> {
    fn close<'m>(
        &'m self,
        cx: &mut Cx<'m>,
        s: Site,
        h: Pending,
        r: &Act,
        norm: Option<NormRef<'m>>,
    ) -> engine::Result<Act> {
        if !self.touches(s) {
            return cx.drop_add_norm(h, r, norm);
        }
        let h = cx.dropped(h)?;
        let x = cx.add_norm(&h, r, norm.clone())?;
        let m = self.mixed(cx, s.layer, &self.setup, &x)?;
        let sum = cx.add(&m, &h)?;
        cx.add_norm(&sum, r, norm)
    }
    fn touches(&self, s: Site) -> bool {
        s.part == Part::Ffn && s.point == Point::Close
    }
}

#[test]
fn mixtures_and_gradients_are_those_of_the_formula_as_it_is_written() {
    for setup in [NESTED, "Fuse(Fuse(Fuse(a, b), c), b)", "Fuse(Fuse(a), Fuse(b))", "Fuse(Fuse(a, b, c))"] {
        let w = world(setup, ("attention", "attention"));
        let wide = Wide::of(&w, setup);
        let (want, of_wide) = w.pass(&wide, Keep::F32);
        let active = w.set.activate(&wide.setup, 3).unwrap();
        for keep in [Keep::F32, Keep::Recompute] {
            let (got, gradients) = w.pass(&active, keep);
            assert!(relative(&got, &want) < 1e-5, "{setup}: {:.1e}", relative(&got, &want));
            assert_eq!(gradients.keys().collect::<Vec<_>>(), of_wide.keys().collect::<Vec<_>>());
            let largest = of_wide.values().flatten().fold(0f32, |m, x| m.max(x.abs()));
            for (name, got) in &gradients {
                let want = &of_wide[name];
                // the gradient of a key's bias is 0: it moves all scores alike
                let least = if name.ends_with("key.bias") { 1e-2 } else { 1e-4 };
                let top = want.iter().fold(least * largest, |m, x| m.max(x.abs()));
                let off = got.iter().zip(want).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / top;
                assert!(off < 1e-4, "{setup} {name}: {off:.1e}");
            }
        }
    }
}

#[test]
fn gradients_are_slopes() {
    let narrow = [("attention", "attention"), ("gating", "weighted")];
    let wide = [("attention[heads=4]", "gating"), ("attention[residual_before=True]", "static")];
    for kinds in narrow.into_iter().chain(wide).chain([("gating[top_k=1]", "attention")]) {
        let mut w = world(NESTED, kinds);
        let active = w.set.activate(&NESTED.parse().unwrap(), 3).unwrap();
        let (_, gradients) = w.pass(&active, Keep::F32);
        drop(active);
        let largest = gradients.values().flatten().fold(0f32, |m, x| m.max(x.abs()));
        let loss = |w: &World| -> f64 {
            w.hidden(NESTED).iter().enumerate().map(|(i, y)| f64::from(*y) * (i as f64).sin()).sum()
        };
        for (name, g) in gradients.iter().filter(|(name, _)| name.contains("layer.1.")) {
            let steepest = |(_, a): &(usize, &f32), (_, b): &(usize, &f32)| a.abs().total_cmp(&b.abs());
            let (i, slope) = g.iter().enumerate().max_by(steepest).unwrap();
            let step = 3e-3f32;
            let mut at = |by: f32| {
                w.set.visit_mut(&mut |p: &mut Param| {
                    if p.name() == name {
                        let mut v = p.tensor().to_f32().unwrap();
                        v[i] += by;
                        p.buffer_mut().write(&v).unwrap();
                    }
                });
                loss(&w)
            };
            let (above, below) = (at(step), at(-2.0 * step));
            at(step);
            let found = (above - below) / f64::from(2.0 * step);
            let off = (found - f64::from(*slope)).abs();
            // a loss of about 10 is known to 1e-6 of it
            assert!(
                off < 0.02 * f64::from(slope.abs().max(0.05 * largest)),
                "{kinds:?} {name}: {found} {slope}"
            );
        }
    }
}

#[test]
fn a_fusion_of_one_is_that_one_whatever_it_is() {
    const DEEP: &str = "Fuse(Fuse(a), Fuse(b), Fuse(c), name='a,b,c')";
    let inner = [
        "attention",
        "static",
        "attention[heads=4]",
        "attention[residual_before=True]",
        "weighted",
        "gating",
        "gating[function=sigmoid]",
        "gating[top_k=1]",
        "gating[top_k=2]",
    ];
    for family in ["bert", "gpt2", "t5"] {
        for pair in ["a, b", "d, e", "p, q"] {
            for kind in inner {
                let (flat, deep) = (format!("Fuse({pair})"), format!("Fuse(Fuse({pair}))"));
                let w = world_on(cpu(), family, &deep, (kind, "weighted"));
                let off = relative(&w.hidden(&deep), &w.hidden(&flat));
                assert!(off < 2e-5, "{family} {pair} {kind}: {off:.1e}");
            }
        }
    }
    // and one that mixes fusions of one is one that mixes what these mix
    let flat = world("Fuse(a, b, c)", ("", "attention"));
    let (mut deep, mut same) = (world(DEEP, ("weighted", "attention")), BTreeMap::new());
    flat.set.visit(&mut |p: &Param| same.extend([(p.name().to_string(), p.tensor().to_f32().unwrap())]));
    deep.set.visit_mut(&mut |p: &mut Param| {
        if let Some(values) = same.get(p.name()) {
            p.buffer_mut().write(values).unwrap();
        }
    });
    let off = relative(&deep.hidden(DEEP), &flat.hidden("Fuse(a, b, c)"));
    assert!(off < 1e-5, "{off:.1e}");
}

#[test]
fn shares_multiply() {
    let setup = "Fuse(Fuse(a, b), c)";
    let mut w = world(setup, ("weighted", "weighted"));
    w.set.visit_mut(&mut |p: &mut Param| {
        if p.name().ends_with("weights") {
            let shares: [f32; 2] = if p.name().contains("(a,b)") { [0.4, 0.6] } else { [0.75, 0.25] };
            p.buffer_mut().write(&shares.map(f32::ln)).unwrap();
        }
    });
    let off = relative(&w.hidden(setup), &w.hidden("Average(a, b, c, weights=[0.3, 0.1, 0.6])"));
    assert!(off < 1e-5, "{off:.1e}");
    // each fusion tells its own
    let shares = Shares::new();
    let active = w.set.activate(&setup.parse().unwrap(), 3).unwrap().with_shares(&shares);
    w.pass(&active, Keep::F32);
    let found = shares.found();
    let own = |fusion: &str| {
        let of: Vec<_> = found.iter().filter(|s| s.fusion == fusion).collect();
        assert_eq!(of.len(), 3, "{fusion}: one for each layer");
        of[0].adapters.iter().map(|a| (a.name.clone(), (1e4 * a.mean).round() / 1e4)).collect::<Vec<_>>()
    };
    assert_eq!(own("a,b"), [("a".into(), 0.75), ("b".into(), 0.25)]);
    assert_eq!(own("(a,b),c"), [("(a,b)".into(), 0.4), ("c".into(), 0.6)]);
}

#[test]
fn some_of_the_adapters_are_chosen_at_run_time() {
    let w = world(NESTED, ("weighted", "weighted"));
    let only = |names: &[&str]| w.hidden(&NESTED.parse::<Setup>().unwrap().only(names).unwrap().to_string());
    assert!(relative(&only(&["a"]), &w.hidden("a")) < 1e-5);
    assert!(relative(&only(&["b", "c", "a"]), &w.hidden(NESTED)) < 1e-7);
    let left: Setup = NESTED.parse::<Setup>().unwrap().only(&["b", "c"]).unwrap();
    assert_eq!(
        left.to_string(),
        "Fuse(Fuse(b, name='a,b'), Fuse(c, name='second'), b, name='(a,b),(second),b')"
    );
    assert!(relative(&only(&["b", "c"]), &w.hidden(NESTED)) > 1e-3);
}

#[test]
fn each_sequence_gets_what_it_gets_alone() {
    let w = world(NESTED, ("attention", "gating[top_k=2]"));
    let setup: Setup = format!("BatchSplit({NESTED}, a, {NESTED}, batch_sizes=1)").parse().unwrap();
    let active = w.set.activate(&setup, 3).unwrap();
    let (mixed, tokens) = (w.pass(&active, Keep::F32).0, w.tokens());
    let mut at = 0;
    for (i, own) in [NESTED, "a", NESTED].into_iter().enumerate() {
        let active = w.set.activate(&own.parse().unwrap(), 1).unwrap();
        let mut cx = Cx::new(&w.device, &active, Pass::infer());
        let alone = w.model.forward(&mut cx, &alone(&tokens, i), &Rows::All).unwrap().read().unwrap();
        assert_eq!(alone, mixed[at..at + alone.len()], "{i}");
        at += alone.len();
    }
}

#[test]
fn a_hierarchy_is_saved_and_loaded() {
    for kinds in [("attention", "attention"), ("weighted[shared=True]", "gating[top_k=1]")] {
        let (w, setup) = (world(NESTED, kinds), NESTED.parse::<Setup>().unwrap());
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in composition(&w.set, &setup, None, &host()).unwrap() {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        let json = faults::json_of(&dir.path().join("(a,b),(second),b/adapter_fusion_config.json"));
        assert_eq!(json["adapter_names"], serde_json::json!(["(a,b)", "(second)", "b"]));
        let mut params = ParamSet::new();
        let base = w.model.sites().into();
        let again = Composition::load(dir.path(), &host(), base, &w.device, &mut params).unwrap();
        assert_eq!(again.setup, setup);
        let (model, device) = (families::backbone("bert", &w.device).0, w.device.clone());
        let loaded = World { device, model, set: again.set };
        assert_eq!(loaded.hidden(NESTED), w.hidden(NESTED), "{kinds:?}");
        let mut before = 0;
        w.set.visit(&mut |_: &Param| before += 1);
        assert_eq!(params.len(), before);
    }
}

#[test]
fn the_null_device_predicts_every_byte() {
    for kinds in [("attention", "attention"), ("attention[heads=4]", "weighted"), ("gating", "static")] {
        let peaks = [cpu(), Device::null(2)].map(|device| {
            let w = world_on(device, "bert", NESTED, kinds);
            [Keep::F32, Keep::Recompute].map(|keep| {
                w.device.ledger().reset_peak();
                let active = w.set.activate(&NESTED.parse().unwrap(), 3).unwrap();
                let mut cx =
                    Cx::new(&w.device, &active, Pass::train(1, 2)).with_activations(&Activations::all(keep));
                let y = w.model.forward(&mut cx, &w.tokens(), &Rows::All).unwrap();
                let dy = w.device.zeros::<f32>(Class::Scratch, y.rows() * y.cols()).unwrap();
                cx.backward(&y, dy, &mut Gradients::new()).unwrap();
                w.device.ledger().usage().peak_total()
            })
        });
        assert_eq!(peaks[0], peaks[1], "{kinds:?}");
    }
}

#[test]
fn names_tell_hierarchies_apart() {
    for (setup, names) in [
        ("Fuse(Fuse(a, b), c)", &["a,b", "(a,b),c"][..]),
        ("Fuse(a, Fuse(b, c))", &["b,c", "a,(b,c)"]),
        ("Fuse(Fuse(a, b), Fuse(c, d))", &["a,b", "c,d", "(a,b),(c,d)"]),
        ("Fuse(Stack(x, Fuse(a, b)), Stack(a, c), name='all')", &["a,b", "all"]),
        (NESTED, &["a,b", "second", "(a,b),(second),b"]),
    ] {
        let setup: Setup = setup.parse().unwrap();
        let found: Vec<String> = setup.fusions().into_iter().map(|f| f.name).collect();
        assert_eq!(found, names, "{setup}");
        assert_eq!(Setup::from_json(&setup.to_json()).unwrap(), setup);
    }
}

#[test]
fn what_cannot_be_mixed_is_refused() {
    let w = world(NESTED, ("weighted", "weighted"));
    let like = |compat: Compat, setup: &str| {
        let active = w.set.activate_like(compat, &setup.parse().unwrap(), 1);
        active.map(drop).map_err(|e| e.to_string())
    };
    faults::says(like(Compat::Adapters130, NESTED), &["adapters 1.3.0 cannot compute a fusion of fusions"]);
    faults::says(
        like(Compat::Documented, "Fuse(Fuse(a, b), c, name='(a,b),(second),b')"),
        &["was made for `(a,b)`, `(second)`, `b`, and not for `c`"],
    );
    faults::says(like(Compat::Documented, "Fuse(Fuse(a, c), b)"), &["there is no fusion `(a,c),b`", "`a,b`"]);
    faults::says(
        like(Compat::Documented, "Fuse(Fuse(a, b), None, b, name='(a,b),(second),b')"),
        &["and not for `None`"],
    );
    // adapters behind both sub-layers, and a fusion of those behind one
    let ((model, host), device) = (families::backbone("bert", &cpu()), cpu());
    let mut params = ParamSet::new();
    let [a, b, d] = ["a", "b", "d"].map(|name| {
        let dir = fixture(&format!("compose/bert/adapters/{name}"));
        Adapter::load_frozen(&dir, &host, model.sites(), &device).unwrap()
    });
    let mut fuse = |of: &[&dyn engraft_adapters::Member]| {
        let config = parse("weighted", &Fields::new()).unwrap();
        Fusion::new(config, of, model.sites(), &device, &mut params, 1).map_err(|e| e.to_string())
    };
    let inner = fuse(&[&a, &b]).unwrap();
    faults::says(fuse(&[&inner, &d]).map(drop), &["`(a,b)` and `d`", "mh_adapter"]);
    faults::says(fuse(&[&inner, &a, &inner]).map(drop), &["`(a,b)` is fused with itself"]);
}
