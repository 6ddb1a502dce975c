//! How a backbone is stored, in memory and in a directory.
use crate::{Error, Result, classifier::Backbone};
use engraft_engine::{
    Compute, Storage,
    checkpoint::{TensorData, serialize},
};

/// How a backbone is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Opening {
    /// Replaces the dropout probabilities of the model's configuration.
    pub dropout: Option<f32>,
    /// What the frozen matrices are stored as; as the files have them if `None`. Biases and norms are f32 always, and what
    /// the files have quantised stays as it is.
    pub storage: Option<Storage>,
    /// In what arithmetic the products with it are computed. For 8-bit integers the weights of these products are stored
    /// as int8, whatever `storage` says of the other matrices: f32 or int8.
    pub compute: Compute,
}

/// What is said of a storage type where the backbone trains.
pub(crate) fn frozen_only(storage: Storage) -> Error {
    let why = "it is for a frozen backbone, and what trains is f32";
    Error::Option { option: "backbone-dtype", value: storage.to_string(), why: why.into() }
}

/// Refuses arithmetic that does not go with what the backbone is stored as, or with training it.
pub(crate) fn check_compute(compute: Compute, storage: Option<Storage>, train: bool) -> Result<()> {
    let value = match compute {
        Compute::F32 => return Ok(()),
        Compute::Int8Forward => "int8-forward",
        Compute::Int8 => "int8",
    };
    let why = match storage {
        _ if train => "it is for a frozen backbone, and what trains is computed in f32".into(),
        Some(other @ (Storage::Bf16 | Storage::F16 | Storage::Nf4)) => format!(
            "`backbone-dtype` is {other}, and products in integers read weights that are stored as int8"
        ),
        _ => return Ok(()),
    };
    Err(Error::Option { option: "backbone-compute", value: value.into(), why })
}

impl Backbone {
    /// The model directory's files, by name: config.json, tokenizer.json, and the weights in a model.safetensors, in the
    /// storage types that they have here.
    pub fn files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut files = self.companions()?;
        files.push(("model.safetensors".into(), self.weights()?));
        Ok(files)
    }
    pub(crate) fn weights(&self) -> Result<Vec<u8>> {
        let mut tensors = vec![];
        for (name, t) in self.model().named() {
            tensors.extend(TensorData::of(&name, t)?);
        }
        Ok(serialize(&tensors)?)
    }
    pub(crate) fn companions(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let read = |name: &str| {
            let path = self.directory().join(name);
            let bytes = std::fs::read(&path).map_err(|source| Error::Read { path, source })?;
            Ok((name.to_string(), bytes))
        };
        ["config.json", "tokenizer.json"].into_iter().map(read).collect()
    }
}
