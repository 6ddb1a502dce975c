//! Trying what is broken, and what its refusal must say.
use super::{cpu, files::*, fixture, host, model};
use engraft_adapters::{Adapter, Head};
use engraft_engine::{Checkpoint, Cx, ParamSet, Pass, Plain};
use engraft_models::{Rows, Tokens};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What a model directory does: an error, or one forward and backward pass.
pub fn try_model(dir: &Path) -> Result<(), String> {
    let (device, mut set) = (cpu(), ParamSet::new());
    let model = engraft_models::load_trained(dir, &device, &mut set).map_err(|e| e.to_string())?.model;
    let mut cx = Cx::new(&device, &Plain, Pass::train(1, 1));
    model
        .forward(&mut cx, &Tokens::new(&[vec![1, 2], vec![3]]), &Rows::All)
        .map(drop)
        .map_err(|e| e.to_string())
}
pub fn try_checkpoint(path: &Path) -> Result<(), String> {
    Checkpoint::open(path).map(drop).map_err(|e| e.to_string())
}
pub fn try_adapter(dir: &Path) -> Result<Adapter, String> {
    let (device, mut set) = (cpu(), ParamSet::new());
    let sites = model(&device, &mut set, false).model.sites().to_vec();
    Adapter::load(dir, &host(), &sites, &device, &mut set).map_err(|e| e.to_string())
}
pub fn try_head(dir: &Path) -> Result<Head, String> {
    Head::load(dir, &host(), &cpu(), &mut ParamSet::new()).map_err(|e| e.to_string())
}
/// The result must be an error that says all of `words`.
#[track_caller]
pub fn says<T>(result: Result<T, String>, words: &[&str]) {
    let Err(e) = result else { panic!("not refused; expected {words:?}") };
    words.iter().for_each(|w| assert!(e.contains(w), "`{e}` does not say `{w}`"));
}
pub fn json_of(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}
/// A copy of a case's adapter and head.
pub fn adapter_dir(case: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for f in ["adapter_config.json", "adapter.safetensors", "head_config.json", "model_head.safetensors"] {
        std::fs::copy(fixture(case).join(f), dir.path().join(f)).unwrap();
    }
    dir
}
/// A copy in which `edit` has changed a JSON file.
pub fn edited(file: &str, edit: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let dir = adapter_dir("houlsby");
    let mut v = json_of(&dir.path().join(file));
    edit(&mut v);
    std::fs::write(dir.path().join(file), v.to_string()).unwrap();
    dir
}
/// A copy in which `edit` has changed a safetensors file.
pub fn retensored(file: &str, edit: impl FnOnce(&mut Tensors)) -> tempfile::TempDir {
    let dir = adapter_dir("houlsby");
    let mut t = tensors(&dir.path().join(file));
    edit(&mut t);
    std::fs::write(dir.path().join(file), safetensors(&t)).unwrap();
    dir
}
/// An adapter that engraft wrote, with its checksum.
pub fn saved() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    try_adapter(&fixture("pfeiffer")).unwrap().save(dir.path(), &host()).unwrap();
    let path = dir.path().join("adapter.safetensors");
    (dir, path)
}
pub fn header_length(bytes: &[u8]) -> usize {
    u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize
}
/// Reproducible numbers below `n`.
pub fn random(seed: u64) -> impl FnMut(usize) -> usize {
    let mut s = seed;
    move |n| {
        s = s.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((s >> 33) as usize) % n.max(1)
    }
}
