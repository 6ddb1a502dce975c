//! Directories of models.
use crate::{
    files::{directory, is_torch, parts, put},
    fixture::computing,
};
use engraft_engine::{Cx, Device, ParamSet, Pass, Plain};
use engraft_models::{Holding, Model, Rows, Tokens, load_frozen, load_trained};

/// A `config.json` without weights, as the predictions of memory take one.
pub fn config(input: &[u8]) -> bool {
    let directory = directory();
    put(directory.path(), "config.json", Some(input));
    load_frozen(directory.path(), &Device::null(1), Holding::default()).is_ok()
}

/// A `config.json` and weights: loaded frozen and trained, and computed with.
pub fn model(input: &[u8]) -> bool {
    let directory = directory();
    let [config, weights] = parts::<2>(input);
    put(directory.path(), "config.json", config);
    put(directory.path(), if is_torch(weights) { "pytorch_model.bin" } else { "model.safetensors" }, weights);
    computing(input, |device| {
        if let Ok(loaded) = load_frozen(directory.path(), device, Holding::default()) {
            forward(&*loaded.model, device);
        }
        load_trained(directory.path(), device, &mut ParamSet::new()).is_ok()
    })
}

fn forward(model: &dyn Model, device: &Device) {
    let tokens = Tokens::new(&[vec![0, 1], vec![0]]);
    let mut cx = Cx::new(device, &Plain, Pass::infer());
    let Ok(x) = model.forward(&mut cx, &tokens, &Rows::All) else { return };
    let _ = model.pool(&mut cx, &x);
    let _ = model.to_vocabulary(&mut cx, &x);
}
