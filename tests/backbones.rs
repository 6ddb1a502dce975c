//! What holds for every family of models with a fixture, whatever it computes: fewer bytes, integer
//! products, layers that run by themselves, layers computed again, bytes that are foretold.
mod support;
use engraft_adapters::{Adapter, Base, export::directory, methods::METHODS};
use engraft_engine::checkpoint::{TensorData, save};
use engraft_engine::{
    Act, Activations, Class, Compute, Cx, Device, Gradients, Hooks, Keep, Param, Parameters, Pass, Plain,
    Rows, Storage,
};
use engraft_models::{Holding, Loaded, Model, Tokens, load_frozen};
use std::path::Path;
use support::{
    alone, cpu,
    families::{all, backbone},
    fixture,
    made::made,
    of_kind, relative,
};

/// One of each kind of hook.
const ADAPTER: &str = "prefix_tuning[prefix_length=3,bottleneck_size=4]|lora[r=2,attn_matrices=[q,k,v]]\
                       |seq_bn[reduction_factor=4]";

fn tokens(model: &dyn Model) -> Tokens {
    let all = [vec![3, 7, 1, 9, 4, 8, 2, 6, 5, 3], vec![5, 2, 8], vec![6], vec![2, 2, 9, 1]];
    of_kind(model, Tokens::new(&all))
}
fn load(directory: &Path, device: &Device, how: Holding) -> Loaded {
    load_frozen(directory, device, how).unwrap()
}
fn of(family: &str, device: &Device, how: Holding) -> Box<dyn Model> {
    load(&fixture(&format!("{family}/model")), device, how).model
}
fn stored(storage: Storage) -> Holding {
    Holding { storage: Some(storage), ..Holding::default() }
}
fn computed(compute: Compute) -> Holding {
    Holding { compute, ..Holding::default() }
}
fn hidden(model: &dyn Model, device: &Device) -> Vec<f32> {
    let mut cx = Cx::new(device, &Plain, Pass::infer());
    model.forward(&mut cx, &tokens(model), &Rows::All).unwrap().read().unwrap()
}
/// The gradients of Σ y², where layers keep what they are told.
fn learn(model: &dyn Model, adapter: &Adapter, device: &Device, keep: Keep) -> Vec<(String, Vec<f32>)> {
    let (policy, mut g) = (Activations::all(keep), Gradients::new());
    let mut cx = Cx::new(device, adapter as &dyn Hooks, Pass::train(3, 1)).with_activations(&policy);
    let y: Act = model.forward(&mut cx, &tokens(model), &Rows::All).unwrap();
    let dy: Vec<f32> = y.read().unwrap().iter().map(|y| 2.0 * y).collect();
    cx.backward(&y, device.upload(Class::Scratch, &dy).unwrap(), &mut g).unwrap();
    let mut all = vec![];
    adapter.visit(&mut |p: &Param| {
        all.extend(g.get(p).map(|b| (p.name().to_string(), b.read::<f32>().unwrap())));
    });
    all
}

#[test]
fn matrices_in_fewer_bytes_compute_as_their_values() {
    let device = cpu();
    for family in &all() {
        let exact = hidden(&*of(family, &device, Holding::default()), &device);
        let (adapter, _) = made(family, ADAPTER, &device).unwrap();
        for (storage, near) in [(Storage::Int8, 0.1), (Storage::Nf4, 0.9)] {
            let loaded = of(family, &device, stored(storage));
            let dir = tempfile::tempdir().unwrap();
            let of_tensor = |(name, t): &(String, &engraft_engine::Tensor)| {
                (name.clone(), TensorData::f32(&t.to_f32().unwrap(), t.shape()))
            };
            let decoded: Vec<_> = loaded.named().iter().map(of_tensor).collect();
            save(&dir.path().join("model.safetensors"), &decoded).unwrap();
            let config = fixture(&format!("{family}/model")).join("config.json");
            std::fs::copy(config, dir.path().join("config.json")).unwrap();
            let plain = load(dir.path(), &device, Holding::default()).model;
            let (a, b) = (hidden(&*loaded, &device), hidden(&*plain, &device));
            assert!(relative(&a, &b) < 2e-6, "{family}, {storage}: {:.1e}", relative(&a, &b));
            let e = relative(&a, &exact);
            assert!(e > 0.0 && e < near, "{family}, {storage}: {e:.1e} from f32");
            let all = [&loaded, &plain].map(|m| learn(&**m, &adapter, &device, Keep::F32));
            assert!(!all[0].is_empty() && all[0].len() == all[1].len());
            for ((name, a), (_, b)) in all[0].iter().zip(&all[1]) {
                let e = support::relative_gradient(a, b);
                assert!(e < 1e-4, "{family}, {storage}, {name}: {e:.1e}");
            }
        }
    }
}

#[test]
fn products_in_integers_are_close() {
    let device = cpu();
    for family in &all() {
        let exact = hidden(&*of(family, &device, Holding::default()), &device);
        let (adapter, _) = made(family, ADAPTER, &device).unwrap();
        for compute in [Compute::Int8Forward, Compute::Int8] {
            let model = of(family, &device, computed(compute));
            let e = relative(&hidden(&*model, &device), &exact);
            println!("{family}, {compute:?}: {e:.1e} from f32");
            assert!(e > 0.0 && e < 0.2, "{family}, {compute:?}: {e:.1e} from f32");
            assert!(!learn(&*model, &adapter, &device, Keep::F32).is_empty());
        }
    }
}

#[test]
fn layers_by_themselves_are_the_whole() {
    // what a run keeps of its frozen layers is the residual stream between two of them
    let device = cpu();
    for family in &all() {
        let model = of(family, &device, Holding::default());
        for rows in [Rows::All, Rows::Last, Rows::These([vec![1, 2], vec![0], vec![], vec![3]].into())] {
            let mut cx = Cx::new(&device, &Plain, Pass::infer());
            let tokens = tokens(&*model);
            let whole = model.forward(&mut cx, &tokens, &rows).unwrap().read().unwrap();
            for middle in 1..model.info().input_layers() {
                let mut cx = Cx::new(&device, &Plain, Pass::infer());
                let x = model.embed(&mut cx, &tokens).unwrap();
                let x = model.run(&mut cx, 0..middle, x, &Rows::All).unwrap();
                let kept = device.upload(Class::Scratch, &x.read().unwrap()).unwrap();
                let x = Act::new(kept, x.cols(), x.seqs().clone()).unwrap();
                let mut cx = Cx::new(&device, &Plain, Pass::infer());
                let y = model.finish(&mut cx, middle, x, &tokens, &rows).unwrap();
                assert!(y.read().unwrap() == whole, "{family}, from layer {middle}, {rows:?}");
            }
        }
    }
}

#[test]
fn sequences_are_what_they_are_alone() {
    let device = cpu();
    for family in &all() {
        let model = of(family, &device, Holding::default());
        let (all, batch, c) = (hidden(&*model, &device), tokens(&*model), model.info().channels);
        let mut start = 0;
        for (i, n) in batch.outputs().iter().enumerate() {
            let mut cx = Cx::new(&device, &Plain, Pass::infer());
            let one = alone(&batch, i);
            let y = model.forward(&mut cx, &one, &Rows::All).unwrap().read().unwrap();
            assert!(y == all[start * c..(start + n) * c], "{family}, {n} tokens");
            start += n;
        }
    }
}

#[test]
fn layers_computed_again_give_the_same_bits_and_bytes_are_foretold() {
    for family in &all() {
        for how in [Holding::default(), stored(Storage::Nf4), computed(Compute::Int8)] {
            let run = |device: &Device, keep| {
                let model = of(family, device, how);
                let (adapter, _) = made(family, ADAPTER, device).unwrap();
                (learn(&*model, &adapter, device, keep), device.ledger().usage())
            };
            let [kept, again, rounded] =
                [Keep::F32, Keep::Recompute, Keep::Bf16].map(|k| (k, run(&cpu(), k)));
            assert!(kept.1.0 == again.1.0, "{family}, {how:?}: computed again");
            assert!(again.1.1.peak(Class::Saved) < kept.1.1.peak(Class::Saved), "{family}, {how:?}");
            for (keep, (_, measured)) in [kept, again, rounded] {
                assert_eq!(run(&Device::null(2), keep).1, measured, "{family}, {how:?}, {keep:?}");
            }
        }
    }
}

#[test]
fn every_method_stands_on_every_family_or_says_why_not() {
    let device = cpu();
    for family in &all() {
        let (model, host) = backbone(family, &device);
        let mut stand = 0;
        for name in METHODS.iter().flat_map(|m| m.names) {
            let (adapter, _) = match made(family, name, &device) {
                Ok(made) => made,
                Err(e) => {
                    // what tiny channels have no use for, layers of several sizes or as one, biases
                    // and norms that are not there
                    let why = ["`phm_dim` is 4", "VeRA", "nothing to train", "`has_positions`"];
                    assert!(why.iter().any(|why| e.contains(why)), "{family}, {name}: {e}");
                    continue;
                }
            };
            assert!(!learn(&*model, &adapter, &device, Keep::F32).is_empty(), "{family}, {name}");
            let dir = tempfile::tempdir().unwrap();
            for (n, bytes) in directory(Some(&adapter), None, None, &host).unwrap() {
                std::fs::write(dir.path().join(n), bytes).unwrap();
            }
            let named = model.named();
            let again = Adapter::load_frozen(dir.path(), &host, Base::new(model.sites(), &named), &device);
            let again = again.unwrap_or_else(|e| panic!("{family}, {name}: {e}"));
            let [a, b] =
                [&adapter, &again].map(|a| support::made::hidden(&*model, a, &tokens(&*model), &device));
            assert!(a == b, "{family}, {name}: it reads back");
            stand += 1;
        }
        assert!(stand > 25, "{family}: {stand}");
    }
}
