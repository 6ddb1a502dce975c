//! What layers keep for the backward pass: the policy, and the state of a pass under it.
use engraft_kernels::Buffer;
use std::{
    cell::Cell,
    sync::{Arc, Weak},
};

/// What a layer keeps for the backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Keep {
    /// What the backward pass needs, as it is.
    #[default]
    F32,
    /// The same, rounded to bf16: half the bytes. An approximation: gradients are computed from
    /// rounded values (8 bits of mantissa); outputs and the loss do not change.
    Bf16,
    /// Its input only; the backward pass computes the layer again. The gradients are the same bits.
    Recompute,
}

/// What every layer keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activations {
    all: Keep,
    by_layer: Arc<[Keep]>,
}
impl Activations {
    /// The same for every layer.
    pub fn all(keep: Keep) -> Activations {
        Activations { all: keep, by_layer: [].into() }
    }
    /// Layer by layer, from layer 0; layers beyond the last one named keep f32.
    pub fn by_layer(keep: &[Keep]) -> Activations {
        Activations { all: Keep::F32, by_layer: keep.into() }
    }
    /// What layer `l` keeps.
    pub fn of(&self, l: usize) -> Keep {
        self.by_layer.get(l).copied().unwrap_or(self.all)
    }
}

/// What a pass keeps, while it runs.
#[derive(Debug, Default)]
pub(crate) struct Keeping {
    pub(crate) policy: Activations,
    /// Inside a segment: nothing is recorded ...
    pub(crate) skipping: bool,
    /// ... and something would have been.
    pub(crate) skipped: Cell<bool>,
    /// What is kept is rounded to bf16.
    pub(crate) rounds: bool,
    /// Buffers of the layer at hand that were rounded, and what they became: several operations
    /// keep the same one.
    pub(crate) rounded: Vec<(Weak<Buffer>, Weak<Buffer>)>,
    pub(crate) by_layer: Vec<usize>,
}
impl Keeping {
    /// An operation would be recorded: is it?
    pub(crate) fn records(&self) -> bool {
        if self.skipping {
            self.skipped.set(true);
        }
        !self.skipping
    }
}
