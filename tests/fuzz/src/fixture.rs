//! What inputs are for: a small model, and devices.
use engraft::{
    Device,
    learner::{Backbone, Opening},
};
use std::{path::PathBuf, sync::OnceLock};

/// Bytes that a CPU may hold for tensors of an input.
const MOST: usize = 4 << 20;

/// A processor with one thread.
pub fn cpu() -> &'static Device {
    static CPU: OnceLock<Device> = OnceLock::new();
    CPU.get_or_init(|| Device::cpu(1).expect("a processor"))
}

/// Runs something on [`cpu`], whose large blocks do not come from the allocator that is watched: it
/// is held to what its own ledger says.
pub fn computing<R>(input: &[u8], run: impl FnOnce(&Device) -> R) -> R {
    let device = cpu();
    device.ledger().reset_peak();
    let before = device.ledger().usage().live_total();
    let result = run(device);
    let held = device.ledger().usage().peak_total().saturating_sub(before);
    let most = MOST + 64 * input.len();
    assert!(held <= most, "{held} bytes of tensors for an input of {}; {most} are allowed", input.len());
    result
}

/// The directory of the model that the seeds of adapters and heads are for.
pub fn model() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures/bert/model")
}

/// That model, without dropout.
pub fn backbone() -> Backbone {
    static BACKBONE: OnceLock<Backbone> = OnceLock::new();
    let how = Opening { dropout: Some(0.0), ..Opening::default() };
    BACKBONE.get_or_init(|| Backbone::open(model(), cpu(), how).expect("the fixture")).clone()
}
