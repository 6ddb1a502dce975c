//! A BERT of MiniLM's shape (6 layers of 384 channels) with random weights, for benches.
use engraft::{
    Device,
    engine::checkpoint::{TensorData, save},
    learner::{Backbone, Opening},
    models::{Holding, load_frozen},
};
use std::path::Path;

/// Reproducible values around 0.
fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut s = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = move || {
        s = s.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (s >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..n).map(|_| 0.1 * uniform()).collect()
}

/// Writes the model into a directory and opens it, without dropout.
pub fn model(dir: &Path, device: &Device) -> Backbone {
    let config = serde_json::json!({
        "model_type": "bert", "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
        "intermediate_size": 1536, "vocab_size": 2000,
    });
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let shapes = load_frozen(dir, &Device::null(1), Holding::default()).unwrap().model;
    let one = |(i, (name, t)): (usize, &(String, &engraft::engine::Tensor))| {
        let values = match name.ends_with("LayerNorm.weight") {
            true => vec![1.0; t.elements()],
            false => noise(i as u64, t.elements()),
        };
        (name.clone(), TensorData::f32(&values, t.shape()))
    };
    let tensors: Vec<_> = shapes.named().iter().enumerate().map(one).collect();
    save(&dir.join("model.safetensors"), &tensors).unwrap();
    Backbone::open(dir, device, Opening { dropout: Some(0.0), ..Opening::default() }).unwrap()
}
