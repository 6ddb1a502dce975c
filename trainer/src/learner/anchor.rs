//! Elastic weight consolidation: an adapter is held near where it stood after an earlier task, each
//! weight as strongly as it mattered there (Kirkpatrick et al. 2017, arXiv 1612.00796, equation 3).
//!
//! With the weights θ* after a task, F their diagonal Fisher information on its data and a strength λ
//! the loss of what is learned next has besides, for each earlier task,
//!
//! ```text
//! λ/2 Σᵢ Fᵢ (θᵢ - θ*ᵢ)²
//! ```
//! `fisher.safetensors` holds of every trained tensor of the adapters
//!
//! ```text
//! weight.NAME   θ*
//! fisher.NAME   F
//! ```
use crate::{Error, Result};
use engraft_engine::{
    Buffer, Checkpoint, Class, Cx, Device, Gradients, Param, Pass, Plain, Weight,
    checkpoint::{TensorData, serialize},
};
use std::{collections::BTreeMap, path::Path};

/// The name of the file.
pub const FILE: &str = "fisher.safetensors";

/// Where weights stood, and how strongly each of them is held there.
pub(super) struct Anchor {
    /// θ* and λ F of each tensor.
    of_each: BTreeMap<String, [Buffer; 2]>,
}

impl Anchor {
    /// What a directory says of these weights. An error unless that is a number for each of their
    /// values, from 0 as far as it is Fisher information.
    pub fn load(directory: &Path, strength: f64, of: &[&Param], device: &Device) -> Result<Anchor> {
        let path = directory.join(FILE);
        let c = Checkpoint::open(&path)?;
        let read = |kind: &str, p: &Param| c.values(&format!("{kind}.{}", p.name()), p.tensor().shape());
        let upload = |values: &[f32]| {
            let buffer = device.upload(Class::Adapter, values);
            buffer.map_err(engraft_engine::Error::from)
        };
        let mut of_each = BTreeMap::new();
        for p in of {
            let (at, fisher) = (read("weight", p)?, read("fisher", p)?);
            if !(at.iter().all(|x| x.is_finite()) && fisher.iter().all(|f| f.is_finite() && *f >= 0.0)) {
                let why = format!("of `{}` there is a value that is no number, or below 0", p.name());
                return Err(Error::file(&path, why));
            }
            let strong: Vec<f32> = fisher.iter().map(|f| (strength * f64::from(*f)) as f32).collect();
            of_each.insert(p.name().to_string(), [upload(&at)?, upload(&strong)?]);
        }
        Ok(Anchor { of_each })
    }
    /// Adds to gradients that of what holds a weight.
    pub fn pull(&self, p: &Param, into: &mut Gradients) -> Result<()> {
        let Some([at, strength]) = self.of_each.get(p.name()) else { return Ok(()) };
        let device = at.device();
        let mut cx = Cx::new(device, &Plain, Pass::gradients());
        let loss = cx.pull(&p.get(), at, strength)?;
        let one = device.upload(Class::Scratch, &[1.0f32]).map_err(engraft_engine::Error::from)?;
        Ok(cx.backward(&loss, one, into)?)
    }
}

/// The file of weights and their Fisher information.
pub(crate) fn file(all: &[(&Param, Vec<f32>)]) -> Result<(String, Vec<u8>)> {
    let mut tensors = vec![];
    for (p, fisher) in all {
        let shape = p.tensor().shape();
        tensors.push((format!("weight.{}", p.name()), TensorData::buffer(p.tensor().buffer(), shape)));
        tensors.push((format!("fisher.{}", p.name()), TensorData::f32(fisher, shape)));
    }
    Ok((FILE.into(), serialize(&tensors)?))
}
