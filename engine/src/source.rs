//! Where the weights of a module come from: a generator of random numbers, or a file.
//!
//! A module is built in one place: it names each weight with its shape, its role and its start, and
//! a [`Source`] makes or loads it.
use crate::{Group, Init, Linear, Load, Norm, NormKind, ParamSet, Result, Role, Weight, tensor::upload};
use engraft_kernels::{Class, Device};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

/// Makes new weights.
pub struct Fresh<'a> {
    device: &'a Device,
    set: &'a mut ParamSet,
    rng: ChaCha8Rng,
    group: Group,
}
impl<'a> Fresh<'a> {
    /// New weights on a device; the seed decides their values.
    pub fn new(device: &'a Device, set: &'a mut ParamSet, seed: u64) -> Fresh<'a> {
        Fresh { device, set, rng: ChaCha8Rng::seed_from_u64(seed), group: Group::default() }
    }
    /// What trains belongs to this group.
    pub fn grouped(self, group: Group) -> Fresh<'a> {
        Fresh { group, ..self }
    }
}

/// Where the weights of a module come from.
pub enum Source<'s, 'a> {
    /// They are new.
    New(&'s mut Fresh<'a>),
    /// They are in a checkpoint.
    File(&'s mut Load<'a>),
}

impl Source<'_, '_> {
    /// A weight: made with the start `init`, or loaded under its name.
    pub fn get<P: Weight>(&mut self, name: &str, shape: &[usize], role: Role, init: Init) -> Result<P> {
        match self {
            Source::New(n) => {
                let tensor = init.tensor(n.device, Class::Adapter, shape, &mut n.rng)?;
                P::make(n.set, name, tensor, role.of(n.group))
            }
            Source::File(load) => load.get(name, shape, role),
        }
    }
    /// A weight: made with these values, or loaded under its name. The values must be as many
    /// as the shape says.
    pub fn get_from<P: Weight>(
        &mut self,
        name: &str,
        shape: &[usize],
        role: Role,
        values: impl FnOnce() -> Vec<f32>,
    ) -> Result<P> {
        match self {
            Source::New(n) => {
                let tensor = upload(n.device, Class::Adapter, &values(), shape)?;
                P::make(n.set, name, tensor, role.of(n.group))
            }
            Source::File(load) => load.get(name, shape, role),
        }
    }
    /// `{path}.weight` (output, input) and, if there is one, `{path}.bias` (output).
    pub fn linear<P: Weight>(
        &mut self,
        path: &str,
        (input, output): (usize, usize),
        weight: Init,
        bias: Option<Init>,
    ) -> Result<Linear<P>> {
        let w = self.get(&format!("{path}.weight"), &[output, input], Role::WEIGHT, weight)?;
        let b =
            bias.map(|init| self.get(&format!("{path}.bias"), &[output], Role::BIAS, init)).transpose()?;
        Ok(Linear { w, b, in_out: false })
    }
    /// A LayerNorm that starts as the identity: `{path}.weight` and `{path}.bias`.
    pub fn norm<P: Weight>(&mut self, path: &str, channels: usize, eps: f32) -> Result<Norm<P>> {
        let (one, zero) = (Init::Constant(1.0), Init::Constant(0.0));
        let w = self.get(&format!("{path}.weight"), &[channels], Role::BIAS, one)?;
        let b = Some(self.get(&format!("{path}.bias"), &[channels], Role::BIAS, zero)?);
        Ok(Norm { w, b, eps, kind: NormKind::Layer })
    }
    /// Says that a tensor of the file is known, and held under another name too.
    pub fn mark(&mut self, name: &str) {
        if let Source::File(load) = self {
            load.mark(name);
        }
    }
}
