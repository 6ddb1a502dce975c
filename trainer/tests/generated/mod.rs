//! What the fixtures of generation hold (`tests/reference/generation.py`), one folder a family.
#![allow(dead_code)] // each test file uses its part
use engraft::{
    Device,
    generation::{Generated, Settings, generate},
    learner::{Backbone, Graft, Learner, Opening},
    tasks::{TaskType, Told},
};
use serde_json::Value;
use std::path::{Path, PathBuf};

pub fn families() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/generation");
    let mut all: Vec<_> = std::fs::read_dir(root).unwrap().map(|f| f.unwrap().path()).collect();
    all.sort();
    assert!(!all.is_empty());
    all
}
pub fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}
pub fn lists<T: serde::de::DeserializeOwned>(v: &Value) -> T {
    serde_json::from_value(v.clone()).unwrap()
}
pub fn prompts(family: &Path) -> Vec<Vec<u32>> {
    lists(&json(&family.join("prompts.json")))
}
/// The fields of a case, read as those of a model's file.
pub fn settings(config: &Value) -> Settings {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("generation_config.json"), config.to_string()).unwrap();
    Settings::read(dir.path()).unwrap()
}
/// A family's model with one of its adapters, or without.
pub fn learner(family: &Path, adapter: Option<&str>, how: Opening) -> Learner {
    let device = Device::cpu(2).unwrap();
    let backbone = Backbone::open(family.join("model"), &device, how).unwrap();
    let kind = TaskType::of_head(None, backbone.model().info()).unwrap();
    let task = (kind.known)(vec![], &Told::default()).unwrap();
    match adapter {
        None => backbone.learner(Graft::default(), task).unwrap(),
        Some(name) => {
            let directory = family.join("adapters").join(name);
            backbone.load_frozen_learner(directory, None, |_| Ok(task)).unwrap()
        }
    }
}
pub fn all(learner: &Learner, prompts: &[Vec<u32>], s: &Settings) -> Vec<Vec<Generated>> {
    generate(learner, prompts, s, &mut |_| Ok(())).unwrap()
}
pub struct Case {
    pub name: String,
    pub adapter: Option<String>,
    pub settings: Settings,
    pub sequences: Vec<Vec<Vec<u32>>>,
    pub scores: Option<Vec<Vec<f32>>>,
}
pub fn cases(family: &Path) -> Vec<Case> {
    let mut files: Vec<_> =
        std::fs::read_dir(family.join("cases")).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    let read = |path: PathBuf| {
        let v = json(&path);
        Case {
            name: path.file_stem().unwrap().to_string_lossy().into_owned(),
            adapter: v["adapter"].as_str().map(String::from),
            settings: settings(&v["config"]),
            sequences: lists(&v["sequences"]),
            scores: v.get("scores").map(lists),
        }
    };
    files.into_iter().map(read).collect()
}
/// With a cache and without, in company and alone.
pub fn same_in_any_way(learner: &Learner, prompts: &[Vec<u32>], s: &Settings, name: &str) {
    let (cached, whole) = (all(learner, prompts, s), Settings { use_cache: false, ..s.clone() });
    assert_eq!(cached, all(learner, prompts, &whole), "{name}");
    let alone: Vec<_> = prompts.iter().flat_map(|p| all(learner, std::slice::from_ref(p), s)).collect();
    assert_eq!(cached, alone, "{name}");
}
