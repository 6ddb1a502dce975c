//! The backbone that an adapter was trained on, as its files record it.
//!
//! It stands in the header of the file of tensors, which the libraries' loaders do not look at:
//! fields of their own in `adapter_config.json` older versions of PEFT refuse.
use super::{CONFIG, Format, Host, SETUP, object};
use crate::{Result, Setup};
use engraft_engine::Checkpoint;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A backbone, as an adapter's files name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// What its weights are: [`Checkpoint::fingerprint`].
    pub fingerprint: String,
    /// The name of its directory.
    pub name: String,
}
#[derive(Serialize, Deserialize)]
struct Note {
    backbone: Origin,
}

impl Host {
    /// What the header of an adapter's tensors says of the model.
    pub(crate) fn note(&self) -> Option<String> {
        let (fingerprint, name) = (self.fingerprint.clone()?, self.model_name.clone());
        serde_json::to_string(&Note { backbone: Origin { fingerprint, name } }).ok()
    }
}
impl Origin {
    /// The backbones of the adapters in a directory, one or several that are put together: those
    /// that are recorded, each with the folder of its adapter.
    pub fn recorded(directory: &Path) -> Result<Vec<(std::path::PathBuf, Origin)>> {
        let mut folders = vec![];
        if directory.join(SETUP).exists() {
            let fields = object(&directory.join(SETUP))?;
            let setup =
                fields.get("adapter_setup").and_then(|v| Setup::from_json(v).ok()).unwrap_or_default();
            folders.extend(setup.distinct().into_iter().map(|name| directory.join(name)));
        } else {
            folders.push(directory.to_path_buf());
        }
        let mut found = vec![];
        for folder in folders.into_iter().filter(|folder| folder.join(CONFIG).exists()) {
            let format = Format::of(&object(&folder.join(CONFIG))?);
            let checkpoint = Checkpoint::open_first(&folder, &format.readable())?;
            let note = checkpoint.note().and_then(|note| serde_json::from_str::<Note>(note).ok());
            found.extend(note.map(|note| (folder, note.backbone)));
        }
        Ok(found)
    }
}
