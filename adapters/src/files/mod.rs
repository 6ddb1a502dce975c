//! Adapters and heads as files: AdapterHub's and PEFT's.
mod card;
mod difference;
pub(crate) mod older;
mod origin;
pub(crate) mod own;
pub(crate) mod peft;
mod saved;

pub use card::Host;
pub(crate) use card::{Card, VERSION};
pub use difference::{Difference, FieldDifference, TensorDifference};
pub use origin::Origin;
pub use saved::{Found, FoundHead, FoundModel, Saved, find, renamed};

use crate::{Error, Result, grammar::Fields};
use engraft_engine::{Checkpoint, Load, SiteInfo, Tensor, checkpoint::TensorData};
use serde_json::Value;
use std::path::Path;

/// Whose files they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// AdapterHub's `adapters`: `adapter_config.json`, `adapter.safetensors`.
    AdapterHub,
    /// PEFT's: `adapter_config.json`, `adapter_model.safetensors`.
    Peft,
}
impl Format {
    /// Every format.
    pub const ALL: [Format; 2] = [Format::AdapterHub, Format::Peft];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Format::AdapterHub => "adapterhub",
            Format::Peft => "peft",
        }
    }
    /// The files that may hold the tensors when they are read: the first that is there counts.
    pub fn readable(self) -> [&'static str; 2] {
        match self {
            Format::AdapterHub => [self.tensors(), "pytorch_adapter.bin"],
            Format::Peft => [self.tensors(), "adapter_model.bin"],
        }
    }
    /// The file that the tensors are written to.
    pub fn tensors(self) -> &'static str {
        match self {
            Format::AdapterHub => "adapter.safetensors",
            Format::Peft => "adapter_model.safetensors",
        }
    }
    /// What `adapter_config.json` is written as, told by its fields: only PEFT's says what type of
    /// its own it is.
    pub(crate) fn of(fields: &Fields) -> Format {
        if fields.contains_key("peft_type") { Format::Peft } else { Format::AdapterHub }
    }
}

/// The file, in both formats, that says what the tensors are.
pub const CONFIG: &str = "adapter_config.json";

/// What several adapters are together.
pub const SETUP: &str = "adapter_setup.json";

/// What a head is.
pub const HEAD_CONFIG: &str = "head_config.json";
/// The files that may hold a head's tensors when they are read, the first that is there; it is
/// written to the first.
pub const HEAD_TENSORS: [&str; 2] = ["model_head.safetensors", "pytorch_model_head.bin"];

/// Every file of an adapter or a head, in whatever format.
pub fn names() -> Vec<&'static str> {
    let tensors = Format::ALL.map(Format::readable).into_iter().chain([HEAD_TENSORS]);
    tensors.flatten().chain([CONFIG, HEAD_CONFIG, SETUP]).collect()
}

/// How a checkpoint names the modules of a model: a plain `BertModel` saves without the first part
/// of the paths of the model with heads.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Paths {
    is_plain: bool,
}
impl Paths {
    /// Those of a checkpoint all of whose names begin with `root`.
    pub fn of(sites: &[SiteInfo], checkpoint: &Checkpoint, root: &str) -> Paths {
        let starts: Vec<&str> = sites.iter().map(|i| short(&i.path)).filter(|s| !s.is_empty()).collect();
        let begins = |name: &str| {
            starts.iter().any(|s| name.strip_prefix(s).is_some_and(|rest| rest.starts_with('.')))
        };
        let is_plain = checkpoint.names().filter_map(|n| n.strip_prefix(root)).any(begins);
        Paths { is_plain }
    }
    /// The path of what hangs at a site.
    pub fn at(self, info: &SiteInfo) -> &str {
        if self.is_plain { short(&info.path) } else { &info.path }
    }
}
/// A path without its first part.
fn short(path: &str) -> &str {
    path.split_once('.').map_or("", |(_, rest)| rest)
}

/// Refuses a file with a tensor that nothing has taken; `what` was made of the others.
pub(crate) fn nothing_left(load: &Load<'_>, path: &Path, what: &str) -> Result<()> {
    match load.unused().first() {
        Some(left) => Err(Error::File {
            path: path.into(),
            what: format!("tensor `{left}` has no place in this {what}"),
        }),
        None => Ok(()),
    }
}

/// The object in a JSON file.
pub(crate) fn object(path: &Path) -> Result<Fields> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| engraft_engine::Error::Io { path: path.to_path_buf(), source })?;
    let bad = |what: String| Error::File { path: path.to_path_buf(), what };
    match serde_json::from_str(&text).map_err(|e| bad(e.to_string()))? {
        Value::Object(fields) => Ok(fields),
        _ => Err(bad("not a JSON object".into())),
    }
}
/// The bytes of a JSON file.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).map_err(|e| Error::Config(e.to_string()))
}
/// Weights under their checkpoint names, in f32, as a safetensors file.
pub(crate) fn tensors(named: &[(String, &Tensor)]) -> Result<Vec<u8>> {
    let data = named.iter().map(|(n, t)| Ok((n.clone(), TensorData::f32(&t.to_f32()?, t.shape()))));
    Ok(engraft_engine::checkpoint::serialize(&data.collect::<Result<Vec<_>>>()?)?)
}
/// Writes files into a directory: all of them, or none.
pub(crate) fn write(directory: &Path, files: &[(String, Vec<u8>)]) -> Result<()> {
    let files: Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect();
    Ok(engraft_engine::output::write_directory(directory, &files)?)
}
