//! Backbones in fewer bytes: converted as they are loaded, or read from a file that was.
mod support;
use engraft_engine::{
    Compute,
    checkpoint::{TensorData, save},
    kernels::Usage,
    *,
};
use engraft_models::{Holding, Loaded, Rows, load_frozen};
use std::path::Path;
use support::{files::*, *};

const QUANTISED: [Storage; 2] = [Storage::Int8, Storage::Nf4];

fn load(dir: &Path, device: &Device, storage: Option<Storage>) -> Loaded {
    load_frozen(dir, device, Holding { storage, compute: Compute::F32 }).unwrap()
}
fn refused(dir: &Path, storage: Option<Storage>) -> String {
    load_frozen(dir, &cpu(), Holding { storage, compute: Compute::F32 })
        .err()
        .expect("it is refused")
        .to_string()
}
/// Last hidden states of the fixture's batch.
fn hidden(loaded: &Loaded, device: &Device) -> Vec<f32> {
    let mut cx = Cx::new(device, &Plain, Pass::infer());
    loaded.model.forward(&mut cx, &input("plain").0, &Rows::All).unwrap().read().unwrap()
}
/// A model directory with what a model holds, as it is stored or as f32.
fn written(loaded: &Loaded, as_f32: bool) -> tempfile::TempDir {
    let dir = ModelFiles::fixture().write_config();
    let mut all = vec![];
    for (name, t) in loaded.model.named() {
        match as_f32 {
            true => all.push((name, TensorData::f32(&t.to_f32().unwrap(), t.shape()))),
            false => all.extend(TensorData::of(&name, t)),
        }
    }
    save(&dir.path().join("model.safetensors"), &all).unwrap();
    dir
}
/// The files of the quantised fixture, to be changed.
fn quantised(storage: Storage) -> ModelFiles {
    let dir = written(&load(&fixture("model"), &cpu(), Some(storage)), false);
    ModelFiles { tensors: raw(&dir.path().join("model.safetensors")), ..ModelFiles::fixture() }
}

#[test]
fn every_matrix_is_stored_as_asked_and_computes_as_its_values() {
    let device = cpu();
    let exact = hidden(&load(&fixture("model"), &device, None), &device);
    for (storage, near) in [
        (Storage::F32, 0.0),
        (Storage::F16, 2e-3),
        (Storage::Bf16, 2e-2),
        (Storage::Int8, 3e-2),
        (Storage::Nf4, 0.5),
    ] {
        let loaded = load(&fixture("model"), &device, Some(storage));
        let (mut matrices, mut bytes) = (0, 0);
        for (name, t) in loaded.model.named() {
            let matrix = t.shape().len() == 2;
            matrices += usize::from(matrix);
            bytes += t.bytes();
            assert_eq!(t.storage(), if matrix { storage } else { Storage::F32 }, "{name}");
            if matrix {
                assert_eq!(t.bytes(), storage.bytes(t.shape()[0], t.shape()[1]), "{name}");
                assert_eq!(t.elements(), t.shape()[0] * t.shape()[1], "{name}");
            }
        }
        assert!(matrices > 20);
        assert!(loaded.unused.is_empty());
        let decoded = written(&loaded, true);
        let (a, b) = (hidden(&loaded, &device), hidden(&load(decoded.path(), &device, None), &device));
        assert!(relative(&a, &b) < 1e-6, "{storage}: {:.1e}", relative(&a, &b));
        let e = relative(&a, &exact);
        println!("{storage}: {e:.1e} from f32, {bytes} bytes");
        assert!(e <= near && (e > near / 50.0 || storage == Storage::F32), "{storage}: {e:.1e}");
    }
}

#[test]
fn gradients_over_a_quantised_backbone_are_those_over_its_values() {
    for storage in QUANTISED {
        let loaded = load(&fixture("model"), &cpu(), Some(storage));
        let decoded = written(&loaded, true);
        let [a, b] = [None, Some(decoded.path())].map(|dir| {
            let mut case = Case::load("houlsby", &cpu());
            case.model = match dir {
                None => load(&fixture("model"), &case.device, Some(storage)).model,
                Some(dir) => load(dir, &case.device, None).model,
            };
            let mut g = Gradients::new();
            let (_, logits, ..) = case.pass(Pass::gradients(), &mut g);
            (logits, case.gradients(&g))
        });
        assert!(relative(&a.0, &b.0) < 1e-5, "{storage}");
        assert_eq!(a.1.len(), b.1.len());
        for ((name, a), (_, b)) in a.1.iter().zip(&b.1) {
            let (a, b) = (a.as_ref().unwrap(), b.as_ref().unwrap());
            assert!(b.iter().any(|x| *x != 0.0), "{name}");
            assert!(relative(a, b) < 2e-5, "{storage} {name}: {:.1e}", relative(a, b));
        }
    }
}

#[test]
fn what_was_written_is_what_was_converted_to_the_bit() {
    let device = cpu();
    for storage in Storage::ALL {
        let converted = load(&fixture("model"), &device, Some(storage));
        let dir = written(&converted, false);
        for asked in [None, Some(storage)] {
            let read = load(dir.path(), &device, asked);
            assert!(read.unused.is_empty(), "{:?}", read.unused);
            for ((name, a), (_, b)) in converted.model.named().iter().zip(read.model.named()) {
                assert_eq!(
                    (a.shape(), a.storage(), a.bytes()),
                    (b.shape(), b.storage(), b.bytes()),
                    "{name}"
                );
                assert_eq!(b.buffer().is_mapped(), b.shape().len() == 2, "{name} is used where it lies");
                assert!(a.to_f32().unwrap() == b.to_f32().unwrap(), "{name}");
            }
            assert!(hidden(&converted, &device) == hidden(&read, &device), "{storage}");
        }
        // and its bytes are written again as they were read
        let again = written(&load(dir.path(), &device, None), false);
        let file = |d: &tempfile::TempDir| std::fs::read(d.path().join("model.safetensors")).unwrap();
        assert!(file(&dir) == file(&again), "{storage}");
    }
}

#[test]
fn halves_and_shards_are_quantised_too() {
    let (device, model) = (cpu(), ModelFiles::fixture());
    for storage in QUANTISED {
        for half in ["F16", "BF16"] {
            let (stored, rounded) =
                (model.map(|t| t.to(half)).write(), model.map(|t| t.through(half)).write());
            let [a, b] =
                [&stored, &rounded].map(|d| hidden(&load(d.path(), &device, Some(storage)), &device));
            assert!(a == b, "{half} to {storage}");
        }
        let sharded = model.write_sharded();
        let [a, b] =
            [sharded.path(), &fixture("model")].map(|d| hidden(&load(d, &device, Some(storage)), &device));
        assert!(a == b, "{storage}");
        let sharded = quantised(storage).write_sharded();
        assert!(hidden(&load(sharded.path(), &device, None), &device) == a, "{storage} in shards");
    }
}

#[test]
fn the_null_device_predicts_the_bytes_of_every_storage_type_while_loading_and_after() {
    let usage = |device: Device, dir: &Path, storage| -> (Usage, Usage) {
        let loaded = load(dir, &device, storage);
        let after = device.ledger().usage();
        device.ledger().reset_peak();
        hidden(&loaded, &device);
        (after, device.ledger().usage())
    };
    for storage in Storage::ALL {
        let file = quantised(storage).write();
        for (dir, asked) in [(fixture("model"), Some(storage)), (file.path().into(), None)] {
            let held = usage(Device::cpu(2).unwrap(), &dir, asked);
            assert_eq!(held, usage(Device::null(2), &dir, asked), "{storage}");
            let named = load(&dir, &cpu(), asked).model;
            let bytes: usize = named.named().iter().map(|(_, t)| t.bytes()).sum();
            assert_eq!(held.0.live(Class::Backbone), bytes);
            assert_eq!(held.0.live_total(), bytes, "{storage}: nothing else is left");
            // converting holds one tensor of the file at a time, and for nf4 a number for each
            // block (here of 32)
            let largest = 4 * named.named().iter().map(|(_, t)| t.elements()).max().unwrap();
            assert!(held.0.peak(Class::Scratch) <= largest + largest / 32, "{storage}");
        }
    }
}

#[test]
fn quantised_backbones_are_as_small_as_promised() {
    // MiniLM-L6 and BERT-base: channels, layers
    for (c, layers) in [(384, 6), (768, 12)] {
        let mut matrices = vec![(30_522, c), (512, c), (2, c), (c, c)];
        let mut vectors = 2 * c + c;
        for _ in 0..layers {
            matrices.extend([(c, c), (c, c), (c, c), (c, c), (4 * c, c), (c, 4 * c)]);
            vectors += 4 * c + 4 * c + c + 4 * c;
        }
        let bytes = |s: Storage| matrices.iter().map(|(r, c)| s.bytes(*r, *c)).sum::<usize>() + 4 * vectors;
        let share = |s: Storage| bytes(s) as f64 / bytes(Storage::F32) as f64;
        println!("{c} channels: int8 {:.4}, nf4 {:.4}", share(Storage::Int8), share(Storage::Nf4));
        assert!(share(Storage::Int8) <= 0.27 && share(Storage::Nf4) <= 0.15);
    }
}

#[test]
fn what_is_quantised_becomes_nothing_else() {
    for storage in QUANTISED {
        let dir = quantised(storage).write();
        for asked in Storage::ALL.into_iter().filter(|s| *s != storage) {
            let e = refused(dir.path(), Some(asked));
            assert!(e.contains(&format!("is stored as {storage} and cannot become {asked}")), "{e}");
            assert!(e.contains("model.safetensors: tensor `bert.embeddings.word_embeddings.weight`"), "{e}");
            assert!(e.contains("take the model that it was made from"), "{e}");
        }
        let trained = engraft_models::load_trained(dir.path(), &cpu(), &mut ParamSet::new());
        let e = trained.err().expect("it is refused").to_string();
        assert!(e.contains("word_embeddings.weight` is stored as") && e.contains("cannot train"), "{e}");
    }
}

#[test]
fn damaged_quantised_files_are_refused_by_name() {
    const NAME: &str = "bert.encoder.layer.1.attention.self.key.weight";
    let (scale, range) = (format!("{NAME}.scale"), format!("{NAME}.range"));
    let bad = |storage: Storage, says: &[&str], change: &dyn Fn(&mut Tensors)| {
        let mut model = quantised(storage);
        change(&mut model.tensors);
        let e = refused(model.write().path(), None);
        for word in says.iter().chain(&[NAME, "model.safetensors"]) {
            assert!(e.contains(word), "`{e}` does not say `{word}`");
        }
    };
    let set = |t: &mut Tensors, name: &str, at: usize, x: f32| {
        t.get_mut(name).unwrap().bytes[4 * at..4 * at + 4].copy_from_slice(&x.to_le_bytes());
    };
    for storage in QUANTISED {
        bad(storage, &["its scales are missing", &format!("no tensor `{scale}`")], &|t| {
            drop(t.remove(&scale))
        });
        bad(storage, &["no tensor", NAME], &|t| drop(t.remove(NAME)));
        bad(storage, &["needs"], &|t| {
            let w = t.get_mut(NAME).unwrap();
            w.shape[0] -= 1;
            w.bytes.truncate(w.shape[0] * w.shape[1]);
        });
        bad(storage, &["I64"], &|t| {
            let w = t.get_mut(NAME).unwrap();
            *w = StoredTensor { dtype: "I64", shape: vec![1], bytes: vec![0; 8] };
        });
        let bias = "bert.encoder.layer.1.attention.self.key.bias";
        let e = {
            let mut model = quantised(storage);
            let b = model.tensors.get_mut(bias).unwrap();
            (b.dtype, b.bytes) = ("I8", vec![1; b.shape[0]]);
            refused(model.write().path(), None)
        };
        assert!(e.contains(bias) && e.contains("I8; f32, bf16 and f16 are supported"), "{e}");
        // half a file
        let dir = quantised(storage).write();
        let path = dir.path().join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(refused(dir.path(), None).contains("not a whole safetensors file"));
    }
    let int8 = Storage::Int8;
    for x in [f32::NAN, f32::INFINITY, -1e-3] {
        bad(int8, &[&scale, "scales that are not finite or below 0"], &|t| set(t, &scale, 3, x));
    }
    bad(int8, &["-128"], &|t| t.get_mut(NAME).unwrap().bytes[77] = 128);
    bad(int8, &[&scale, "needs [32]"], &|t| {
        let s = t.get_mut(&scale).unwrap();
        (s.shape, s.bytes) = (vec![31], s.bytes[..124].to_vec());
    });
    bad(int8, &[&scale, "is BF16, not F32"], &|t| {
        let s = t.get_mut(&scale).unwrap();
        (s.dtype, s.bytes) = ("BF16", s.bytes[..64].to_vec());
    });
    let nf4 = Storage::Nf4;
    bad(nf4, &["its scales are missing", &format!("no tensor `{range}`")], &|t| drop(t.remove(&range)));
    for (at, x) in [(0, f32::NAN), (1, f32::INFINITY), (1, -1.0)] {
        bad(nf4, &[&range, "ranges that are not finite or below 0"], &|t| set(t, &range, at, x));
    }
    bad(nf4, &[&scale, "needs [32, 1]"], &|t| {
        let s = t.get_mut(&scale).unwrap();
        (s.shape, s.bytes) = (vec![16, 1], s.bytes[..16].to_vec());
    });
}

#[test]
fn scales_that_belong_to_nothing_are_listed() {
    let mut model = ModelFiles::fixture();
    model.tensors.insert("bert.pooler.dense.weight.scale".into(), StoredTensor::f32(&[1.0; 32], &[32]));
    assert_eq!(load(model.write().path(), &cpu(), None).unused, ["bert.pooler.dense.weight.scale"]);
}

#[test]
fn values_beyond_the_range_of_a_half_are_refused() {
    let name = "bert.encoder.layer.0.output.dense.weight";
    for (stored, value, to) in [
        ("F32", -70_000.0, Storage::F16),
        ("BF16", 70_000.0, Storage::F16),
        ("F32", f32::MAX, Storage::Bf16),
        ("F32", f32::MAX, Storage::F16),
    ] {
        let mut model = ModelFiles::fixture();
        let t = &model.tensors[name];
        let mut v = t.values();
        v[5] = value;
        let t = StoredTensor::f32(&v, &t.shape);
        model.tensors.insert(name.into(), if stored == "F32" { t } else { t.to(stored) });
        let dir = model.write();
        let e = refused(dir.path(), Some(to));
        assert!(e.contains(name) && e.contains(&format!("beyond the range of {to}")), "{e}");
        for other in [Storage::F32, Storage::Int8, Storage::Nf4] {
            load(dir.path(), &cpu(), Some(other));
        }
    }
}
