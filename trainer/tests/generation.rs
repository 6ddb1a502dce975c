//! Generation beside `transformers`' `generate` (fixtures by `tests/reference/generation.py`, one
//! folder a family): the same tokens, alone and in company, with a cache and without.
mod support;
use engraft::{
    Device,
    generation::{Generated, Place, Settings, generate, scores::process},
    learner::{Backbone, Graft, Learner, Opening},
    tasks::CausalLm,
};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn families() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/generation");
    let mut all: Vec<_> = std::fs::read_dir(root).unwrap().map(|f| f.unwrap().path()).collect();
    all.sort();
    assert!(!all.is_empty());
    all
}
fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}
fn lists<T: serde::de::DeserializeOwned>(v: &Value) -> T {
    serde_json::from_value(v.clone()).unwrap()
}
fn prompts(family: &Path) -> Vec<Vec<u32>> {
    lists(&json(&family.join("prompts.json")))
}
/// The fields of a case, read as those of a model's file.
fn settings(config: &Value) -> Settings {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("generation_config.json"), config.to_string()).unwrap();
    Settings::read(dir.path()).unwrap()
}
/// A family's model with one of its adapters, or without.
fn learner(family: &Path, adapter: Option<&str>, how: Opening) -> Learner {
    let device = Device::cpu(2).unwrap();
    let backbone = Backbone::open(family.join("model"), &device, how).unwrap();
    match adapter {
        None => backbone.learner(Graft::default(), Box::new(CausalLm)).unwrap(),
        Some(name) => {
            let directory = family.join("adapters").join(name);
            backbone.load_frozen_learner(directory, None, |_| Ok(Box::new(CausalLm))).unwrap()
        }
    }
}
fn all(learner: &Learner, prompts: &[Vec<u32>], s: &Settings) -> Vec<Vec<Generated>> {
    generate(learner, prompts, s, &mut |_| Ok(())).unwrap()
}
struct Case {
    name: String,
    adapter: Option<String>,
    settings: Settings,
    sequences: Vec<Vec<Vec<u32>>>,
    scores: Option<Vec<Vec<f32>>>,
}
fn cases(family: &Path) -> Vec<Case> {
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

#[test]
fn the_tokens_of_transformers() {
    for family in families() {
        let prompts = prompts(&family);
        let cases = cases(&family);
        assert!(cases.len() > 20, "{}", family.display());
        for c in cases {
            let learner = learner(&family, c.adapter.as_deref(), Opening::default());
            let got = all(&learner, &prompts, &c.settings);
            let ids: Vec<Vec<Vec<u32>>> =
                got.iter().map(|of| of.iter().map(|g| g.ids.clone()).collect()).collect();
            for (i, (got, want)) in ids.iter().zip(&c.sequences).enumerate() {
                assert_eq!(got, want, "{} {}, prompt {i}", family.display(), c.name);
            }
            assert_eq!(ids.len(), c.sequences.len());
            let scores: Vec<Vec<f32>> =
                got.iter().map(|of| of.iter().filter_map(|g| g.score).collect()).collect();
            for (got, want) in scores.concat().iter().zip(c.scores.iter().flatten().flatten()) {
                assert!((got - want).abs() < 1e-4 * want.abs().max(1.0), "{}: {got} {want}", c.name);
            }
        }
    }
}

#[test]
fn the_scores_that_a_token_is_drawn_from() {
    for family in families() {
        let file = json(&family.join("drawn.json"));
        let prompts: Vec<Vec<u32>> = lists(&file["prompts"]);
        let logits: Vec<Vec<f32>> = lists(&file["logits"]);
        for (name, case) in file["cases"].as_object().unwrap() {
            let s = settings(&case["config"]);
            let want: Vec<Vec<Option<f32>>> = lists(&case["scores"]);
            for ((ids, logits), want) in prompts.iter().zip(&logits).zip(&want) {
                let mut x = logits.clone();
                let at = Place { ids, prompt: ids.len(), source: ids, longest: ids.len() + 40 };
                process(&s, &at, &mut x);
                for (i, (got, want)) in x.iter().zip(want).enumerate() {
                    match want {
                        None => assert_eq!(*got, f32::NEG_INFINITY, "{name} {i}"),
                        Some(w) => assert!((got - w).abs() < 1e-4 * w.abs().max(1.0), "{name} {i}: {got} {w}"),
                    }
                }
            }
        }
    }
}

#[test]
fn a_sequence_gets_the_same_alone_and_without_a_cache() {
    for family in families() {
        let prompts = prompts(&family);
        let drawing = [serde_json::json!({"do_sample": true, "num_return_sequences": 2, "eos_token_id": 7})];
        let beams = serde_json::json!({"do_sample": true, "num_beams": 3, "num_return_sequences": 2});
        let drawing = drawing.iter().chain([&beams]).map(|c| (None, settings(c)));
        let picked = ["greedy", "beams-4", "beams-rules", "lora-beams", "prefix-beams", "houlsby"];
        let of_cases = cases(&family).into_iter().filter(|c| picked.contains(&&*c.name));
        for (adapter, s) in of_cases.map(|c| (c.adapter, c.settings)).chain(drawing) {
            let learner = learner(&family, adapter.as_deref(), Opening::default());
            let some = &prompts[..6];
            let together = all(&learner, some, &s);
            let alone: Vec<_> =
                some.iter().flat_map(|p| all(&learner, std::slice::from_ref(p), &s)).collect();
            // scores of beams too, to the bit
            assert_eq!(together, alone, "{s:?}");
            assert_eq!(together, all(&learner, some, &Settings { use_cache: false, ..s.clone() }), "{s:?}");
        }
    }
}
