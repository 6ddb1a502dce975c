//! An architecture, a method and a task that the crates know nothing of, trained together.
use engraft::{
    AdamW, Device,
    learner::{Backbone, Graft, Opening},
    run::step::Trainer,
    tasks::{Given, Task},
    text::batch::Batch,
};
use engraft_adapters::{Adapter, Loading, Methods};
use engraft_engine::{
    Cx, Hooks, Pass, Plain, Rows,
    checkpoint::{TensorData, save},
};
use engraft_models::{Family, Tokens};
use engraft_outside::{architecture, method, task::LeastSquares};
use std::path::Path;

const FAMILIES: &[Family] = &[architecture::FAMILY];
const CHANNELS: usize = 16;
const WORDS: usize = 40;

/// A model directory with random weights.
fn write_model(directory: &Path) {
    let mut s = 7u64;
    let mut noise = |n: usize, scale: f32| -> Vec<f32> {
        let mut draw = || {
            s = s.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((s >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * scale
        };
        (0..n).map(|_| draw()).collect()
    };
    let c = CHANNELS;
    let mut tensors =
        vec![("words.weight".to_string(), TensorData::f32(&noise(WORDS * c, 1.0), &[WORDS, c]))];
    for l in 0..2 {
        let mut add = |name: &str, values: Vec<f32>, shape: &[usize]| {
            tensors.push((format!("layers.{l}.{name}"), TensorData::f32(&values, shape)));
        };
        add("look.weight", noise(3 * c * c, 0.4), &[3 * c, c]);
        add("look.bias", noise(3 * c, 0.1), &[3 * c]);
        add("out.weight", noise(c * c, 0.4), &[c, c]);
        add("out.bias", noise(c, 0.1), &[c]);
        add("norm.weight", vec![1.0; c], &[c]);
        add("norm.bias", vec![0.0; c], &[c]);
    }
    save(&directory.join("model.safetensors"), &tensors).unwrap();
    let config = serde_json::json!({
        "model_type": "neighbours", "channels": c, "layers": 2, "vocab_size": WORDS, "torch_dtype": "float32",
    });
    std::fs::write(directory.join("config.json"), config.to_string()).unwrap();
}

#[test]
fn what_the_crates_do_not_know_is_trained_saved_and_loaded() {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path());
    let device = Device::cpu(2).unwrap();
    let how = Opening { families: FAMILIES, ..Opening::default() };
    let backbone = Backbone::open(dir.path(), &device, how).unwrap();
    let host = backbone.host().clone();

    let task = LeastSquares::new(&["even", "odd"]).unwrap();
    let head = task.head(backbone.model().info(), true);
    let methods = Methods::default().with(&method::METHOD);
    let adapter = methods.parse("gain[leave_out=[1]]", &Default::default()).unwrap();
    let graft = Graft { name: "mine".into(), adapter: Some(adapter), head, seed: 1, ..Graft::default() };
    // texts of three words; the first one's number decides the class
    let text = |i: u32| (vec![i % 10, 10 + i % 7, 20 + i % 11], i64::from(i % 2));
    let examples: Vec<_> = (0..64u32)
        .map(text)
        .map(|(ids, class)| task.example(ids, Some(&Given::One(class))).unwrap())
        .collect();
    let batch: Batch = examples.iter().cloned().collect();
    let mut learner = backbone.learner(graft, Box::new(task)).unwrap();

    let mut trainer = Trainer::new(AdamW::new(0.0).clipping(1.0), 1);
    let mut losses = vec![];
    for _ in 0..150 {
        losses.push(trainer.step(&mut learner, std::slice::from_ref(&batch), 0.03).unwrap().loss);
    }
    assert!(losses[149] < 0.3 * losses[0], "{} to {}", losses[0], losses[149]);
    let answers = learner.answers(&batch).unwrap();
    let right = answers.iter().zip(&examples).filter(|(a, e)| a.chosen == e.labels).count();
    assert!(right >= 60, "{right} of 64");

    // its files, and the same numbers from them
    let saved = dir.path().join("saved");
    learner.save(&saved).unwrap();
    let sites = learner.backbone().model().sites().to_vec();
    let how = Loading { methods, ..Loading::default() };
    let adapter = Adapter::load_as(&how, &saved, &host, &sites, &device, None).unwrap();
    let hidden = |hooks: &dyn Hooks| {
        let mut cx = Cx::new(&device, hooks, Pass::infer());
        let tokens = Tokens::new(&[vec![1, 2, 3], vec![4]]);
        learner.backbone().model().forward(&mut cx, &tokens, &Rows::All).unwrap().read().unwrap()
    };
    let trained = learner.adapters().get("mine").unwrap();
    assert_eq!(hidden(trained), hidden(&adapter));
    assert_ne!(hidden(trained), hidden(&Plain));
    // who does not know the method says so
    let known = Adapter::load_frozen(&saved, &host, &sites, &device).unwrap_err().to_string();
    assert!(known.contains("`architecture` is `gain`"), "{known}");
    assert_eq!(adapter.config().adapterhub().unwrap()["leave_out"], serde_json::json!([1]));
}
