//! Files of tensors.
use crate::{
    files::{directory, is_torch, parts, put},
    fixture::computing,
};
use engraft_engine::{Checkpoint, Frozen, Load, Param, ParamSet, Role, Storage};
use std::path::Path;

/// A file of safetensors.
pub fn safetensors(input: &[u8]) -> bool {
    file("a.safetensors", input)
}

/// A file of `torch.save`.
pub fn torch(input: &[u8]) -> bool {
    file("a.bin", input)
}

/// An index and two shards, of safetensors or of `torch.save`.
pub fn shards(input: &[u8]) -> bool {
    let directory = directory();
    let [index, first, second] = parts::<3>(input);
    let extension = if is_torch(first) { "bin" } else { "safetensors" };
    let index_name = match is_torch(first) {
        true => "pytorch_model.bin.index.json",
        false => "model.safetensors.index.json",
    };
    put(directory.path(), index_name, index);
    put(directory.path(), &format!("1.{extension}"), first);
    put(directory.path(), &format!("2.{extension}"), second);
    read(directory.path(), input)
}

fn file(name: &str, input: &[u8]) -> bool {
    let directory = directory();
    put(directory.path(), name, Some(input));
    read(&directory.path().join(name), input)
}

/// Opens it, and reads every tensor in every way.
fn read(path: &Path, input: &[u8]) -> bool {
    let Ok(all) = Checkpoint::open(path) else { return false };
    let names: Vec<String> = all.names().map(String::from).collect();
    let _ = (all.bytes(), all.note(), all.fingerprint());
    for name in &names {
        let shape = all.shape(name).expect("the shape of a tensor that is there").to_vec();
        // two codes of nf4 lie in a byte
        let unpacked: Vec<usize> = match shape[..] {
            [rows, cols] => vec![rows, cols.saturating_mul(2)],
            _ => vec![],
        };
        computing(input, |device| {
            let _ = (all.values(name, &shape), all.integers(name, &shape));
            for shape in [&shape, &unpacked] {
                for storage in [None, Some(Storage::F16), Some(Storage::Int8)] {
                    let mut set = ParamSet::new();
                    let mut load = Load::new(&all, device, &mut set).storing(storage);
                    let _ = load.get::<Frozen>(name, shape, Role::WEIGHT);
                    let _ = load.get::<Param>(name, shape, Role::WEIGHT);
                }
            }
        });
    }
    true
}
