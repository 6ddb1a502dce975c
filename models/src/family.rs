//! What the registry knows of a family.
use crate::{Config, Model, Result};
use engraft_engine::Load;

/// Reads the configuration and takes the weights that it describes out of a checkpoint.
pub type Build = fn(&Config, &mut Load<'_>) -> Result<Box<dyn Model>>;
/// A row of the registry.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// `model_type` in `config.json`.
    pub name: &'static str,
    /// The beginning of tensors' names that files of a model without heads leave out.
    pub prefix: &'static str,
    /// (name, other name) of fields of `config.json`.
    pub aliases: &'static [(&'static str, &'static str)],
    /// With weights that never change.
    pub frozen: Build,
    /// With weights that train.
    pub trained: Build,
}
