//! What an adapter's files say by themselves, without a model.
use super::{CONFIG, Format, HEAD_CONFIG, HEAD_TENSORS, SETUP, object, older};
use crate::{Error, Fields, Result, Setup};
use engraft_engine::{
    Checkpoint,
    checkpoint::{TensorData, serialize, serialize_with},
};
use serde::Serialize;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The files of an adapter or a head, read as they are.
pub struct Saved {
    /// Where they lie.
    pub directory: PathBuf,
    /// Whose files they are.
    pub format: Format,
    /// The object in the file that says what the tensors are.
    pub card: Fields,
    /// The tensors.
    pub checkpoint: Checkpoint,
}

/// What [`Saved`] is called in a tensor's name, where two adapters are compared.
pub(super) const ANY: &str = "*";

impl Saved {
    /// The adapter of a directory. An error if there is none, or several.
    pub fn adapter(directory: &Path) -> Result<Saved> {
        let setup = directory.join(SETUP);
        if setup.exists() {
            let what =
                "it holds several adapters and how they are put together, not one; each is in a folder";
            return Err(Error::File { path: setup, what: what.into() });
        }
        let card = object(&directory.join(CONFIG))?;
        let format = Format::of(&card);
        let checkpoint = Checkpoint::open_first(directory, &format.readable())?;
        Ok(Saved { directory: directory.into(), format, card, checkpoint })
    }
    /// The head of a directory in AdapterHub's format, if there is one.
    pub fn head(directory: &Path) -> Result<Option<Saved>> {
        let path = directory.join(HEAD_CONFIG);
        if !path.exists() {
            return Ok(None);
        }
        let card = object(&path)?;
        let checkpoint = Checkpoint::open_first(directory, &HEAD_TENSORS)?;
        Ok(Some(Saved { directory: directory.into(), format: Format::AdapterHub, card, checkpoint }))
    }
    /// Its name; PEFT's files hold none.
    pub fn name(&self) -> Option<&str> {
        self.card.get("name")?.as_str()
    }
    fn text(&self, field: &str) -> Option<String> {
        self.card.get(field)?.as_str().map(String::from)
    }
    /// What kind of adapter it is, as its files call it.
    pub fn method(&self) -> String {
        let config = self.card.get("config");
        match (self.format, config) {
            (Format::Peft, _) => self.text("peft_type").unwrap_or_default(),
            (_, Some(Value::String(text))) => text.clone(),
            // bottlenecks have no such field
            (_, config) => config
                .and_then(|c| c.get("architecture"))
                .and_then(Value::as_str)
                .unwrap_or("bottleneck")
                .into(),
        }
    }
    /// Today's name of a tensor, cut at the dots, and where in it the adapter's name stands.
    fn parts(&self, tensor: &str) -> (Vec<String>, Vec<usize>) {
        let today = older::renamed(tensor).unwrap_or_else(|| tensor.into());
        let parts: Vec<String> = today.split('.').map(String::from).collect();
        let own = self.name().filter(|_| self.format == Format::AdapterHub);
        let at = (0..parts.len()).filter(|i| Some(parts[*i].as_str()) == own).collect();
        (parts, at)
    }
    /// A tensor's name without that of the adapter.
    pub(super) fn nameless(&self, tensor: &str) -> String {
        let (mut parts, at) = self.parts(tensor);
        if let Some(last) = at.last() {
            parts[*last] = ANY.into();
        }
        parts.join(".")
    }
    /// The layers that tensors stand in, as their names say: the first number in front of the
    /// adapter's name. None of what stands for the whole model.
    pub fn layers(&self) -> Vec<usize> {
        let layer = |tensor: &str| {
            let (parts, at) = self.parts(tensor);
            let end = at.last().copied().unwrap_or(parts.len());
            // the generator of all prefixes hangs in the first layer
            let is_shared = parts[..end].iter().any(|p| p == "prefix_tunings");
            parts[..end].iter().find_map(|p| p.parse().ok()).filter(|_| !is_shared)
        };
        let mut all: Vec<usize> = self.checkpoint.names().filter_map(layer).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
    /// Values of all tensors.
    pub fn parameters(&self) -> usize {
        let shapes = self.checkpoint.names().filter_map(|n| self.checkpoint.shape(n));
        shapes.map(|s| s.iter().product::<usize>()).sum()
    }
    /// The values of a tensor.
    pub(super) fn values(&self, tensor: &str) -> Result<(&[usize], Vec<f32>)> {
        let shape = self.checkpoint.shape(tensor).unwrap_or_default();
        Ok((shape, self.checkpoint.values(tensor, shape)?))
    }
    /// Its files under another name: the same values, in f32. An error if the files hold no name,
    /// or if a tensor's name does not say which part of it is the adapter's.
    fn renamed(&self, new: &str, files: [&str; 2]) -> Result<Vec<(String, Vec<u8>)>> {
        let (path, old) = (self.checkpoint.path(), self.name().unwrap_or_default());
        let mut tensors = vec![];
        for tensor in self.checkpoint.names() {
            let (mut parts, at) = self.parts(tensor);
            let [at] = at[..] else {
                let what = format!(
                    "`{tensor}` holds `{old}` {} times: which of them is the adapter's name only a model tells",
                    at.len()
                );
                return Err(Error::File { path: path.into(), what });
            };
            parts[at] = new.into();
            let (shape, values) = self.values(tensor)?;
            tensors.push((parts.join("."), TensorData::f32(&values, shape)));
        }
        let mut card = self.card.clone();
        card.insert("name".into(), new.into());
        let data = serialize_with(&tensors, self.checkpoint.note())?;
        Ok(vec![(files[0].into(), super::json(&card)?), (files[1].into(), data)])
    }
}

/// The files of an adapter and its head under another name. A head that is called as the adapter is
/// follows; another one stays what it is called. An error for PEFT's files, which hold no name, and
/// for several adapters in one directory, whose setup and fusions name each other.
pub fn renamed(directory: &Path, new: &str) -> Result<Vec<(String, Vec<u8>)>> {
    crate::adapter::check_name(new)?;
    let adapter = Saved::adapter(directory)?;
    let bad = |what: &str| Err(Error::File { path: directory.join(CONFIG), what: what.into() });
    if adapter.format == Format::Peft {
        return bad("PEFT's files hold no name: an adapter is called as whoever loads it says");
    }
    let Some(old) = adapter.name() else { return bad("no field `name`") };
    let mut files = adapter.renamed(new, [CONFIG, adapter.format.tensors()])?;
    if let Some(head) = Saved::head(directory)? {
        // heads of transformers' own models have no name in their tensors
        let is_named = head.name().is_some() && !head.card.get("config").is_none_or(Value::is_null);
        let name = if head.name() == Some(old) { new } else { head.name().unwrap_or_default() };
        files.extend(match is_named {
            true => head.renamed(name, [HEAD_CONFIG, HEAD_TENSORS[0]])?,
            false => {
                let all = head.checkpoint.names().map(|n| {
                    let (shape, values) = head.values(n)?;
                    Ok((n.to_string(), TensorData::f32(&values, shape)))
                });
                let data = serialize(&all.collect::<Result<Vec<_>>>()?)?;
                vec![(HEAD_CONFIG.into(), super::json(&head.card)?), (HEAD_TENSORS[0].into(), data)]
            }
        });
    }
    Ok(files)
}

/// What was found in a directory.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Found {
    /// Where.
    pub directory: PathBuf,
    /// `adapter`, `head`, or `composition`: several adapters and how they are put together.
    pub kind: &'static str,
    /// Its name, if its files hold one.
    pub name: Option<String>,
    /// What kind of adapter, as its files call it; how several are put together.
    pub method: String,
    /// Whose files they are.
    pub format: Option<&'static str>,
    /// Values of its tensors.
    pub parameters: usize,
    /// Bytes of its tensors.
    pub bytes: usize,
    /// The layers that its tensors stand in; none of what stands for the whole model.
    pub layers: Vec<usize>,
    /// Its head.
    pub head: Option<FoundHead>,
    /// The model that it is for.
    pub model: FoundModel,
    /// Why it cannot be read.
    pub error: Option<String>,
}
/// A head that was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FoundHead {
    /// Its name.
    pub name: Option<String>,
    /// What it is for.
    pub head_type: Option<String>,
    /// Names of its classes, by number.
    pub labels: Vec<String>,
    /// Values of its tensors.
    pub parameters: usize,
}
/// What files say of the model that they are for.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FoundModel {
    /// `model_type`.
    pub model_type: Option<String>,
    /// The name that was remembered.
    pub name: Option<String>,
    /// Channels.
    pub hidden_size: Option<u64>,
}

/// What is in a directory, if something is.
pub fn find(directory: &Path) -> Option<Found> {
    let has = |name: &str| directory.join(name).exists();
    let (kind, look): (_, fn(&Path) -> Result<Found>) = match () {
        () if has(SETUP) => ("composition", composition),
        () if has(CONFIG) => ("adapter", adapter),
        () if has(HEAD_CONFIG) => ("head", |dir| Ok(Found { head: head(dir)?, ..Found::default() })),
        () => return None,
    };
    let found = look(directory).unwrap_or_else(|e| Found { error: Some(e.to_string()), ..Found::default() });
    Some(Found { directory: directory.into(), kind, ..found })
}
fn composition(directory: &Path) -> Result<Found> {
    let path = directory.join(SETUP);
    let fields = object(&path)?;
    let bad = |what: String| Error::File { path: path.clone(), what };
    let setup = fields.get("adapter_setup").ok_or_else(|| bad("no field `adapter_setup`".into()))?;
    let setup = Setup::from_json(setup).map_err(|e| bad(e.to_string()))?;
    Ok(Found { method: setup.to_string(), ..Found::default() })
}
fn adapter(directory: &Path) -> Result<Found> {
    let saved = Saved::adapter(directory)?;
    let base = || saved.text("base_model_name_or_path");
    Ok(Found {
        name: saved.name().map(String::from),
        method: saved.method(),
        format: Some(saved.format.name()),
        parameters: saved.parameters(),
        bytes: saved.checkpoint.bytes(),
        layers: saved.layers(),
        head: head(directory)?,
        model: FoundModel {
            model_type: saved.text("model_type"),
            name: saved.text("model_name").or_else(base).filter(|n| !n.is_empty()),
            hidden_size: saved.card.get("hidden_size").and_then(Value::as_u64),
        },
        ..Found::default()
    })
}
fn head(directory: &Path) -> Result<Option<FoundHead>> {
    let Some(saved) = Saved::head(directory)? else { return Ok(None) };
    let config = saved.card.get("config");
    let ids = config.and_then(|c| c.get("label2id")).or_else(|| saved.card.get("label2id"));
    let named = ids.and_then(Value::as_object).into_iter().flatten();
    let mut labels: Vec<(u64, String)> =
        named.filter_map(|(name, id)| Some((id.as_u64()?, name.clone()))).collect();
    labels.sort();
    Ok(Some(FoundHead {
        name: saved.name().map(String::from),
        head_type: config.and_then(|c| c.get("head_type")).and_then(Value::as_str).map(String::from),
        labels: labels.into_iter().map(|(_, name)| name).collect(),
        parameters: saved.parameters(),
    }))
}
