//! How a backbone is opened: what it is stored as in memory, and in what arithmetic it computes.
use crate::{Error, Result, reports::progress::Mode};
use engraft_engine::{Compute, Storage};
use engraft_models::{FAMILIES, Family};

/// How a backbone is opened.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// Replaces the dropout probabilities of the model's configuration.
    pub dropout: Option<f32>,
    /// What the frozen matrices are stored as; as the files have them if `None`. Biases and norms
    /// are f32 always, and what the files have quantised stays as it is.
    pub storage: Option<Storage>,
    /// In what arithmetic the products with it are computed. For 8-bit integers the weights of
    /// these products are stored as int8, whatever `storage` says of the other matrices: f32 or
    /// int8.
    pub compute: Compute,
    /// The families that `model_type` may name.
    pub families: &'static [Family],
    /// How it is shown that a model of the hub is downloaded: not at all, unless said otherwise.
    pub progress: Mode,
}
impl Default for Opening {
    fn default() -> Opening {
        let (dropout, storage, compute, progress) = Default::default();
        Opening { dropout, storage, compute, families: FAMILIES, progress }
    }
}

impl Opening {
    /// Refuses a dropout that is no probability, arithmetic that does not go with what the backbone
    /// is stored as, and whatever is for a frozen backbone if this one is to train.
    pub fn check(&self, train: bool) -> Result<()> {
        if let Some(p) = self.dropout.filter(|p| !(0.0..1.0).contains(p)) {
            return Err(refused("dropout", p, "it is 0 to below 1".into()));
        }
        if let Some(storage) = self.storage.filter(|s| train && *s != Storage::F32) {
            let why = "it is for a frozen backbone, and what trains is f32".into();
            return Err(refused("backbone-dtype", storage, why));
        }
        let value = match self.compute {
            Compute::F32 => return Ok(()),
            Compute::Int8Forward => "int8-forward",
            Compute::Int8 => "int8",
        };
        let why = match self.storage {
            _ if train => "it is for a frozen backbone, and what trains is computed in f32".into(),
            Some(other @ (Storage::Bf16 | Storage::F16 | Storage::Nf4)) => format!(
                "`backbone-dtype` is {other}, and products in integers read weights that are stored as int8"
            ),
            _ => return Ok(()),
        };
        Err(refused("backbone-compute", value, why))
    }
}

fn refused(option: &'static str, value: impl ToString, why: String) -> Error {
    Error::Option { option, value: value.to_string(), why }
}
