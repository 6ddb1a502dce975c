//! Mixed batches: 32 sequences of 64 tokens, each with one of 1, 8 or 32 adapters, on the shape of
//! MiniLM (6 layers of 384 channels) with random weights: forward and backward, without the
//! optimiser, whose share grows with its parameters.
//!
//! `cargo bench -p engraft-workspace --bench mixed [-- FILTER]`; `ENGRAFT_THREADS` sets the threads
//! (default: all cores). The three numbers of a method are taken in turn, and their ratios to one
//! adapter are printed at the end.
use engraft_adapters::{Adapter, AdapterSet, Fields, Setup, parse};
use engraft_engine::{
    Class, Cx, Device, Gradients, ParamSet, Pass, Rows,
    checkpoint::{TensorData, save},
};
use engraft_models::{Holding, Model, Tokens, load_frozen};
use std::{path::Path, time::Instant};

const SEQUENCES: usize = 32;
const TOKENS: usize = 64;
const ADAPTERS: [usize; 3] = [1, 8, 32];
const ROUNDS: usize = 9;

/// Reproducible values around 0.
fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut s = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = move || {
        s = s.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (s >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..n).map(|_| 0.1 * uniform()).collect()
}
/// A BERT of MiniLM's shape with random weights.
fn model(dir: &Path, device: &Device) -> Box<dyn Model> {
    let config = serde_json::json!({
        "model_type": "bert", "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
        "intermediate_size": 1536, "vocab_size": 2000,
    });
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let shapes = load_frozen(dir, &Device::null(1), Holding::default()).unwrap().model;
    let one = |(i, (name, t)): (usize, &(String, &engraft_engine::Tensor))| {
        let values = match name.ends_with("LayerNorm.weight") {
            true => vec![1.0; t.elements()],
            false => noise(i as u64, t.elements()),
        };
        (name.clone(), TensorData::f32(&values, t.shape()))
    };
    let tensors: Vec<_> = shapes.named().iter().enumerate().map(one).collect();
    save(&dir.join("model.safetensors"), &tensors).unwrap();
    load_frozen(dir, device, Holding::default()).unwrap().model
}
/// So many adapters, all of which train.
fn adapters(method: &str, n: usize, model: &dyn Model, device: &Device) -> AdapterSet {
    let (mut set, mut params) = (AdapterSet::new(), ParamSet::new());
    for i in 0..n {
        let config = parse(method, &Fields::new()).unwrap();
        let name = format!("a{i}");
        let a = Adapter::new(&name, config, model.sites(), device, &mut params, i as u64).unwrap();
        set.add(a).unwrap();
    }
    set
}
/// Seconds of a forward and a backward pass in which sequence i has adapter i mod n.
fn pass(set: &AdapterSet, n: usize, model: &dyn Model, device: &Device) -> f64 {
    let setups: Vec<Setup> =
        (0..SEQUENCES).map(|i| format!("a{}", i * n / SEQUENCES).as_str().into()).collect();
    let tokens = Tokens::new(&vec![(0..TOKENS as u32).map(|t| 7 * t % 1999).collect::<Vec<_>>(); SEQUENCES]);
    device.install(|| {
        let began = Instant::now();
        let active = set.activate_each(&setups.iter().collect::<Vec<_>>()).unwrap();
        let mut cx = Cx::new(device, &active, Pass::gradients());
        let y = model.forward(&mut cx, &tokens, &Rows::All).unwrap();
        let dy = device.upload(Class::Scratch, &vec![1e-3f32; y.rows() * y.cols()]).unwrap();
        cx.backward(&y, dy, &mut Gradients::new()).unwrap();
        began.elapsed().as_secs_f64()
    })
}
fn median(mut v: Vec<f64>) -> f64 {
    v.sort_by(f64::total_cmp);
    v[v.len() / 2]
}

fn main() {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let threads = std::env::var("ENGRAFT_THREADS").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let device = Device::cpu(threads).unwrap();
    let dir = std::env::temp_dir().join(format!("engraft-mixed-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let model = model(&dir, &device);
    for method in ["pfeiffer", "houlsby", "lora"] {
        if filter.as_ref().is_some_and(|f| !method.contains(f.as_str())) {
            continue;
        }
        let sets = ADAPTERS.map(|n| (n, adapters(method, n, &*model, &device)));
        let mut times = vec![vec![]; sets.len()];
        for round in 0..=ROUNDS {
            for ((n, set), times) in sets.iter().zip(&mut times) {
                let t = pass(set, *n, &*model, &device);
                if round > 0 {
                    times.push(t); // the first one touches its memory for the first time
                }
            }
        }
        for (i, n) in ADAPTERS.iter().enumerate() {
            let ratio = median(times[i].iter().zip(&times[0]).map(|(t, one)| t / one).collect());
            let ms = 1e3 * median(times[i].clone());
            println!("{method:<10} {n:>3} adapters {ms:>8.1} ms   x {ratio:.3}");
        }
    }
    drop(model);
    std::fs::remove_dir_all(&dir).unwrap();
}
