//! One model in many files: storage types, shards, names, alignment. What is quantised is in
//! `quantised.rs`.
mod support;
use engraft_engine::kernels::DType;
use engraft_engine::*;
use engraft_models::{Loaded, Rows};
use std::path::Path;
use support::{files::*, *};

fn load(dir: &Path) -> (Loaded, Device) {
    let device = cpu();
    (engraft_models::load_frozen(dir, &device, engraft_models::Holding::default()).unwrap(), device)
}
/// Last hidden states of the fixture's batch.
fn hidden(dir: &Path) -> Vec<f32> {
    let (loaded, device) = load(dir);
    let mut cx = Cx::new(&device, &Plain, Pass::infer());
    loaded.model.forward(&mut cx, &input("plain").0, &Rows::All).unwrap().read().unwrap()
}

#[test]
fn half_precision_weights_stay_as_they_are_stored_and_compute_as_their_values() {
    let model = ModelFiles::fixture();
    let exact = hidden(&fixture("model"));
    for (name, dtype, near) in [("F16", DType::F16, 2e-3), ("BF16", DType::Bf16, 2e-2)] {
        let (half, rounded) = (model.map(|t| t.to(name)).write(), model.map(|t| t.through(name)).write());
        let (loaded, _) = load(half.path());
        for (tensor, t) in loaded.model.named() {
            let kept = if t.shape().len() == 2 { dtype } else { DType::F32 };
            assert_eq!(t.buffer().dtype(), kept, "{tensor}");
            assert_eq!(t.buffer().is_mapped(), t.shape().len() == 2, "{tensor}");
        }
        let (a, b) = (hidden(half.path()), hidden(rounded.path()));
        assert!(relative(&a, &b) < 1e-6, "{name}: {:.1e}", relative(&a, &b));
        let e = relative(&a, &exact);
        println!("{name}: {e:.1e} from f32");
        assert!(e > 0.0 && e < near, "{name}: {e:.1e}");
        // what trains is f32
        let mut set = ParamSet::new();
        let trained = engraft_models::load_trained(half.path(), &cpu(), &mut set).unwrap().model;
        assert!(trained.named().iter().all(|(_, t)| t.buffer().dtype() == DType::F32));
        assert_eq!(set.len(), trained.named().len());
    }
}

#[test]
fn shards_are_the_single_file() {
    let (single, sharded) = (fixture("model"), ModelFiles::fixture().write_sharded());
    assert!(hidden(sharded.path()) == hidden(&single));
    let print = |d: &Path| Checkpoint::open(d).unwrap().fingerprint();
    assert_eq!(print(sharded.path()), print(&single));
    let other = ModelFiles::fixture();
    let changed =
        other.map(|t| StoredTensor::f32(&t.values().iter().map(|x| x + 1e-6).collect::<Vec<_>>(), &t.shape));
    assert_ne!(print(changed.write().path()), print(&single));
}

#[test]
fn names_with_and_without_the_prefix_of_the_model_are_one() {
    let model = ModelFiles::fixture();
    let want = hidden(&fixture("model"));
    let bare = |n: &str| n.strip_prefix("bert.").unwrap_or(n).to_string();
    for (what, files) in [
        ("without", model.named(|n| Some(bare(n)))),
        ("with", model.named(|n| Some(format!("bert.{}", bare(n))))),
        (
            "gamma and beta",
            model.named(|n| {
                let n = n.replace("LayerNorm.weight", "LayerNorm.gamma");
                Some(n.replace("LayerNorm.bias", "LayerNorm.beta"))
            }),
        ),
    ] {
        let dir = files.write();
        assert!(hidden(dir.path()) == want, "{what}");
        let (loaded, _) = load(dir.path());
        assert!(loaded.unused.is_empty(), "{what}: {:?}", loaded.unused);
        assert!(loaded.model.info().has_pooler);
        assert_eq!(loaded.model.named()[0].0, "bert.embeddings.word_embeddings.weight");
    }
}

#[test]
fn a_model_without_a_pooler_gives_the_first_token() {
    let dir = ModelFiles::fixture().named(|n| (!n.contains("pooler")).then(|| n.into())).write();
    let (loaded, device) = load(dir.path());
    assert!(!loaded.model.info().has_pooler);
    let (tokens, _) = input("plain");
    let mut cx = Cx::new(&device, &Plain, Pass::infer());
    let hidden = loaded.model.forward(&mut cx, &tokens, &Rows::All).unwrap();
    let pooled = pooled(&mut cx, &*loaded.model, &hidden, true).read().unwrap();
    let (all, mut at) = (hidden.read().unwrap(), 0);
    for (i, n) in tokens.lengths.iter().enumerate() {
        assert_eq!(pooled[i * 32..(i + 1) * 32], all[at * 32..(at + 1) * 32]);
        at += n;
    }
}

#[test]
fn tensors_that_nothing_needs_are_listed() {
    let mut model = ModelFiles::fixture();
    model.tensors.insert("cls.predictions.bias".into(), StoredTensor::f32(&[0.0; 61], &[61]));
    let ids = StoredTensor { dtype: "I64", shape: vec![1, 24], bytes: vec![0; 24 * 8] };
    model.tensors.insert("bert.embeddings.position_ids".into(), ids);
    let dir = model.write();
    let (loaded, _) = load(dir.path());
    assert_eq!(loaded.unused, ["bert.embeddings.position_ids", "cls.predictions.bias"]);
    assert!(hidden(dir.path()) == hidden(&fixture("model")));
}

#[test]
fn tensors_at_odd_places_of_the_file_are_read_all_the_same() {
    let (model, want) = (ModelFiles::fixture(), hidden(&fixture("model")));
    for spaces in 0..8 {
        for dtype in ["F32", "F16"] {
            let model = if dtype == "F16" { model.map(|t| t.to("F16")) } else { model.clone() };
            let (dir, (header, data)) = (model.write_config(), parts(&model.tensors));
            std::fs::write(dir.path().join("model.safetensors"), assemble(&header, &data, spaces)).unwrap();
            let e = relative(&hidden(dir.path()), &want);
            assert!(if dtype == "F32" { e == 0.0 } else { e < 2e-3 }, "{dtype} {spaces}: {e:.1e}");
        }
    }
}
