//! Composition blocks: the same numbers as AdapterHub's `adapters`, and each sequence what it gets
//! alone.
mod support;
use engraft_adapters::export::{Composition, composition};
use engraft_adapters::{Active, Adapter, AdapterSet, Fusion, Member, Setup, Shares};
use engraft_engine::{Activations, Cx, Keep, ParamSet, Part, Pass};
use engraft_models::{Holding, Kind, Rows, Tokens};
use support::{composed::*, *};

const FAMILIES: [&str; 3] = ["bert", "gpt2", "t5"];

#[test]
fn hidden_states_and_gradients() {
    let recomputed = Activations::all(Keep::Recompute);
    for family in FAMILIES {
        let want = expected(family);
        let all = cases(family, &cpu());
        assert!(all.len() > 30);
        let mut worst = (0f64, 0f64);
        for case in all {
            for policy in [&Activations::default(), &recomputed] {
                let e = case.agrees(family, &want, policy);
                worst = (worst.0.max(e.0), worst.1.max(e.1));
            }
        }
        println!("{family}: hidden {:.1e}, gradients {:.1e}", worst.0, worst.1);
    }
}

#[test]
fn shares_of_fusions_are_the_librarys_attentions() {
    let mut worst = 0f64;
    for family in FAMILIES {
        let cases = cases(family, &cpu());
        let fused: Vec<&Composed> = cases.iter().filter(|c| !c.shares.is_empty()).collect();
        assert!(fused.len() >= 10);
        for case in fused {
            let found = Shares::new();
            let active = case.active().with_shares(&found);
            run(&*case.model, &case.device, &active, &case.tokens, &Activations::default());
            let found = found.found();
            assert_eq!(found.len(), case.shares.len(), "{family} {}", case.name);
            for (layer, place, want) in &case.shares {
                let part = if place == "output_adapter" { Part::Ffn } else { Part::Attn };
                let is_here =
                    |s: &&engraft_adapters::SiteShares| (s.site.layer, s.site.part) == (*layer, part);
                let own = found.iter().find(is_here).unwrap();
                let is_target = *layer >= case.model.info().input_layers();
                let tokens = if is_target { case.tokens.outputs() } else { &case.tokens.lengths };
                assert_eq!((own.tokens, own.adapters.len()), (tokens.iter().sum(), want.len()));
                for (got, want) in own.adapters.iter().zip(want) {
                    let e = (got.mean - want).abs();
                    assert!(e < 1e-5, "{family} {}: {layer} {place} {} {e:.1e}", case.name, got.name);
                    worst = worst.max(e);
                }
            }
        }
    }
    println!("shares {worst:.1e}");
}

#[test]
fn a_sequence_gets_what_it_gets_alone_to_the_bit() {
    let device = cpu();
    for family in FAMILIES {
        for case in cases(family, &device) {
            let items = case.tokens.lengths.len();
            let active = case.set.activate(&case.setup, items).unwrap().without_layers(case.skip.clone());
            let keep = Activations::default();
            let together = run(&*case.model, &device, &active, &case.tokens, &keep).0;
            let mut apart = vec![];
            for channel in 0..active.channels() {
                for item in 0..items {
                    let tree = active.tree(channel, item).unwrap().clone();
                    let one = Active::single(tree).without_layers(case.skip.clone());
                    apart.extend(run(&*case.model, &device, &one, &alone(&case.tokens, item), &keep).0);
                }
            }
            assert!(together == apart, "{family} {}", case.name);
        }
    }
}

#[test]
fn frozen_adapters_record_nothing_and_a_fusion_trains_over_them() {
    let device = cpu();
    for family in FAMILIES {
        let folder = fixture(&format!("compose/{family}"));
        let model =
            engraft_models::load_frozen(&fixture(&format!("{family}/model")), &device, Holding::default());
        let (model, mut set) = (model.unwrap().model, AdapterSet::new());
        for name in ["a", "b", "c"] {
            let dir = folder.join("adapters").join(name);
            set.add(Adapter::load_frozen(&dir, &host_of(&*model), model.sites(), &device).unwrap()).unwrap();
        }
        let tokens = Tokens::new(&[&[3, 7, 1, 9], &[5, 2, 8, 4]]);
        let tokens = match model.info().kind {
            Kind::EncoderDecoder { .. } => tokens.with_target(&[&[1, 2], &[3, 4]]),
            Kind::Encoder | Kind::Decoder => tokens,
        };
        let recorded = |set: &AdapterSet, setup: &str| {
            let active = set.activate(&setup.parse().unwrap(), 2).unwrap();
            let mut cx = Cx::new(&device, &active, Pass::gradients());
            model.forward(&mut cx, &tokens, &Rows::All).unwrap();
            cx.recorded()
        };
        for setup in
            ["a", "Stack(a, b)", "Average(a, b)", "BatchSplit(a, b, batch_sizes=1)", "Parallel(a, b)"]
        {
            assert_eq!(recorded(&set, setup), 0, "{family} {setup}");
        }
        let dir = folder.join("fusions/dynamic");
        let mut params = ParamSet::new();
        set.add_fusion(Fusion::load(&dir, &host_of(&*model), model.sites(), &device, &mut params).unwrap())
            .unwrap();
        assert!(recorded(&set, "Fuse(a, b, c)") > 0);
        let active = set.activate(&"Fuse(a, b, c)".parse().unwrap(), 2).unwrap();
        let gradients = run(&*model, &device, &active, &tokens, &Activations::default()).1;
        assert_eq!(gradients.len(), params.len(), "{family}: the fusion's and no others");
    }
}

#[test]
fn some_of_a_fusions_adapters_are_those_alone() {
    let device = cpu();
    let case = cases("bert", &device).into_iter().find(|c| c.name == "fuse-dynamic").unwrap();
    let fuse = |text: &str| {
        let setup = format!("Fuse({text}, name='a,b,c')").parse().unwrap();
        let active = case.set.activate(&setup, case.tokens.lengths.len()).unwrap();
        run(&*case.model, &device, &active, &case.tokens, &Activations::default()).0
    };
    assert!(fuse("a, c") != fuse("a, b, c"));
    assert!(relative(&fuse("c, a"), &fuse("a, c")) < 1e-6);
    let unknown = "Fuse(a, d, name='a,b,c')".parse().unwrap();
    let e = case.set.activate(&unknown, 1).unwrap_err().to_string();
    assert!(e.contains("no adapter `d`") || e.contains("made for `a`, `b`, `c`"), "{e}");
}

#[test]
fn what_is_saved_is_what_the_library_saved() {
    let device = cpu();
    for family in FAMILIES {
        let model =
            engraft_models::load_frozen(&fixture(&format!("{family}/model")), &device, Holding::default());
        let model = model.unwrap().model;
        for entry in std::fs::read_dir(fixture(&format!("compose/{family}/fusions"))).unwrap() {
            let (from, to) = (entry.unwrap().path(), tempfile::tempdir().unwrap());
            let fusion = Fusion::load_frozen(&from, &host_of(&*model), model.sites(), &device).unwrap();
            fusion.save(to.path(), &host_of(&*model)).unwrap();
            let file = "model_adapter_fusion.safetensors";
            let (a, b) = (files::tensors(&to.path().join(file)), files::tensors(&from.join(file)));
            assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>(), "{from:?}");
            for (n, t) in &a {
                assert!((&t.shape, &t.bytes) == (&b[n].shape, &b[n].bytes), "{from:?} {n}");
            }
            let json = |d: &std::path::Path| faults::json_of(&d.join("adapter_fusion_config.json"));
            assert_eq!(json(to.path()), json(&from));
        }
    }
}

#[test]
fn setups_of_what_is_not_there_are_refused() {
    let device = cpu();
    let case = cases("bert", &device).into_iter().find(|c| c.name == "stack").unwrap();
    for (text, items, words) in [
        ("Stack(a, z)", 1, &["no adapter `z`", "`a`", "`b`"][..]),
        ("Fuse(a, b)", 1, &["no fusion `a,b`"]),
        ("BatchSplit(a, b, batch_sizes=[1, 2])", 4, &["add up to 3", "4 sequences"]),
        ("Stack(Parallel(a, b), Parallel(a, b, a))", 2, &["number of their channels"]),
    ] {
        let active = case.set.activate(&text.parse().unwrap(), items);
        faults::says(active.map(drop).map_err(|e| e.to_string()), words);
    }
    // rows of a longer sequence than the split is for, and more sequences than the setup answers
    // for
    let short = "Split(a, b, splits=[1, 1])".parse().unwrap();
    for (setup, items, word) in [(&short, 3, "split_sequences"), (&Setup::stack(["a", "b"]), 2, "2 items")] {
        let active = case.set.activate(setup, items).unwrap();
        let mut cx = Cx::new(&device, &active, Pass::infer());
        let e = case.model.forward(&mut cx, &case.tokens, &Rows::All).unwrap_err().to_string();
        assert!(e.contains(word), "{e}");
    }
}

#[test]
fn what_a_block_cannot_put_together_is_refused() {
    let device = cpu();
    let case = cases("bert", &device).into_iter().find(|c| c.name == "fuse-dynamic").unwrap();
    let (Composed { model, mut set, .. }, mut params) = (case, ParamSet::new());
    for (name, config) in [("l", "lora"), ("p", "prefix_tuning"), ("r", "loreft"), ("i", "seq_bn_inv")] {
        let config = engraft_adapters::parse(config, &Default::default()).unwrap();
        set.add(Adapter::new(name, config, model.sites(), &device, &mut params, 1).unwrap()).unwrap();
    }
    let activate = |text: &str| set.activate(&text.parse().unwrap(), 1).map(drop).map_err(|e| e.to_string());
    for (text, words) in [
        ("Fuse(a, Average(b, b), c)", &["a Fuse mixes adapters"][..]),
        ("Fuse(Stack(a, Split(b, b, splits=3)), b, c, name='a,b,c')", &["a Fuse mixes adapters"]),
        ("Fuse(a, Stack(l, b), c)", &["Fuse", "`l`", "attention.self.query"]),
        ("Split(a, l, splits=2)", &["Split", "`l`", "attention.self.query"]),
        ("Average(a, p)", &["Average", "`p`", "attention.self"]),
        ("Stack(a, Average(a, r))", &["Average", "`r`", "bert.encoder.layer.0"]),
    ] {
        faults::says(activate(text), words);
    }
    for text in ["Average(a, l)", "Stack(p, l, r, a)", "Split(i, a, splits=2)"] {
        activate(text).unwrap();
    }
}

#[test]
fn adapters_in_different_places_are_not_fused() {
    let device = cpu();
    let case = cases("bert", &device).into_iter().find(|c| c.name == "stack").unwrap();
    let dir = fixture("compose/bert/adapters");
    let [a, b, d, l] = ["a", "b", "d", "l"].map(|n| {
        Adapter::load_frozen(&dir.join(n), &host_of(&*case.model), case.model.sites(), &device).unwrap()
    });
    let fuse = |of: &[&dyn Member]| {
        let config = engraft_adapters::fusion::parse("attention", &Default::default()).unwrap();
        Fusion::new(config, of, case.model.sites(), &device, &mut ParamSet::new(), 3)
    };
    let said = |of: &[&dyn Member], words: &[&str]| {
        faults::says(fuse(of).map(drop).map_err(|e| e.to_string()), words)
    };
    said(&[&a, &d], &["`a` and `d`", "mh_adapter"]);
    said(&[&a, &l], &["`l` is no bottleneck adapter"]);
    said(&[&l], &["`l` is no bottleneck adapter"]);
    said(&[&a, &a], &["`a` is fused with itself"]);
    assert_eq!(fuse(&[&a, &b]).unwrap().mixers().count(), 3);
}

#[test]
fn a_directory_of_the_library_is_read_and_written() {
    let device = cpu();
    for family in FAMILIES {
        let case = cases(family, &device).into_iter().find(|c| c.name == "stack-of-fuse").unwrap();
        let (dir, host) = (fixture(&format!("compose/{family}/setup")), host_of(&*case.model));
        let load = |dir: &std::path::Path| {
            let base = case.model.sites().into();
            Composition::load(dir, &host, base, &device, &mut ParamSet::new()).unwrap()
        };
        let read = load(&dir);
        assert!(read.setup == case.setup && read.head.is_none());
        let hidden = |c: &Composition| {
            let active = c.set.activate(&c.setup, case.tokens.lengths.len()).unwrap();
            run(&*case.model, &device, &active, &case.tokens, &Activations::default()).0
        };
        assert!(hidden(&read) == case.pass(&Activations::default()).0, "{family}");
        let out = tempfile::tempdir().unwrap();
        for (name, bytes) in composition(&read.set, &read.setup, None, &host).unwrap() {
            let path = out.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        assert!(hidden(&load(out.path())) == hidden(&read));
        let mut written = faults::json_of(&out.path().join("adapter_setup.json"));
        written.as_object_mut().unwrap().remove("frozen");
        assert_eq!(written, faults::json_of(&dir.join("adapter_setup.json")));
        for (text, words) in [
            (r#"{"adapter_setup": {"type": "Stak", "children": []}}"#, &["adapter_setup.json", "`Stak`"][..]),
            (r#"{"adapter_setup": {"type": "single", "children": [".."]}}"#, &["`..` cannot be"]),
            (r#"{"adapter_setup": {"type": "single", "children": ["x"]}}"#, &["x"]),
            ("{}", &["`adapter_setup`"]),
        ] {
            std::fs::write(out.path().join("adapter_setup.json"), text).unwrap();
            let base = case.model.sites().into();
            let e = Composition::load(out.path(), &host, base, &device, &mut ParamSet::new());
            faults::says(e.map(drop).map_err(|e| e.to_string()), words);
        }
    }
}
