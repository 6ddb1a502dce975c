//! The training curve of a fixture: ten steps of AdamW, with the settings of its `curve.json`.
use super::{Expected, relative};
use engraft_engine::{AdamW, Gradients, Parameters};
use std::path::Path;

/// Takes the steps of the fixture in `directory` and compares the loss before each of them, which
/// `step(optimiser, rate)` gives.
pub fn follow(directory: &Path, mut step: impl FnMut(&mut AdamW, f64) -> f32) {
    let text = std::fs::read_to_string(directory.join("curve.json")).unwrap();
    let how: serde_json::Value = serde_json::from_str(&text).unwrap();
    let number = |key: &str| how[key].as_f64().unwrap();
    let mut optimiser = AdamW::new(number("weight_decay")).clipping(number("clip_norm"));
    let want = Expected::at(directory).get("curve");
    let rate = |i: usize| how["lr_of_step"][i].as_f64().unwrap();
    let got: Vec<f32> = (0..want.len()).map(|i| step(&mut optimiser, rate(i))).collect();
    let (name, e) = (directory.display(), relative(&got, &want));
    println!("{name}: curve {e:.1e}");
    assert!(e < 1e-4, "{name}: {e:.1e}\n{got:?}\n{want:?}");
}
/// One step, whose gradients are clipped as the optimiser says.
pub fn update(optimiser: &mut AdamW, all: &mut [&mut dyn Parameters], g: &Gradients, rate: f64) {
    let norms = g.norms(&all.iter().map(|p| &**p as &dyn Parameters).collect::<Vec<_>>()).unwrap();
    optimiser.step(all, g, &norms, rate, 1.0).unwrap();
}
